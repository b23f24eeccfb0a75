"""How features are written: shuffled, partitioned, in bounded parts; and operators that change rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from etl.batch import Layout, transform
from etl.errors import ConfigError, DataError
from etl.fit import fit
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.reader import door, read
from etl.shuffle import mixed

ROOT = Path(__file__).resolve().parents[2]
LOG = OpNode("log", "LogOp", (Ref("input", "x"),), (Column("x", "float32"),))
GRAPH = FeatureGraph((Column("x", "float32"),), (LOG,), (Ref("log", "x"),))
ROWS = pl.DataFrame({"x": np.arange(1_000, dtype=np.float32), "k": [None, "a/b", "c"] * 333 + ["c"]})


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    ROWS.write_parquet(tmp_path / "raw.parquet")
    return tmp_path / "raw.parquet"


def order(files: tuple[Path, ...]) -> list[float]:
    return pl.concat([pl.read_parquet(file) for file in files])["raw_x"].to_list()


def test_a_shuffle_depends_on_the_seed_only(raw: Path, tmp_path: Path) -> None:
    found = [
        order(transform(GRAPH, raw, tmp_path / str(seed), rows, ["x"], shuffle=seed).files)
        for seed, rows in ((3, 1_000), (3, 70), (4, 70))
    ]
    assert sorted(found[0]) == ROWS["x"].to_list()
    assert found[0] == found[1]
    assert found[0] not in (found[2], ROWS["x"].to_list())
    assert abs(np.corrcoef(found[0], np.arange(1_000))[0, 1]) < 0.1
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_no_two_rows_have_the_same_place_and_parts_continue() -> None:
    places = mixed(7, 0, 100_000)
    assert len(np.unique(places)) == 100_000
    np.testing.assert_array_equal(mixed(7, 500, 10), places[500:510])


def test_partitions_are_folders_that_polars_reads_back(raw: Path, tmp_path: Path) -> None:
    layout = Layout(partition_by=("raw_k",), compression="snappy")
    done = transform(GRAPH, raw, tmp_path / "out", 600, ["k", "x"], layout=layout)
    assert len(done.files) == 6
    assert all(path.is_file() for path in done.files)
    found = pl.read_parquet(tmp_path / "out" / "**" / "*.parquet", hive_partitioning=True).sort("raw_x")
    assert found["raw_k"].to_list() == ROWS["k"].to_list()
    with pytest.raises(ConfigError, match="partition_by 'k'"):
        transform(GRAPH, raw, tmp_path / "out", layout=Layout(partition_by=("k",)))


def test_a_memory_limit_makes_smaller_parts_or_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="memory limit; expected at least"):
        transform(GRAPH, raw, tmp_path / "out", memory_limit=1 << 20)
    assert not (tmp_path / "out").exists()
    transform(GRAPH, raw, tmp_path / "out", memory_limit=64 << 30)
    assert pl.read_parquet(tmp_path / "out" / "*.parquet").height == 1_000


def test_a_graph_that_looks_at_other_rows_gives_the_same_for_any_part(tmp_path: Path) -> None:
    rows = pl.DataFrame({"g": np.arange(1_000) // 3, "x": np.arange(1_000, dtype=np.float64) ** 2})
    rows.write_parquet(tmp_path / "raw.parquet")
    lagged, params = "x_difference_lag_1", {"partition_cols": ["g"], "shift": [1]}
    inputs = (Ref("input", "x"), Ref("input", "g"))
    lag = OpNode("lag", "DifferenceLag", inputs, (Column(lagged, "float32"),), params)
    graph = FeatureGraph((Column("g", "int64"), Column("x", "float64")), (lag,), (Ref("lag", lagged),))
    done = [transform(graph, tmp_path / "raw.parquet", tmp_path / str(rows), rows, ["x"]) for rows in (7, 1_000)]
    a, b = (pl.concat([pl.read_parquet(file) for file in each.files]) for each in done)
    assert a.equals(b)
    squares = rows["x"].to_numpy()
    expected = np.where(np.arange(1_000) % 3 == 0, np.nan, np.diff(squares, prepend=0)).astype(np.float32)
    np.testing.assert_array_equal(a[lagged].to_numpy(), expected)


def test_dropped_rows_are_counted_and_parts_stay_full(tmp_path: Path) -> None:
    rows = pl.DataFrame({"x": [None if i % 3 == 0 else float(i) for i in range(100)]})
    rows.write_parquet(tmp_path / "raw.parquet")
    drop = OpNode("drop", "Dropna", (Ref("input", "x"),), (Column("x", "float64"),))
    graph = FeatureGraph((Column("x", "float64"),), (drop,), (Ref("drop", "x"),))
    seen: list[int] = []
    done = transform(
        graph,
        tmp_path / "raw.parquet",
        tmp_path / "out",
        30,
        ["x"],
        progress=lambda what, n, total, unit: seen.append(n),
    )
    assert (done.rows, done.rows_read, seen[-1]) == (66, 100, 100)
    assert [pl.read_parquet(file).height for file in done.files] == [30, 30, 6]
    assert (
        pl.concat([pl.read_parquet(file) for file in done.files])["raw_x"].to_list() == rows["x"].drop_nulls().to_list()
    )


def test_groups_span_parts_and_nothing_raw_can_be_kept_beside_them(tmp_path: Path) -> None:
    rows = pl.DataFrame({"g": [i % 10 for i in range(100)], "x": [float(i) for i in range(100)]})
    rows.write_parquet(tmp_path / "raw.parquet")
    outputs = (Column("g", "int64"), Column("x_sum", "float64"))
    params = {"groupby_cols": ["g"], "aggs": {"x": ["sum"]}, "name_sep": "_"}
    group = OpNode("group", "Groupby", (Ref("input", "g"), Ref("input", "x")), outputs, params)
    graph = FeatureGraph(
        (Column("g", "int64"), Column("x", "float64")), (group,), (Ref("group", "g"), Ref("group", "x_sum"))
    )
    done = transform(graph, tmp_path / "raw.parquet", tmp_path / "out", 7)
    found = pl.concat([pl.read_parquet(file) for file in done.files]).sort("g")
    assert (done.rows, done.rows_read, len(done.files)) == (10, 100, 2)
    assert found["x_sum"].to_list() == [float(sum(range(g, 100, 10))) for g in range(10)]
    with pytest.raises(ConfigError, match="Groupby makes other rows"):
        transform(graph, tmp_path / "raw.parquet", tmp_path / "kept", 7, ["x"])
    assert not (tmp_path / "kept").exists()


def numbers(count: int) -> FeatureGraph:
    columns = tuple(Column(f"c{number}", "float64") for number in range(count))
    made = tuple(Column(column.name, "float32") for column in columns)
    log = OpNode("log", "LogOp", tuple(Ref("input", column.name) for column in columns), made)
    return FeatureGraph(columns, (log,), tuple(Ref("log", column.name) for column in made))


def peak(raw: Path, out: Path, limit: str) -> int:
    """The most memory, in bytes, of a process that transforms `raw`."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), str(raw), str(out), limit],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return int(json.loads(done.stdout)["peak"])


