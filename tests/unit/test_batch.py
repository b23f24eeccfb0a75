"""Raw Parquet becomes feature Parquet that Merlin reads: whole, in order, or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.batch import Transformed, scan, transform
from etl.compiler import to_polars
from etl.errors import ConfigError, DataError, MewsError, SchemaError
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.names import FINGERPRINT

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = {"value": ["a", "b", "c"], "count": [3, 2, 1]}


def encoded(name: str, is_list: bool = False) -> OpNode:
    tags = ("categorical", "user", "id") if name == "user" else ("categorical",)
    state = {name: pl.DataFrame(VOCABULARY)}
    column = Column(name, "int64", is_list, tags=tags)
    return OpNode(f"categorify_{name}", "Categorify", (Ref("input", name),), (column,), {}, state)


def shop_graph() -> FeatureGraph:
    moments = {"moments": pl.DataFrame({"column": ["price"], "count": [3], "mean": [2.0], "std": [0.5]})}
    tags = Column("tags", "int64", is_list=True, length=2, tags=("categorical", "list"))
    price = Column("price", "float32", tags=("continuous",))
    label = Column("label", "int64", tags=("binary_classification", "target"))
    cut = {"start": 0, "end": 2, "pad": True, "pad_value": 0}
    return FeatureGraph(
        (
            Column("user", "string"),
            Column("tags", "string", is_list=True),
            Column("price", "float64"),
            Column("label", "int64"),
        ),
        (
            encoded("user"),
            encoded("tags", is_list=True),
            OpNode("list_slice_1", "ListSlice", (Ref("categorify_tags", "tags"),), (tags,), cut),
            OpNode(
                "normalize_1", "Normalize", (Ref("input", "price"),), (price,), {"out_dtype": "float32"}, state=moments
            ),
            OpNode("add_metadata_1", "AddMetadata", (Ref("input", "label"),), (label,)),
        ),
        (
            Ref("categorify_user", "user"),
            Ref("list_slice_1", "tags"),
            Ref("normalize_1", "price"),
            Ref("add_metadata_1", "label"),
        ),
    )


def shop_rows(count: int) -> pl.DataFrame:
    random = np.random.default_rng(7)
    letters = np.array(["a", "b", "c", "unseen"])
    return pl.DataFrame(
        {
            "label": random.integers(0, 2, count),
            "user": letters[random.integers(0, 4, count)],
            "price": random.normal(2, 1, count),
            "tags": [list(letters[random.integers(0, 4, n)]) for n in random.integers(0, 4, count)],
            "time": pl.Series([datetime(2024, 1, 1)] * count, dtype=pl.Datetime("us")),
            "row": np.arange(count),
        },
        schema_overrides={"tags": pl.List(pl.String), "row": pl.Int64, "label": pl.Int64, "price": pl.Float64},
    )


def saved(rows: pl.DataFrame, folder: Path, name: str = "raw.parquet") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    rows.write_parquet(folder / name, row_group_size=100)
    return folder / name


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "features"


def left_behind(out: Path) -> list[str]:
    return [path.name for path in out.parent.rglob("*")] if out.parent.exists() else []


def test_parts_have_the_rows_in_order_and_the_fingerprint(tmp_path: Path, out: Path) -> None:
    graph, rows = shop_graph(), shop_rows(1_000)
    paths = [saved(rows[:130], tmp_path, "b.parquet"), saved(rows[130:], tmp_path, "a.parquet")]
    done = transform(graph, paths, out, rows_per_file=300, keep=("row",))
    assert isinstance(done, Transformed)
    assert done.rows == 1_000
    assert [path.name for path in done.files] == [f"part_{number:05d}.parquet" for number in range(4)]
    assert [pl.read_parquet(path).height for path in done.files] == [300, 300, 300, 100]
    assert all(pl.read_parquet_metadata(path)[FINGERPRINT] == graph.fingerprint for path in done.files)
    written = pl.concat([pl.read_parquet(path) for path in done.files])
    assert written["raw_row"].to_list() == list(range(1_000))
    expected = to_polars(graph).apply(rows.lazy()).collect()
    assert written.drop("raw_row").equals(expected)


def test_the_order_of_the_columns_in_the_file_does_not_matter(tmp_path: Path, out: Path) -> None:
    rows = shop_rows(10)
    transform(shop_graph(), [saved(rows, tmp_path)], out)
    transform(shop_graph(), [saved(rows.select(sorted(rows.columns)), tmp_path)], out.with_name("other"))
    assert pl.read_parquet(out / "*.parquet").equals(pl.read_parquet(out.with_name("other") / "*.parquet"))


def test_kept_columns_are_the_raw_values_under_a_new_name(tmp_path: Path, out: Path) -> None:
    rows = shop_rows(50).with_columns(price=pl.when(pl.col("row") > 3).then(pl.col("price")))
    transform(shop_graph(), [saved(rows, tmp_path)], out, keep=("user", "label", "time", "price"))
    kept = pl.read_parquet(out / "*.parquet").select(pl.selectors.starts_with("raw_"))
    assert kept.equals(rows.select(raw_user="user", raw_label="label", raw_time="time", raw_price="price"))
    with pytest.raises(SchemaError, match=r"columns to keep: weight; expected some of: label, user"):
        transform(shop_graph(), [saved(rows, tmp_path)], out, keep=("weight",))


def test_progress_is_in_rows(tmp_path: Path, out: Path) -> None:
    seen: list[tuple[str, int, int | None, str]] = []
    transform(shop_graph(), [saved(shop_rows(250), tmp_path)], out, 100, progress=lambda *told: seen.append(told))
    assert seen == [("transform", done, 250, "rows") for done in (0, 100, 200, 250)]


def test_no_rows_make_one_empty_part(tmp_path: Path, out: Path) -> None:
    done = transform(shop_graph(), [saved(shop_rows(0), tmp_path)], out, keep=("time",))
    assert (done.rows, [path.name for path in done.files]) == (0, ["part_00000.parquet"])
    part = pl.read_parquet(done.files[0])
    assert part.height == 0
    assert dict(part.schema) == {
        "user": pl.Int64(),
        "tags": pl.List(pl.Int64),
        "price": pl.Float32(),
        "label": pl.Int64(),
        "raw_time": pl.Datetime("us"),
    }


def test_a_column_of_nothing_but_nulls_takes_the_declared_type(tmp_path: Path, out: Path) -> None:
    nothing = shop_rows(3).with_columns(user=None, tags=None, price=None)
    transform(shop_graph(), [saved(nothing, tmp_path)], out)
    written = pl.read_parquet(out / "*.parquet")
    assert written["user"].to_list() == [1, 1, 1]
    assert written["tags"].to_list() == [[0, 0]] * 3


def test_every_missing_or_mistyped_column_is_listed(tmp_path: Path, out: Path) -> None:
    path = saved(shop_rows(3).drop("user").with_columns(pl.col("price").cast(pl.String), tags=pl.lit(1)), tmp_path)
    with pytest.raises(SchemaError) as caught:
        transform(shop_graph(), [path], out)
    assert "raw.parquet: 'user' is missing (expected string)" in str(caught.value)
    assert "'price' is string (expected float64)" in str(caught.value)
    assert "'tags' is int32 (expected list of string)" in str(caught.value)
    assert not left_behind(out)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "garbled"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path, out: Path) -> None:
    good, bad = saved(shop_rows(500), tmp_path), saved(shop_rows(500), tmp_path, "bad.parquet")
    whole = bad.read_bytes()
    if damage == "missing":
        bad.unlink()
    elif damage == "garbled":
        bad.write_bytes(whole[:50] + b"\xff" * 2_000 + whole[2_050:])
    else:
        bad.write_bytes({"empty": b"", "text": b"user,tags\n", "truncated": whole[: len(whole) // 2]}[damage])
    with pytest.raises(DataError, match=r"bad\.parquet cannot be read"):
        transform(shop_graph(), [good, bad], out)
    assert not left_behind(out)


def test_no_files_and_unfitted_graphs_are_refused(tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match="at least one Parquet file"):
        transform(shop_graph(), [], out)
    unfitted = FeatureGraph(
        (Column("user", "string"),),
        (OpNode("c", "Categorify", (Ref("input", "user"),), (Column("user", "int64"),)),),
        (Ref("c", "user"),),
    )
    with pytest.raises(ConfigError, match="expected a fitted graph"):
        transform(unfitted, [saved(shop_rows(3), tmp_path)], out)


def test_a_failed_run_leaves_the_last_good_folder(tmp_path: Path, out: Path) -> None:
    path = saved(shop_rows(500), tmp_path)
    transform(shop_graph(), [path], out)
    before = {file.name: file.read_bytes() for file in out.glob("*.parquet")}

    def interrupt(what: str, done: int, total: int | None, unit: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transform(shop_graph(), [path], out, rows_per_file=100, progress=interrupt)
    assert {file.name: file.read_bytes() for file in out.glob("*.parquet")} == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def _transform_with_a_file_size_limit(path: Path, out: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
    try:
        transform(shop_graph(), [path], out)
    except MewsError as error:
        print(type(error).__name__, error)


def test_a_full_disk_is_said_with_the_path_and_nothing_is_left(tmp_path: Path, out: Path) -> None:
    path = saved(shop_rows(5_000), tmp_path)
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), str(path), str(out)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.startswith(f"MewsError {out} cannot be written; received"), done.stdout + done.stderr
    assert not left_behind(out)


def test_scan_takes_other_units_of_time_and_categoricals(tmp_path: Path) -> None:
    rows = shop_rows(5).with_columns(pl.col("time").dt.cast_time_unit("ns"), pl.col("user").cast(pl.Categorical))
    found = scan([Column("time", "datetime"), Column("user", "string")], [saved(rows, tmp_path)]).collect()
    assert dict(found.schema) == {"time": pl.Datetime("us"), "user": pl.String()}
    assert found["time"].to_list() == [datetime(2024, 1, 1)] * 5


def test_merlins_dataloader_reads_the_folder(tmp_path: Path, out: Path) -> None:
    from etl.reader import door

    door.nvtabular()
    import merlin.io
    from merlin.schema import Tags

    transform(shop_graph(), [saved(shop_rows(700), tmp_path)], out, rows_per_file=300, keep=("user", "time"))
    with door.quiet():
        dataset = merlin.io.Dataset(str(out), engine="parquet")
    assert dataset.schema.column_names == ["user", "tags", "price", "label"]
    assert dataset.schema.select_by_tag(Tags.USER_ID).column_names == ["user"]
    assert (dataset.schema["tags"].is_list, dataset.schema["tags"].is_ragged) == (True, False)
    batches = [(features, label) for features, label in tensors_of(dataset)]
    written = pl.read_parquet(out / "*.parquet")
    for name in ("user", "tags", "price"):
        loaded = np.concatenate([features[name].numpy() for features, _ in batches])
        np.testing.assert_array_equal(
            loaded.reshape(700, -1).squeeze(), np.array(written[name].to_list(), loaded.dtype)
        )
    np.testing.assert_array_equal(np.concatenate([y.numpy() for _, y in batches]).ravel(), written["label"])


def tensors_of(dataset: Any) -> Any:
    from merlin.dataloader.tensorflow import Loader

    return Loader(dataset, batch_size=256, shuffle=False)


if __name__ == "__main__":
    _transform_with_a_file_size_limit(Path(sys.argv[1]), Path(sys.argv[2]))
