import json

import numpy as np
import polars as pl
import pytest

from etl.config import SplitConfig, ValidationConfig
from etl.errors import ConfigError, DataError
from etl.sources import quantiles
from etl.sources.dataset import DataColumn, Dataset
from etl.sources.duplicates import Fingerprints
from etl.sources.parts import PartWriter
from etl.sources.profile import cold_start, describe
from etl.sources.quantiles import boundary
from etl.sources.split import Splits, split
from etl.sources.validate import check_splits

COLUMNS = (
    DataColumn("user", "int64", role="user"),
    DataColumn("item", "int64", role="item"),
    DataColumn("time", "int64", role="timestamp"),
    DataColumn("y", "int8", role="label"),
)


def dataset(folder, frame: pl.DataFrame, columns=COLUMNS, rows_per_part=1000, **facts) -> Dataset:
    writer = PartWriter(folder, rows_per_part)
    writer.write(frame)
    made = Dataset("test", columns, writer.close(), frame.height, facts)
    made.save(folder)
    return made


def events(rows: int, users: int = 50, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": rng.integers(0, users, rows),
            "item": rng.integers(0, 30, rows),
            "time": rng.integers(0, rows // 3, rows),
            "y": (rng.random(rows) < 0.3).astype(np.int8),
        }
    )


def rows_of(splits: Splits) -> dict[str, pl.DataFrame]:
    return {name: part.scan().collect() for name, part in splits.parts.items()}


def test_by_time_equal_timestamps_stay_together_and_order_is_kept(tmp_path):
    frame = events(5000).sort("time")
    parts = rows_of(split(dataset(tmp_path / "d", frame), SplitConfig(valid=0.1, test=0.2), tmp_path / "s", 1))
    assert parts["train"]["time"].max() < parts["valid"]["time"].min()
    assert parts["valid"]["time"].max() < parts["test"]["time"].min()
    assert pl.concat(parts.values()).equals(frame)
    assert [part.height / 5000 for part in parts.values()] == pytest.approx([0.7, 0.1, 0.2], abs=0.005)


def test_by_time_of_rows_that_are_not_in_order(tmp_path):
    frame = events(5000)
    splits = split(dataset(tmp_path / "d", frame), SplitConfig(), tmp_path / "s", 1)
    parts = rows_of(splits)
    assert parts["train"].equals(frame.filter(pl.col("time") < splits.boundaries["valid"]))
    assert parts["test"].equals(frame.filter(pl.col("time") >= splits.boundaries["test"]))
    assert parts["valid"]["time"].min() == splits.boundaries["valid"]


@pytest.mark.parametrize("bins", [1 << 16, 16])
def test_boundaries_are_exact_quantiles(tmp_path, bins, monkeypatch):
    monkeypatch.setattr(quantiles, "BINS", bins)
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.integers(-(10**15), 10**15, 900), np.full(100, 7)])
    files = dataset(tmp_path / "d", pl.DataFrame({"time": values}), (COLUMNS[2],), 128).files
    for share in (0.1, 0.5, 0.501, 0.9):
        found = boundary(files, "time", share)
        assert found in values
        assert (values < found).sum() >= share * 1000
        previous = values[values < found].max()
        assert (values < previous).sum() < share * 1000


def test_last_per_user(tmp_path):
    frame = events(3000, users=200)
    few = pl.DataFrame({"user": [999, 999], "item": [1, 2], "time": [1, 2], "y": [0, 1]}, schema=frame.schema)
    frame = pl.concat([frame, few]).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    columns = (*COLUMNS, DataColumn("row", "int64"))
    parts = rows_of(split(dataset(tmp_path / "d", frame, columns), SplitConfig(by="last-per-user"), tmp_path / "s", 1))
    ordered = frame.sort("time", "row").filter(pl.len().over("user") >= 3)
    last = ordered.group_by("user").agg(
        pl.col("row").last().alias("test"), pl.col("row").slice(-2, 1).first().alias("valid")
    )
    assert sorted(parts["test"]["row"]) == sorted(last["test"])
    assert sorted(parts["valid"]["row"]) == sorted(last["valid"])
    assert 999 in parts["train"]["user"]
    assert parts["train"]["row"].is_sorted()


def test_random_depends_on_the_seed_and_not_on_the_files(tmp_path):
    frame = events(5000)
    config = SplitConfig(by="random", test=0.2)
    first = rows_of(split(dataset(tmp_path / "a", frame), config, tmp_path / "sa", 1))
    again = rows_of(split(dataset(tmp_path / "b", frame, rows_per_part=77), config, tmp_path / "sb", 1))
    other = rows_of(split(dataset(tmp_path / "a", frame), config, tmp_path / "sc", 2))
    assert all(first[name].equals(again[name]) for name in first)
    assert not first["test"].equals(other["test"])
    assert first["test"].height / 5000 == pytest.approx(0.2, abs=0.03)


