"""Differences of functions over columns, statistics that pass through, and operators on rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl import schema
from etl.batch import transform as write
from etl.fit import fit
from etl.fit.missing import MOST_VALUES, RELATIVE_ERROR
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.reader import door, hydrate, read
from tests.conformance.case import INF, Case
from tests.conformance.compare import plain
from tests.conformance.oracle import answer, columns_of, transform, workflow
from tests.conformance.targets import TARGETS
from tests.conformance.test_differences import both, fitted, shows

pytestmark = pytest.mark.filterwarnings("ignore")  # pandas' and NumPy's remarks on NVTabular's code


def run(build: Any, frame: pl.DataFrame, name: str) -> tuple[list[Any], FeatureGraph]:
    """What NVTabular gives for a column, and the graph that was read from its fitted workflow."""
    found = answer(Case(name, build, fit=frame, serve=frame))
    return plain(found.expected[name].tolist()), found.graph


def in_two_files(frame: pl.DataFrame, folder: Path) -> list[Path]:
    paths = [folder / "a.parquet", folder / "b.parquet"]
    half = frame.height // 2
    frame.head(half).write_parquet(paths[0])
    frame.tail(-half).write_parquet(paths[1])
    return paths


def partitioned(frame: pl.DataFrame) -> Any:
    """The frame in two partitions, as NVTabular reads it."""
    import dask.dataframe as dd

    nvtabular = door.nvtabular()
    with door.quiet():
        return nvtabular.Dataset(dd.from_pandas(frame.to_pandas(), npartitions=2), cpu=True)


def transformed(graph: FeatureGraph, paths: list[Path], folder: Path) -> pl.DataFrame:
    write(graph, paths, folder / "out")
    return pl.read_parquet(folder / "out" / "*.parquet")


@shows("text-of-null")
def test_a_question_of_a_null_text_is_false() -> None:
    frame = pl.DataFrame({"s": ["abc", None]})
    theirs, graph = run(lambda o: ["s"] >> o.LambdaOp(lambda col: col.str.contains("b", regex=False)), frame, "s")
    assert theirs == [True, None]
    assert TARGETS["polars"](graph, frame)["s"] == [True, False]


@shows("conversion-of-missing")
def test_what_no_integer_is_becomes_null() -> None:
    frame = pl.DataFrame({"f": [1.9, None, INF, -1e300, -2.5]})
    case = Case("f", lambda o: ["f"] >> o.LambdaOp(lambda col: col.astype("int32")), fit=frame, serve=frame)
    with pytest.raises(Exception, match="Cannot convert non-finite values"):
        answer(case)
    assert both(read(workflow(case), columns_of(frame)), frame, "f") == [1, None, None, None, -2]


@shows("median")
def test_a_median_does_not_depend_on_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).lognormal(0, 4, 5_001) * np.where(np.arange(5_001) % 3, 1, -1)
    frame = pl.DataFrame({"f": values})
    made = OpNode("op", "FillMedian", (Ref("input", "f"),), (Column("f", "float64"),))
    graph = FeatureGraph((Column("f", "float64"),), (made,), (Ref("op", "f"),))
    paths = in_two_files(frame, tmp_path)

    def median(rows: int) -> float:
        return float((fit(graph, paths, rows_per_slice=rows).nodes[0].state or {})["medians"]["median"][0])

    assert median(10_000) == median(7) == float(np.median(values))
    monkeypatch.setattr("etl.fit.missing.MOST_VALUES", 1_000)
    assert median(10_000) == median(700) == median(13)
    assert median(10_000) == pytest.approx(float(np.median(values)), rel=RELATIVE_ERROR)
    nvtabular = door.nvtabular()
    theirs = [nvtabular.ops.FillMedian(), nvtabular.ops.FillMedian()]
    for op, rows in zip(theirs, (frame.sort("f"), frame), strict=True):
        nvtabular.Workflow(["f"] >> op).fit(partitioned(rows))
    assert theirs[0].medians != theirs[1].medians, "the same rows in other partitions"
    assert MOST_VALUES == 200_000


@shows("median-of-integers")
def test_integers_filled_with_a_median_are_floats() -> None:
    frame = pl.DataFrame({"i": [1, 4]})
    _, graph = run(lambda o: ["i"] >> o.FillMedian(), frame, "i")
    assert both(graph, pl.DataFrame({"i": [1, None]}), "i") == [1.0, 2.5]
    assert both(graph, frame, "i") == [1.0, 4.0]
    assert graph.output_columns[0].dtype == "float64"


@shows("reduced-null")
def test_the_smallest_value_of_a_type_is_left_for_null(tmp_path: Path) -> None:
    frame = pl.DataFrame({"i": [-128, 127]})
    _, graph = run(lambda o: ["i"] >> o.ReduceDtypeSize(), frame, "i")
    assert graph.nodes[0].state is not None
    assert graph.nodes[0].state["sizes"]["dtype"].to_list() == ["int16"]
    nulls = pl.DataFrame({"i": [1, None]})
    case = Case("i", lambda o: ["i"] >> o.ReduceDtypeSize(), fit=nulls, serve=nulls)
    assert answer(case).expected["i"].dtype == np.float32
    unfitted = OpNode("op", "ReduceDtypeSize", (Ref("input", "i"),), (Column("i", "int64"),))
    made = fitted(nulls, tmp_path, unfitted)
    assert made.output_columns[0].dtype == "int8"
    assert both(made, nulls, "i") == [1, None]


@shows("lengths-are-no-limit")
def test_lengths_that_were_seen_are_properties() -> None:
    frame = pl.DataFrame({"l": [[1, 2], [3, 4]], "i": [1, 2]})
    case = Case("l", lambda o: ["l", "i"] >> o.ValueCount(), fit=frame, serve=frame)
    theirs = workflow(case)
    theirs.fit_transform(partitioned(frame)).to_ddf().compute()
    assert theirs.output_schema["i"].is_list
    assert str(theirs.output_schema["l"].shape.dims[1]) == "2" or theirs.output_schema["l"].shape.dims[1].max == 2
    graph = answer(case).graph
    assert [(column.is_list, column.length) for column in graph.output_columns] == [(True, None), (False, None)]
    assert schema.properties(graph, graph.outputs[0])["value_count"] == {"min": 2, "max": 2}
    assert "value_count" not in schema.properties(graph, graph.outputs[1])


@shows("statistics-in-the-schema")
def test_statistics_are_in_the_schema(tmp_path: Path) -> None:
    frame = pl.DataFrame({"i": [1, 3, 3], "s": ["a", None, "bcd"]})
    case = Case("i", lambda o: ["i", "s"] >> o.DataStats(), fit=frame, serve=frame)
    found = answer(case)
    assert "stats" not in found.graph.output_columns[0].tags
    graph = fit(found.unfitted, in_two_files(frame, tmp_path))
    (numbers, texts) = (feature["annotation"]["extraMetadata"][0]["stats"] for feature in schema.to_features(graph))
    assert numbers == pytest.approx(
        {"cardinality": 2, "min": 1, "max": 3, "mean": 7 / 3, "std": 2 / 3**0.5, "per_nan": 0}
    )
    assert texts == pytest.approx({"cardinality": 2, "min": 1, "max": 3, "mean": 2, "std": 2**0.5, "per_nan": 100 / 3})
    assert json.loads(schema.to_json(schema.to_features(graph)))


@shows("drop-low-others")
def test_columns_that_are_not_categorical_are_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["a", "b", "c", "d"], "t": ["a"] * 4, "f": [0.5] * 4})

    def build(o: Any) -> Any:
        return (["s", "t"] >> o.Categorify()) + ["f"] >> o.DropLowCardinality(5)

    case = Case("f", build, fit=frame, serve=frame)
    with pytest.raises(Exception, match="not iterable"):
        workflow(case).fit(partitioned(frame))
    graph = fit(read(workflow(case), columns_of(frame)), in_two_files(frame, tmp_path))
    assert {column.name for column in graph.output_columns} == {"f", "s"}
    assert both(graph, frame, "f") == [0.5] * 4


_EVENTS = pl.DataFrame({"k": [1, 2, 1, 2, 1, 3], "x": [5, 1, 9, 2, 7, 3]})


@shows("groups-of-all-rows")
def test_a_group_is_made_of_all_rows(tmp_path: Path) -> None:
    case = Case("x_list", lambda o: ["k", "x"] >> o.Groupby("k", aggs="list"), fit=_EVENTS, serve=_EVENTS)
    theirs = workflow(case).fit_transform(partitioned(_EVENTS)).to_ddf().compute()
    assert theirs["k"].tolist() == [1, 2, 1, 2, 3]
    graph = read(workflow(case), columns_of(_EVENTS))
    ours = transformed(graph, in_two_files(_EVENTS, tmp_path), tmp_path)
    assert ours.to_dict(as_series=False) == {"k": [1, 2, 3], "x_list": [[5, 9, 7], [1, 2], [3]]}


@shows("order-of-aggregates")
def test_aggregates_have_a_fixed_order() -> None:
    case = Case("x", lambda o: ["x"] >> o.Groupby("k", aggs=["max", "count", "list", "mean"]), fit=_EVENTS)
    graph = read(workflow(case), columns_of(_EVENTS))
    assert [ref.column for ref in graph.outputs] == ["x_list", "x_count", "x_mean", "x_max"]


@shows("types-of-aggregates")
def test_aggregates_of_short_names_have_their_types() -> None:
    frame = _EVENTS.rename({"x": "a"})
    case = Case("a", lambda o: ["a"] >> o.Groupby("k", aggs="mean"), fit=frame, serve=frame)
    theirs = workflow(case)
    theirs.fit_schema(partitioned(frame).schema)
    assert theirs.output_schema["a_mean"].dtype.name == "int64"
    assert read(workflow(case), columns_of(frame)).output_columns[0].dtype == "float32"


@shows("keys-after-filter")
def test_keys_are_those_of_the_rows_that_are_left() -> None:
    case = Case(
        "x_list",
        lambda o: ["k", "x"] >> o.Filter(lambda df: df["x"] > 2) >> o.Groupby("k", aggs="list"),
        fit=_EVENTS,
        serve=_EVENTS,
    )
    assert plain(answer(case).expected["x_list"].tolist()) != [[5, 9, 7], [3]]
    ours = TARGETS["polars"](read(workflow(case), columns_of(_EVENTS)), _EVENTS)
    assert ours == {"k": [1, 3], "x_list": [[5, 9, 7], [3]]}


@shows("lag-over-all-rows")
def test_a_difference_reaches_into_the_file_before(tmp_path: Path) -> None:
    frame = _EVENTS.with_columns(k=pl.lit(1))
    case = Case("x", lambda o: ["x"] >> o.DifferenceLag("k"), fit=frame, serve=frame)
    fitted_workflow = workflow(case)
    fitted_workflow.fit(partitioned(frame))
    theirs = fitted_workflow.transform(partitioned(frame)).to_ddf().compute()["x_difference_lag_1"]
    assert plain(theirs.tolist()) == [None, -4.0, 8.0, None, 5.0, -4.0]
    ours = transformed(read(workflow(case), columns_of(frame)), in_two_files(frame, tmp_path), tmp_path)
    assert plain(ours["x_difference_lag_1"].to_list()) == [None, -4.0, 8.0, -7.0, 5.0, -4.0]
    assert transform(fitted_workflow, frame)["x_difference_lag_1"].tolist()[3] == -7.0


def test_strict_nvtabular_does_not_pad(tmp_path: Path) -> None:
    frame = pl.DataFrame({"l": [[1, 2, 3], [], [4]]})
    case = Case("l", lambda o: ["l"] >> o.ListSlice(2, pad=True, pad_value=-1), fit=frame, serve=frame)
    theirs = plain(answer(case).expected["l"].tolist())
    graph = read(workflow(case), columns_of(frame), strict_nvtabular=True)
    assert TARGETS["polars"](graph, frame)["l"] == theirs == [[1, 2], [], [4]]
    assert graph.output_columns[0].length is None
    assert plain(transform(hydrate(graph, tmp_path / "w"), frame)["l"].tolist()) == theirs


def test_strict_nvtabular_divides_a_constant_by_itself(tmp_path: Path) -> None:
    frame = pl.DataFrame({"f": [0.0, 0.0, None]})
    case = Case("f", lambda o: ["f"] >> o.NormalizeMinMax(), fit=frame, serve=frame)
    graph = fit(read(workflow(case), columns_of(frame), strict_nvtabular=True), in_two_files(frame, tmp_path))
    assert both(graph, frame, "f") == plain(answer(case).expected["f"].tolist()) == [None, None, None]
    other = pl.DataFrame({"f": [3.0, -0.5, INF]})
    assert both(graph, other, "f") == [0.5, 0.5, None]
