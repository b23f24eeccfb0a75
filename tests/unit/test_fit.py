"""Fit: partitions do not matter, nothing is lost, and bad data is told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import ConfigError, DataError, SchemaError
from etl.fit import fit
from etl.fit.partial import Sized, slices
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.inputs import Input

INPUTS = (Column("s", "string"), Column("t", "string"), Column("f", "float64"), Column("l", "int64", True))


def node(id: str, op: str, *columns: str, **params: Any) -> OpNode:
    dtype = "int64" if op == "Categorify" else "float64"
    made = tuple(Column(name, dtype, next(c.is_list for c in INPUTS if c.name == name)) for name in columns)
    return OpNode(id, op, tuple(Ref("input", name) for name in columns), made, params)


def graph(*nodes: OpNode) -> FeatureGraph:
    return FeatureGraph(INPUTS, nodes, ())


EVERYTHING = graph(
    node("c", "Categorify", "s", "l"),
    node("j", "Categorify", "s", "t", groups=[["s", "t"]]),
    node("n", "Normalize", "f", "l"),
    node("m", "NormalizeMinMax", "f"),
)


def rows(number: int, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    words = [None, "", "a", "b", "é", "日本", *(f"w{n}" for n in range(9))]
    return pl.DataFrame(
        {
            "s": [words[n] for n in random.integers(0, len(words), number)],
            "t": [words[n] for n in random.integers(0, len(words), number)],
            "f": [None if n % 7 == 0 else float("nan") if n % 7 == 1 else random.normal(1e6, 1) for n in range(number)],
            "l": [random.integers(0, 9, n % 4).tolist() if n % 5 else None for n in range(number)],
        },
        schema={"s": pl.String, "t": pl.String, "f": pl.Float64, "l": pl.List(pl.Int64)},
    )


def fitted(folder: Path, frames: list[pl.DataFrame], of: FeatureGraph = EVERYTHING, **options: Any) -> FeatureGraph:
    paths = [folder / f"part_{number}.parquet" for number in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        frame.write_parquet(path)
    return fit(of, paths, **options)


def state(found: FeatureGraph, id: str, key: str) -> pl.DataFrame:
    return (next(node for node in found.nodes if node.id == id).state or {})[key]


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), per_slice=st.integers(7, 70))
def test_partitions_do_not_matter(cuts: list[int], per_slice: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = rows(60)
    places = [0, *sorted(cuts), 60]
    parts = [whole[start:end] for start, end in pairwise(places)]
    one = fitted(tmp_path_factory.mktemp("one"), [whole])
    many = fitted(tmp_path_factory.mktemp("many"), parts, rows_per_slice=per_slice)
    assert one.fingerprint == many.fingerprint


def test_statistics_are_those_of_the_values(tmp_path: Path) -> None:
    frame = rows(200)
    found = fitted(tmp_path, [frame], rows_per_slice=33)
    known = np.array([value for value in frame["f"].to_list() if value is not None and value == value])
    column, count, mean, std = state(found, "n", "moments").row(0)
    assert (column, count) == ("f", len(known))
    assert (mean, std) == pytest.approx((known.mean(), known.std(ddof=1)), rel=1e-9)
    assert state(found, "m", "ranges").row(0) == ("f", known.min(), known.max())
    counts = frame.select(value="s").filter(pl.col("value") != "").group_by("value").agg(count=pl.len().cast(pl.Int64))
    assert state(found, "c", "s").equals(counts.sort(["count", "value"], descending=[True, False]))
    assert state(found, "j", "s_t")["count"].sum() == sum((frame[name] != "").sum() for name in "st")
    assert state(found, "c", "l")["count"].sum() == sum(len(values or ()) for values in frame["l"].to_list())


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"max_size": 5}, ["a", "b"]),
        ({"max_size": {"s": 4, "t": 9}}, ["a"]),
        ({"max_size": 6, "num_buckets": 3}, ["a"]),
        ({"max_size": 3}, []),
        ({"freq_threshold": 2}, ["a", "b", "c"]),
        ({"freq_threshold": {"s": 3}}, ["a"]),
        ({"freq_threshold": 9}, []),
    ],
)
def test_vocabularies_are_cut_as_asked(params: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    frame = rows(7).with_columns(s=pl.Series(["c", "b", "a", "a", "a", "b", "c"]))
    found = fitted(tmp_path, [frame], graph(node("c", "Categorify", "s", **params)))
    assert state(found, "c", "s")["value"].to_list() == expected


@pytest.mark.parametrize(
    ("params", "columns"),
    [
        ({"max_size": 2}, ["s"]),
        ({"max_size": 5, "num_buckets": 4}, ["s"]),
        ({"max_size": 9, "freq_threshold": 2}, ["s"]),
        ({"groups": [["s", "l"]]}, ["s", "l"]),
    ],
)
def test_options_that_no_data_can_satisfy_are_refused(params: Any, columns: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Categorify"):
        fitted(tmp_path, [rows(3)], graph(node("c", "Categorify", *columns, **params)))


def test_a_fitted_operator_on_another_waits_for_it(tmp_path: Path) -> None:
    first = node("n", "Normalize", "f")
    second = OpNode("m", "NormalizeMinMax", (Ref("n", "f"),), (Column("f", "float64"),))
    seen: list[tuple[str, int, int | None, str]] = []
    found = fitted(tmp_path, [rows(50)], graph(first, second), progress=lambda *told: seen.append(told))
    scaled = state(found, "m", "ranges").row(0)
    _, _, mean, std = state(found, "n", "moments").row(0)
    low, high = fitted(tmp_path, [rows(50)]).nodes[3].state["ranges"].row(0)[1:]
    assert scaled[1:] == pytest.approx(((low - mean) / std, (high - mean) / std), rel=1e-9)
    assert seen == [("fit", 50, 100, "rows"), ("fit", 100, 100, "rows")]


def test_infinite_values_are_told_by_the_statistics(tmp_path: Path) -> None:
    frames = [rows(3).with_columns(f=pl.Series(values)) for values in ([1.0, 2.0, 3.0], [float("inf"), 1.0, 2.0])]
    _, count, mean, std = state(fitted(tmp_path, frames), "n", "moments").row(0)
    assert (count, mean) == (6, float("inf"))
    assert np.isnan(std)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_unreadable_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.parquet"):
        fit(EVERYTHING, [tmp_path / "bad.parquet"])


def test_a_file_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    rows(500).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:900] = bytes(896)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.parquet"):
        fit(EVERYTHING, [path])


def test_no_files_and_wrong_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one"):
        fit(EVERYTHING, [])
    with pytest.raises(SchemaError, match="'f' is missing"):
        fitted(tmp_path, [rows(3).drop("f")])
    with pytest.raises(SchemaError, match=r"'s' is int64 \(expected string\)"):
        fitted(tmp_path, [rows(3).with_columns(s=pl.lit(1, pl.Int64))])


@pytest.mark.parametrize("rows_per_slice", [5, 1000])
def test_every_format_gives_the_same_statistics(rows_per_slice: int, tmp_path: Path) -> None:
    frame, of = rows(60).drop("l"), graph(node("c", "Categorify", "s", "t"), node("n", "Normalize", "f"))
    (tmp_path / "mixed").mkdir()
    frame[:20].write_parquet(tmp_path / "mixed" / "a.parquet")
    frame[20:33].write_ipc(tmp_path / "mixed" / "b.arrow")
    frame[33:].write_csv(tmp_path / "mixed" / "c.csv", null_value="")
    frame = frame.with_columns(pl.when(pl.col("s") == "").then(None).otherwise("s").alias("s"))
    found = fit(of, tmp_path / "mixed", rows_per_slice=rows_per_slice)
    assert found.fingerprint == fitted(tmp_path, [frame], of).fingerprint
    assert fit(of, str(tmp_path / "mixed" / "*.*")) == found


def test_every_files_problems_are_told_at_once_before_anything_is_read(tmp_path: Path) -> None:
    rows(9).write_parquet(tmp_path / "a.parquet")
    rows(9).drop("t").write_parquet(tmp_path / "b.parquet")
    rows(9).with_columns(pl.col("f").cast(pl.Float32)).write_parquet(tmp_path / "c.parquet")
    chain = graph(node("c", "Categorify", "s"), node("m", "Categorify", "t"))
    with pytest.raises(SchemaError, match=r"b\.parquet: 't' is missing"):
        fit(chain, tmp_path)
    with pytest.raises(SchemaError) as caught:
        fit(EVERYTHING, tmp_path)
    assert "b.parquet: 't' is missing" in str(caught.value)
    assert "c.parquet: 'f' is float32 (expected float64)" in str(caught.value)
    (tmp_path / "b.parquet").unlink()
    assert fit(EVERYTHING, tmp_path, widen=True).is_fitted


def test_columns_that_nothing_is_fitted_on_need_not_be_there(tmp_path: Path) -> None:
    assert fitted(tmp_path, [rows(9).select("s")], graph(node("c", "Categorify", "s"))).is_fitted


def test_small_files_share_a_slice_and_large_ones_are_cut() -> None:
    files = [Sized(Input(f"{number}.parquet"), height) for number, height in enumerate((3, 0, 4, 25, 2, 9))]
    found = slices(files, 10, first_row=100)
    assert [[(p.file.name[0], p.offset, p.length) for p in each.pieces] for each in found] == [
        [("0", 0, 3), ("2", 0, 4)],
        [("3", 0, 10)],
        [("3", 10, 10)],
        [("3", 20, 5), ("4", 0, 2)],
        [("5", 0, 9)],
    ]
    assert [each.first_row for each in found] == [100, 107, 117, 127, 134]
    assert [len(each.pieces) for each in slices(files, 10, is_local=False)] == [5]
    assert slices(files[1:2], 10)[0].length == 0
