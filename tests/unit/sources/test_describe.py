"""The exploration of a table against what NumPy, SciPy and the data's own making say."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import mutual_info_score, roc_auc_score

from etl.errors import ConfigError, DataError, SchemaError
from etl.sources.explore import Table, explore, facts, measures, open_table, sample

ROWS = 4_000


def made(seed: int = 0, shift: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(shift, 1, ROWS)
    return pl.DataFrame(
        {
            "x": x,
            "group": pl.Series(random.choice(["a", "b", "c", "d"], ROWS, p=[0.4, 0.3, 0.2, 0.1])),
            "count": random.poisson(3, ROWS),
            "when": [datetime(2024, 1, 1) + timedelta(hours=int(hour)) for hour in random.integers(0, 2000, ROWS)],
            "tags": [["t"] * int(many) for many in random.integers(0, 4, ROWS)],
            "y": (random.random(ROWS) < 1 / (1 + np.exp(-x))).astype(np.int64),
        }
    )


def table(folder: Path, frame: pl.DataFrame, name: str = "data.parquet") -> Table:
    frame.write_parquet(folder / name)
    return open_table([folder / name], folder / "spool")


def by_name(described: dict[str, Any]) -> dict[str, Any]:
    return {column["name"]: column for column in described["columns"]}


def kinds(described: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["column"], one["kind"]) for one in described["warnings"]}


def rounded(value: Any) -> Any:
    """Sums of floats depend on how the rows are divided, in their last digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_the_facts_are_those_of_numpy(tmp_path: Path) -> None:
    frame = made().with_columns(pl.when(pl.int_range(pl.len()) % 10 > 0).then("x").alias("x"))
    found = by_name(explore(table(tmp_path, frame)))
    x = frame["x"].drop_nulls().to_numpy()
    assert found["x"]["nulls"] == ROWS / 10
    assert [found["x"][key] for key in ("min", "mean", "max", "std")] == pytest.approx(
        [x.min(), x.mean(), x.max(), x.std(ddof=1)]
    )
    assert found["x"]["quantiles"]["0.95"] == pytest.approx(np.quantile(x, 0.95))
    assert found["x"]["distinct"] == len(x)
    histogram = found["x"]["histogram"]
    assert histogram["counts"] == np.histogram(x, bins=histogram["edges"])[0].tolist()
    assert found["when"]["min"] == str(frame["when"].min())
    top = frame["group"].value_counts(sort=True).row(0)
    assert (found["group"]["top"][0]["value"], found["group"]["top"][0]["count"]) == top
    assert found["tags"]["lengths"]["mean"] == pytest.approx(frame["tags"].list.len().mean())
    assert (found["tags"]["distinct"], found["tags"]["top"][0]["share"]) == (1, 1.0)


def test_a_histogram_of_long_tails_shows_the_middle_and_counts_the_rest(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [*range(1000), -(10**9), 10**9]})
    histogram = by_name(explore(table(tmp_path, frame)))["x"]["histogram"]
    assert histogram["edges"][-1] < 1100
    assert sum(histogram["counts"]) + histogram["below"] + histogram["above"] == 1002
    assert histogram["above"] >= 1


