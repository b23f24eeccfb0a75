"""Operators on rows and statistics: what they refuse, in which target, and what they say to do instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.batch import transform
from etl.compiler import to_onnx, to_polars
from etl.errors import CompileError, ConfigError
from etl.fit import fit
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.reader import door, read

INPUTS = (
    Column("x", "int64"),
    Column("f", "float64"),
    Column("s", "string"),
    Column("d", "datetime"),
    Column("l", "int64", True),
)


def graph(op: str, params: dict[str, Any], *outputs: Column, state: Any = None) -> FeatureGraph:
    """A graph of one operator that reads every column."""
    refs = tuple(Ref("input", column.name) for column in INPUTS)
    node = OpNode("op", op, refs, outputs, params, state)
    return FeatureGraph(INPUTS, (node,), tuple(Ref("op", column.name) for column in outputs))


def alone(op: str, column: Column) -> FeatureGraph:
    """A graph of one operator on one column, not fitted."""
    node = OpNode("op", op, (Ref("input", column.name),), (column,))
    return FeatureGraph(INPUTS, (node,), (Ref("op", column.name),))


def groupby(column: str, how: str, dtype: str = "int64", **params: Any) -> FeatureGraph:
    options = {"groupby_cols": ["x"], "aggs": {column: [how]}, **params}
    return graph("Groupby", options, Column(f"{column}_{how}", dtype))


REFUSED = {
    "a key that is a list": (groupby("f", "sum", groupby_cols=["l"]), "groupby_cols names 'l', a list"),
    "a key that is not there": (groupby("f", "sum", groupby_cols=["y"]), "'y', which it does not get"),
    "no keys": (groupby("f", "sum", groupby_cols=[]), "no groupby_cols"),
    "an order that is not there": (groupby("f", "sum", sort_cols=["z"]), "sort_cols names 'z'"),
    "the mean of strings": (groupby("s", "mean"), "mean of string"),
    "the sum of datetimes": (groupby("d", "sum"), "sum of datetime"),
    "a list of lists": (groupby("l", "list"), "aggregates a list"),
    "a filter that is no condition": (
        graph("Filter", {"keep": ["add", ["column", "x"], ["value", 1]]}, Column("x", "int64")),
        "not a condition",
    ),
    "a filter of a column that is not there": (
        graph("Filter", {"keep": ["gt", ["column", "y"], ["value", 1]]}, Column("x", "int64")),
        "not one of its own",
    ),
    "a difference of strings": (
        graph("DifferenceLag", {"partition_cols": ["x"], "shift": [1]}, Column("s_difference_lag_1", "float32")),
        "subtracts numbers only",
    ),
    "a difference within what is not there": (
        graph("DifferenceLag", {"partition_cols": ["y"], "shift": [1]}, Column("f_difference_lag_1", "float32")),
        "'y', which it does not get",
    ),
}


@pytest.mark.parametrize(("made", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_rows_cannot_be_made_is_refused(made: FeatureGraph, reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        to_polars(made)


@pytest.mark.parametrize(
    "made",
    [
        groupby("f", "sum", "float32"),
        graph("Filter", {"keep": ["gt", ["column", "x"], ["value", 1]]}, Column("x", "int64")),
        graph("Dropna", {}, Column("x", "int64")),
    ],
    ids=lambda made: made.nodes[0].op,
)
def test_serving_refuses_to_change_rows_and_says_what_to_do(made: FeatureGraph) -> None:
    assert to_polars(made).exprs
    with pytest.raises(CompileError, match=r"which rows there are\. Take what follows it as the raw columns to serve"):
        to_onnx(made)


def test_serving_refuses_to_look_at_other_rows() -> None:
    made = graph("DifferenceLag", {"partition_cols": ["x"], "shift": [1]}, Column("f_difference_lag_1", "float32"))
    assert not to_polars(made).is_local
    with pytest.raises(CompileError, match=r"other rows than the request's.*send it as a raw column"):
        to_onnx(made)


def state(op: str, **table: Any) -> dict[str, pl.DataFrame]:
    return {{"FillMedian": "medians", "ReduceDtypeSize": "sizes"}[op]: pl.DataFrame(table)}


@pytest.mark.parametrize("compiled", [to_polars, to_onnx])
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (graph("FillMedian", {}, Column("f", "float64")), "not fitted"),
        (alone("ReduceDtypeSize", Column("x", "int64")), "not fitted"),
        (alone("ReduceDtypeSize", Column("l", "int64", True)), "does not take lists"),
        (
            graph("FillMedian", {}, Column("f", "float64"), state=state("FillMedian", column=["x"], median=[1.0])),
            "does not hold this column",
        ),
        (graph("FillMedian", {}, Column("s", "string")), "takes numbers"),
    ],
)
def test_statistics_that_are_not_there_are_refused(made: FeatureGraph, reason: str, compiled: Any) -> None:
    with pytest.raises(CompileError, match=reason):
        compiled(made)


@pytest.mark.parametrize("op", ["FillMedian", "DataStats", "ReduceDtypeSize"])
def test_statistics_of_lists_are_refused_before_data_is_read(op: str, tmp_path: Path) -> None:
    node = OpNode("op", op, (Ref("input", "l"),), (Column("l", "int64", True),), {})
    made = FeatureGraph(INPUTS[-1:], (node,), (Ref("op", "l"),))
    with pytest.raises(ConfigError, match=f"{op} of 'l'"):
        fit(made, [tmp_path / "absent.parquet"])


def read_one(build: Any) -> FeatureGraph:
    nvtabular = door.nvtabular()
    return read(nvtabular.Workflow(build(nvtabular.ops)), INPUTS)


def test_a_filter_that_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(CompileError, match=r"df\.sample may look at other rows.*Write it with comparisons"):
        read_one(lambda o: ["x"] >> o.Filter(lambda df: df.sample(3)))


def test_an_aggregation_that_is_not_known_is_refused() -> None:
    with pytest.raises(CompileError, match="the aggregation prod is not known: list, first"):
        read_one(lambda o: ["x", "f"] >> o.Groupby("x", aggs="prod"))


def test_rows_that_were_filtered_do_not_stand_beside_the_others() -> None:
    with pytest.raises(ConfigError, match="the same rows"):
        read_one(lambda o: (["x"] >> o.Filter(lambda df: df["x"] > 1)) + ["f"])


def test_kept_raw_columns_lose_the_same_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [1, 5, 3], "f": [0.1, 0.2, 0.3], "id": ["a", "b", "c"]})
    frame.write_parquet(tmp_path / "rows.parquet")
    made = read_one(lambda o: ["x", "f"] >> o.Filter(lambda df: df["x"] > 2) >> o.LambdaOp(lambda col: col * 2))
    transform(made, [tmp_path / "rows.parquet"], tmp_path / "out", keep=["id"])
    found = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert found.to_dict(as_series=False) == {"x": [10, 6], "f": [0.4, 0.6], "raw_id": ["b", "c"]}


def test_groups_cannot_keep_raw_columns(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1], "f": [0.1]}).write_parquet(tmp_path / "rows.parquet")
    made = read_one(lambda o: ["x", "f"] >> o.Groupby("x", aggs="sum"))
    with pytest.raises(ConfigError, match="Groupby makes other rows"):
        transform(made, [tmp_path / "rows.parquet"], tmp_path / "out", keep=["f"])
    assert not (tmp_path / "out").exists()