def test_a_split_can_be_loaded_again(tmp_path):
    made = split(dataset(tmp_path / "d", events(300)), SplitConfig(), tmp_path / "s", 1)
    loaded = Splits.load(tmp_path / "s")
    assert loaded == made
    assert json.loads((tmp_path / "s" / "split.json").read_text()) == made.to_json()


def test_splits_that_cannot_be_made_say_what_to_do(tmp_path):
    frame = events(300)
    untimed = (*COLUMNS[:2], DataColumn("time", "int64", role="ignore"), COLUMNS[3])
    with pytest.raises(ConfigError, match="by: random"):
        split(dataset(tmp_path / "a", frame, untimed), SplitConfig(), tmp_path / "s", 1)
    with pytest.raises(ConfigError, match="role user"):
        split(dataset(tmp_path / "a", frame, COLUMNS[1:]), SplitConfig(by="last-per-user"), tmp_path / "s", 1)
    with pytest.raises(ConfigError, match="less than 1"):
        split(dataset(tmp_path / "a", frame), SplitConfig(valid=0.5, test=0.5), tmp_path / "s", 1)
    with pytest.raises(DataError, match="one timestamp"):
        split(dataset(tmp_path / "b", frame.with_columns(time=pl.lit(5))), SplitConfig(), tmp_path / "s", 1)
    assert not (tmp_path / "s").exists()
    stated = dataset(tmp_path / "c", frame, untimed, split="random")
    assert split(stated, SplitConfig(), tmp_path / "s", 1).by == "random"


def test_rows_that_are_in_train_and_test_are_leakage(tmp_path):
    frame = pl.concat([events(500), events(500)])
    splits = split(dataset(tmp_path / "d", frame), SplitConfig(by="random"), tmp_path / "s", 1)
    checks = {(c.name, c.status) for c in check_splits(splits, ValidationConfig())}
    assert ("leakage", "FAIL") in checks
    assert ("time overlap", "WARN") in checks
    keyless = tuple(DataColumn(c.name, c.dtype, role="categorical" if c.role != "label" else "label") for c in COLUMNS)
    splits = split(dataset(tmp_path / "e", frame, keyless), SplitConfig(by="random"), tmp_path / "s", 1)
    assert {c.status for c in check_splits(splits, ValidationConfig()) if c.name == "leakage"} == {"WARN"}


def test_a_split_with_one_class_fails(tmp_path):
    frame = (
        events(500)
        .sort("time")
        .with_columns(y=pl.when(pl.int_range(pl.len()) > 400).then(0).otherwise("y").cast(pl.Int8))
    )
    splits = split(dataset(tmp_path / "d", frame), SplitConfig(), tmp_path / "s", 1)
    assert "test label classes" in {c.name for c in check_splits(splits, ValidationConfig()) if c.status == "FAIL"}


def test_repeats_are_estimated_when_there_are_too_many_rows_to_hold(monkeypatch):
    monkeypatch.setattr("etl.sources.duplicates.KEPT", 1000)
    marks = Fingerprints(["a"], 40_000)
    marks.add(pl.DataFrame({"a": np.arange(40_000) % 30_000}))
    assert len(marks.hashes) < 2000
    assert marks.repeated_share() == pytest.approx(0.25, abs=0.06)


def test_the_profile_is_json_and_right(shop):
    profile = describe(shop)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
    rows = shop.scan().collect()
    by_name = {column["name"]: column for column in profile["columns"]}
    assert by_name["price"]["nulls"] == rows["price"].null_count()
    assert by_name["price"]["mean"] == pytest.approx(rows["price"].mean())
    assert by_name["price"]["quantiles"]["0.5"] == pytest.approx(rows["price"].median())
    assert sum(by_name["price"]["histogram"]["counts"]) == rows["price"].count()
    assert by_name["country"]["distinct"] == rows["country"].drop_nulls().n_unique()
    top = rows["country"].drop_nulls().value_counts(sort=True).row(0)
    assert (by_name["country"]["top"][0]["value"], by_name["country"]["top"][0]["count"]) == top
    assert by_name["tags"]["lengths"]["max"] == rows["tags"].list.len().max()
    assert by_name["timestamp"]["min"].startswith("2024-01-01")
    assert profile["label"]["rate"] == pytest.approx(rows["clicked"].mean())
    assert len(profile["label"]["by_day"]) == 56
    assert sum(day["rows"] for day in profile["label"]["by_day"]) == rows.height


def test_cold_start_counts_rows_with_ids_that_train_does_not_have(shop, tmp_path):
    splits = split(shop, SplitConfig(), tmp_path / "s", 1)
    known = splits.train.scan().collect()["item_id"].unique()
    test = splits.test.scan().collect()
    expected = (~test["item_id"].is_in(known.implode())).mean()
    assert cold_start(splits)["item"]["test"] == pytest.approx(expected)
    assert expected > 0