def test_the_measures_are_those_of_scipy_and_sklearn(tmp_path: Path) -> None:
    frame = made()
    found = by_name(explore(table(tmp_path, frame), "y"))
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    of_x = found["x"]["association"]["measures"]
    assert of_x["auc"] == pytest.approx(roc_auc_score(y, x))
    assert of_x["pearson"] == pytest.approx(stats.pearsonr(x, y)[0])
    assert of_x["spearman"] == pytest.approx(stats.spearmanr(x, y)[0])
    codes = frame["group"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    counts = measures.contingency(codes, y)
    bits, _ = measures.mutual_information(counts)
    plain = mutual_info_score(codes, y) / np.log(2)
    assert bits == pytest.approx(max(0.0, plain - 3 / (2 * ROWS * np.log(2))), abs=1e-12)
    assert measures.cramers_v(np.eye(3) * 50) == pytest.approx(1.0)
    other = np.random.default_rng(3).normal(0.2, 1, 900)
    assert measures.kolmogorov_smirnov(x, other) == pytest.approx(stats.ks_2samp(x, other).statistic)
    low, high = measures.wilson(30, 100)
    wanted = stats.binomtest(30, 100).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_label_rates_are_of_all_rows(tmp_path: Path) -> None:
    frame = made().with_columns(town=(pl.int_range(pl.len()) % 37).cast(pl.String))
    found = by_name(explore(table(tmp_path, frame), "y"))
    rates = {one["value"]: one for one in found["group"]["association"]["rates"]}
    wanted = {group: part["y"].mean() for (group,), part in frame.partition_by("group", as_dict=True).items()}
    assert {value: one["rate"] for value, one in rates.items()} == pytest.approx(wanted)
    for name in ("x", "count", "when", "tags", "town"):
        assert sum(one["rows"] for one in found[name]["association"]["rates"]) == ROWS
    parts = found["x"]["association"]["rates"]
    assert len(parts) == 10
    assert parts[0]["rate"] < parts[-1]["rate"]


@pytest.mark.parametrize("label", ["y", "x", "group"])
def test_an_id_tells_nothing_of_any_label(tmp_path: Path, label: str) -> None:
    frame = made().with_columns(id=pl.int_range(pl.len()).cast(pl.String))
    described = explore(table(tmp_path, frame), label)
    assert ("id", "id-like") in kinds(described)
    assert ("id", "leaked label?") not in kinds(described)
    if label != "group":
        assert by_name(described)["id"]["association"]["strength"] < 0.1


def test_what_is_worth_a_look(tmp_path: Path) -> None:
    frame = made()
    hidden = pl.when(pl.col("y") == 1).then(None).otherwise(pl.lit("seen"))
    frame = frame.with_columns(
        leak=pl.col("y") * 2.0 + pl.col("x").rank() / ROWS,
        leaked_name=pl.when(pl.col("y") == 1).then(pl.lit("won")).otherwise(pl.lit("lost")),
        hidden=pl.when(pl.col("x") > -5).then(hidden),
        one=pl.lit(7),
        nothing=pl.lit(None, dtype=pl.String),
        broken=pl.when(pl.col("x") > 1).then(float("nan")).otherwise("x"),
    )
    found = kinds(explore(table(tmp_path, frame), "y"))
    assert {
        ("leak", "leaked label?"),
        ("leaked_name", "leaked label?"),
        ("hidden", "missingness tells"),
        ("one", "constant"),
        ("nothing", "all null"),
        ("broken", "not finite"),
    } <= found
    assert not {name for name, _ in found} & {"x", "group", "count", "when", "tags"}


def test_drift_is_found_where_it_is(tmp_path: Path) -> None:
    old = table(tmp_path, made(1), "old.parquet")
    new = made(2).with_columns(
        x=pl.col("x") + 1,
        group=pl.when(pl.col("group") == "d").then(pl.lit("new")).otherwise("group"),
        count=pl.col("count").cast(pl.String),
    )
    described = explore(table(tmp_path, new.drop("tags").with_columns(more=1), "new.parquet"), None, old)
    found = by_name(described)
    assert found["x"]["drift"]["band"] == "large"
    assert found["x"]["drift"]["ks"] == pytest.approx(stats.ks_2samp(new["x"], made(1)["x"]).statistic)
    assert found["when"]["drift"]["band"] == "stable"
    assert found["group"]["drift"]["new_share"] == pytest.approx((new["group"] == "new").mean())
    assert "drift" not in found["count"], "a type of another kind is not compared"
    assert {("tags", "column gone"), ("more", "column added"), ("count", "type changed")} <= kinds(described)
    assert ("group", "unseen values") in kinds(described)
    assert described["reference"]["missing"] == ["tags"]


def test_a_constant_in_the_reference_that_moved_is_a_large_shift(tmp_path: Path) -> None:
    old = table(tmp_path, pl.DataFrame({"x": [5.0] * 100}), "old.parquet")
    for value, band in ((5.0, "stable"), (4.0, "large"), (6.0, "large")):
        new = table(tmp_path, pl.DataFrame({"x": [value] * 100}), "new.parquet")
        assert by_name(explore(new, None, old))["x"]["drift"]["band"] == band


def test_the_stability_index_is_its_formula() -> None:
    p, q = np.array([50.0, 30, 20]), np.array([20.0, 30, 50])
    shares = (p / 100, q / 100)
    wanted = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    assert measures.stability_index(p, q) == pytest.approx(wanted)
    assert np.isfinite(measures.stability_index(np.array([100.0, 0]), np.array([0.0, 100])))


def test_the_sample_is_spread_evenly_and_always_the_same() -> None:
    frame = pl.LazyFrame({"row": np.arange(100_000)})
    first, again = (sample.sampled(frame, 100_000, 5_000).collect()["row"] for _ in range(2))
    assert first.equals(again)
    assert len(first) == pytest.approx(5_000, abs=3)
    assert np.histogram(first, bins=10)[0] == pytest.approx(500, abs=3)
    for rhythm in (2, 7, 24, 60):
        counts = np.bincount(first.to_numpy() % rhythm)
        assert counts.min() > 0.8 * counts.max(), f"every {rhythm}th row"


@pytest.mark.parametrize("many", [10, 3_000, 60_000, 400_000])
def test_many_values_are_estimated_within_the_stated_error(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(sample, "EXACT_ROWS", 0)
    values = pl.LazyFrame({"v": np.arange(many) * 7919}).select(pl.col("v").cast(pl.String))
    found, error = sample.distinct(values, many)
    assert error == pytest.approx(0.0081, abs=1e-4)
    assert found == pytest.approx(many, rel=4 * error)


def test_the_commonest_of_many_values_are_counted_in_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "COUNTED", 100)
    frame = pl.DataFrame({"key": [*["often"] * 300, *["seldom"] * 200, *map(str, range(3000))]})
    top = by_name(explore(table(tmp_path, frame)))["key"]["top"]
    assert [(one["value"], one["count"]) for one in top[:2]] == [("often", 300), ("seldom", 200)]


def test_every_format_gives_the_same_description(tmp_path: Path) -> None:
    frame = made().drop("tags")
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ipc(tmp_path / "a.arrow")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_csv(tmp_path / "semicolons.csv", separator=";")
    (tmp_path / "packed.data.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    parts = tmp_path / "parts" / "inside"
    parts.mkdir(parents=True)
    (parts / "_SUCCESS").touch()
    for part in range(4):
        frame.slice(part * 1000, 1000).write_parquet(parts / f"{part}.parquet")
    names = ("a.parquet", "a.arrow", "a.csv", "semicolons.csv", "packed.data.gz", "parts")
    found = [explore(open_table([tmp_path / name], tmp_path / f"spool {name}"), "y") for name in names]
    told = [rounded([one["columns"], one["warnings"], one["label"]]) for one in found]
    assert found[-1]["files"] == 4
    assert all(one == told[0] for one in told)


def test_cells_of_a_csv_that_are_of_another_type_are_counted(tmp_path: Path) -> None:
    lines = ["number,code,when", *(f"{i},00{i},2024-01-{i % 28 + 1:02d}" for i in range(98)), "n/a,1,never", "7,2,,9"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    described = explore(open_table([tmp_path / "a.csv"], tmp_path / "spool"))
    found = by_name(described)
    assert [found[name]["dtype"] for name in ("number", "code", "when")] == ["int64", "string", "datetime"]
    assert found["number"]["nulls"] == 1
    details = {one["column"]: one["detail"] for one in described["warnings"] if one["kind"] == "unparsed"}
    assert "1 cells are no int64, such as 'n/a'" in details["number"]
    assert "'never'" in details["when"]
    assert ("", "long lines") in kinds(described)


def test_types_that_have_no_numbers_are_reported_as_they_are(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": [{"a": 1}] * 3, "b": [b"x", None, b"y"], "n": [None] * 3, "c": ["p", "q", "p"]})
    frame = frame.with_columns(
        pl.col("c").cast(pl.Categorical), t=pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 1, 3))
    )
    found = by_name(explore(table(tmp_path, frame)))
    assert {name: one["kind"] for name, one in found.items()} == {
        "s": "other", "b": "other", "n": "null", "c": "category", "t": "moment",
    }  # fmt: skip
    assert found["b"]["nulls"] == 1
    assert found["c"]["distinct"] == 2


@pytest.mark.parametrize(
    ("values", "kind", "told"),
    [
        ([0, 1, 1, None], "binary", {"positive": 1, "rate": 2 / 3, "nulls": 1}),
        (["no", "yes", "no", "no"], "binary", {"positive": "yes", "rate": 0.25}),
        ([True, False, True, True], "binary", {"positive": True, "rate": 0.75}),
        ([1.5, 2.5, 3.5, float("nan")], "numeric", {"mean": 2.5, "nulls": 1}),
        (["a", "b", "c", "a"], "classes", {}),
        ([1, 1, 1, None], "constant", {}),
    ],
)
def test_the_kind_of_a_label_is_seen_from_its_values(
    tmp_path: Path, values: list[Any], kind: str, told: dict[str, Any]
) -> None:
    frame = pl.DataFrame({"y": values, "x": [1.0, 2.0, 3.0, 4.0]})
    described = explore(table(tmp_path, frame), "y")
    assert described["label"]["kind"] == kind
    assert {key: described["label"][key] for key in told} == pytest.approx(told)
    assert (kind == "constant") == (("y", "constant label") in kinds(described))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    def opened(*names: str) -> Table:
        return open_table([tmp_path / name for name in names], tmp_path / "spool")

    frame = made()
    frame.write_parquet(tmp_path / "a.parquet")
    frame.clear().write_parquet(tmp_path / "none.parquet")
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "zero.csv").touch()
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (tmp_path / "prose.txt").write_text("It was a dark night.\nRain fell.\n")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:500])
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 10_000)[:40])
    (tmp_path / "ok.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    for name in ("gone.csv", "none.parquet", "header.csv", "zero.csv", "picture.csv", "prose.txt", "cut.parquet",
                 "cut.csv.gz", "folder"):  # fmt: skip
        with pytest.raises(DataError, match=name):
            opened(name)
    with pytest.raises(DataError, match="one format"):
        opened("a.parquet", "ok.csv")


def test_files_whose_columns_differ_are_refused_with_the_difference(tmp_path: Path) -> None:
    made().write_parquet(tmp_path / "0.parquet")
    made().with_columns(pl.col("count").cast(pl.Int32)).drop("x").write_parquet(tmp_path / "1.parquet")
    with pytest.raises(SchemaError, match=r"1.parquet: column 'count' is int32, not int64; .*'x' is absent"):
        open_table([tmp_path], tmp_path / "spool")


def test_labels_that_cannot_be_are_refused(tmp_path: Path) -> None:
    opened = table(tmp_path, made().with_columns(id=pl.int_range(pl.len()).cast(pl.String)))
    with pytest.raises(SchemaError, match="Did you mean 'group'"):
        explore(opened, "groups")
    with pytest.raises(ConfigError, match="at most 50 classes"):
        explore(opened, "id")
    with pytest.raises(ConfigError, match="received list of string values"):
        explore(opened, "tags")