def test_a_memory_limit_bounds_the_memory_of_the_process(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random(500_000)
    raw = tmp_path / "raw"
    raw.mkdir()
    for part in range(4):
        columns = {f"c{number}": np.roll(values, number + part) for number in range(20)}
        pl.DataFrame(columns).write_parquet(raw / f"{part}.parquet", row_group_size=50_000, compression="lz4")
    free, tight = (peak(raw, tmp_path / f"out{limit}", limit) for limit in ("", "450MB"))
    assert free > 550 * 10**6
    assert tight < 450 * 10**6
    assert pl.scan_parquet(tmp_path / "out450MB" / "*.parquet").select(pl.len()).collect().item() == 2_000_000


def test_rows_that_a_filter_drops_are_in_no_part(raw: Path, tmp_path: Path) -> None:
    nvtabular = door.nvtabular()
    chain = ["x"] >> nvtabular.ops.Filter(lambda frame: frame["x"] > 700)
    graph = read(nvtabular.Workflow(chain), [Column("x", "float32")])
    done = transform(graph, raw, tmp_path / "out", 100, ["x", "k"])
    kept = ROWS.filter(pl.col("x") > 700)
    assert (done.rows, done.rows_read) == (kept.height, 1_000)
    found = pl.concat([pl.read_parquet(file) for file in done.files])
    assert found["raw_k"].to_list() == kept["k"].to_list()
    assert [pl.read_parquet(file).height for file in done.files] == [100, 100, 99]


def test_a_csv_value_of_another_type_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("x,k\n1.5,a\nmany,b\n")
    with pytest.raises(DataError, match=r"many|raw\.csv"):
        transform(GRAPH, tmp_path / "raw.csv", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw.csv"]


def test_files_with_other_columns_that_are_not_read_are_told(raw: Path, tmp_path: Path) -> None:
    ROWS.drop("k").with_columns(more=1).write_parquet(tmp_path / "next.parquet")
    done = transform(GRAPH, [raw, tmp_path / "next.parquet"], tmp_path / "out")
    assert done.drift == (
        "next.parquet: 'k' is missing (raw.parquet has it)",
        "next.parquet: 'more' is extra (raw.parquet lacks it)",
    )
    assert transform(GRAPH, [raw, raw], tmp_path / "out").drift == ()


if __name__ == "__main__":
    transform(numbers(20), Path(sys.argv[1]), Path(sys.argv[2]), 2_000_000, memory_limit=sys.argv[3] or None)
    # Not getrusage: its peak begins with that of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    sys.stdout.write(json.dumps({"peak": int(status["VmHWM"].split()[0]) << 10}))


def test_a_part_of_the_rows_is_told_where_it_begins(tmp_path: Path) -> None:
    rows = pl.DataFrame({"k": ["a", "b", "a", "b", "a", "a", "b"] * 9, "y": [0, 1, 1, 1, 0, 1, 0] * 9})
    halves = [rows[:20], rows[20:]]
    for number, half in enumerate(halves):
        half.write_parquet(tmp_path / f"{number}.parquet")
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    nvtabular = door.nvtabular()
    workflow = nvtabular.Workflow(["k"] >> nvtabular.ops.TargetEncoding("y", kfold=3))
    graph = fit(read(workflow, [Column("k", "string"), Column("y", "int64")]), paths)

    def made(paths: list[Path], first_row: int = 0) -> list[float]:
        out = tmp_path / f"out-{len(paths)}-{first_row}"
        files = transform(graph, paths, out, out_of_fold=True, first_row=first_row).files
        return pl.read_parquet(files)["TE_k_y"].to_list()

    assert made(paths[1:], first_row=20) == made(paths)[20:] != made(paths[1:])
