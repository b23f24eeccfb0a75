"""Functions over columns: what is recorded, what is refused and where, and what a tampered graph can do: nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from etl.compiler import bridge, to_onnx, to_polars
from etl.errors import ArtifactError, CompileError
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.operators.traced import MOST_CALLS
from etl.reader import door, read
from etl.reader.trace import Untraceable, trace_column, trace_filter

INPUTS = (Column("x", "int64"), Column("f", "float64"), Column("s", "string"), Column("d", "datetime"))


def graph(tree: Any, column: str = "x", dtype: str = "float64") -> FeatureGraph:
    """A graph of one LambdaOp that reads every column."""
    refs = tuple(Ref("input", each.name) for each in INPUTS)
    node = OpNode("op", "LambdaOp", refs, (Column(column, dtype),), {"columns": {column: tree}})
    return FeatureGraph(INPUTS, (node,), (Ref("op", column),))


def workflow(function: Any, column: str = "x", **options: Any) -> Any:
    nvtabular = door.nvtabular()
    return nvtabular.Workflow([column] >> nvtabular.ops.LambdaOp(function, **options))


def test_a_function_becomes_a_tree_of_plain_values() -> None:
    tree = trace_column(lambda col, df: np.log1p(col.fillna(0)) * (df["f"] > 3) - np.float32(0.5), "x")
    filled = ["fillna", ["column", "x"], ["value", 0]]
    product = ["mul", ["log1p", filled], ["gt", ["column", "f"], ["value", 3]]]
    assert tree == ["sub", product, ["value", 0.5]]
    assert json.loads(json.dumps(tree)) == tree


def test_a_filter_becomes_a_condition() -> None:
    both = ["and", ["gt", ["column", "x"], ["value", 3]], ["isna", ["column", "s"]]]
    assert trace_filter(lambda df: df[(df["x"] > 3) & df.s.isna()]) == both
    assert trace_filter(lambda df: (df.loc[df["x"] > 3])[df["s"].isna()].reset_index(drop=True)) == both
    assert trace_filter(lambda df: df) == ["value", True]


UNTRACEABLE = {
    "branches on the data": lambda col: col if col > 3 else -col,
    "may look at other rows": lambda col: col - col.mean(),
    "iterates over rows": lambda col: [value for value in col],  # noqa: C416
    "takes the column's values as an array": lambda col: np.asarray(col),
    r"np.percentile is not recorded": lambda col: col - np.percentile(col, 5),
    "reduce or options": lambda col: np.add.reduce(col),
    "returns int": lambda col: 3,
    "picks rows": lambda col: col[0],
    "holds values of rows": lambda col: col + np.arange(3),
    "regular expression": lambda col: col.str.contains("a.*"),
    "time zone": lambda col: col > pd.Timestamp("2020-01-01", tz="UTC"),
    "asks for the number of rows": lambda col: len(col),
    "str.zfill is not recorded": lambda col: col.str.zfill(3),
    "dt.strftime is not recorded": lambda col: col.dt.strftime("%Y"),
    "NameError": lambda col: col + unknown_name,  # type: ignore[name-defined]  # noqa: F821
}


@pytest.mark.parametrize(("reason", "function"), UNTRACEABLE.items(), ids=UNTRACEABLE)
def test_what_cannot_be_recorded_says_why_and_where(reason: str, function: Any) -> None:
    with pytest.raises(Untraceable, match=reason) as caught:
        trace_column(function, "x")
    assert f"{__file__}:{function.__code__.co_firstlineno}" in str(caught.value)


def test_the_line_is_the_one_that_fails() -> None:
    def function(col: Any) -> Any:
        doubled = col * 2
        return doubled.rank()

    with pytest.raises(Untraceable, match=f":{function.__code__.co_firstlineno + 2}"):
        trace_column(function, "x")


def test_a_function_that_grows_without_end_is_refused() -> None:
    def doubling(col: Any) -> Any:
        for _ in range(60):
            col = col + col
        return col

    with pytest.raises(Untraceable, match=f"more than {MOST_CALLS} calls"):
        trace_column(doubling, "x")


def test_reading_a_workflow_says_what_to_do() -> None:
    with pytest.raises(CompileError, match=r"\.rank is not recorded.*test_trace.py.*bridge_lambdas=True"):
        read(workflow(lambda col: col.rank()), INPUTS)


REFUSED = {
    "compares a string with a number": ["gt", ["column", "s"], ["column", "x"]],
    "joins two columns": ["add", ["column", "x"], ["column", "s"]],
    "computes with string": ["mul", ["column", "x"], ["column", "s"]],
    "are of booleans": ["and", ["column", "x"], ["column", "x"]],
    "does not subtract booleans": ["sub", ["isna", ["column", "x"]], ["isna", ["column", "f"]]],
    "is of datetimes": ["date", ["column", "x"], "hour"],
    "is a time between two": ["sub", ["column", "d"], ["moment", 0]],
    "is of strings": ["text", ["column", "x"], "len", []],
    "is a constant": ["value", 2],
    "computes with constants only": ["add", ["value", 1], ["value", 2]],
    "'y', which is not one of its own": ["column", "y"],
    "a datetime and a number": ["add", ["column", "d"], ["column", "x"]],
    "by a constant that is not 0": ["mod", ["column", "x"], ["value", 0]],
    "is not converted to string": ["astype", ["column", "x"], "str"],
    "uint8 holds no null": ["astype", ["column", "x"], "uint8"],
    "value of the column's own type": ["fillna", ["column", "x"], ["value", 0.5]],
    "is not a value of int64": ["clip", ["column", "x"], 0.5, None],
    r"\.dt\.century is not known": ["date", ["column", "d"], "century"],
    "does not take": ["text", ["column", "s"], "slice", ["a", "b"]],
}


@pytest.mark.parametrize("compiled", [to_polars, to_onnx])
@pytest.mark.parametrize(("reason", "tree"), REFUSED.items(), ids=REFUSED)
def test_types_that_do_not_go_together_are_refused(reason: str, tree: Any, compiled: Any) -> None:
    with pytest.raises(CompileError, match=reason):
        compiled(graph(tree))


def test_text_is_for_batch_and_serving_says_what_to_do() -> None:
    made = graph(["text", ["column", "s"], "lower", []], "s", "string")
    assert to_polars(made).apply(pl.LazyFrame({"s": ["Ab", None]})).collect()["s"].to_list() == ["ab", None]
    with pytest.raises(CompileError, match=r"ONNX has no str\.lower.*Compute it in batch"):
        to_onnx(made)


TAMPERED = {
    "a name that is not a call": ["__import__", ["value", "os"]],
    "no list": "column",
    "too many parts": ["add", ["column", "x"], ["column", "x"], ["column", "x"]],
    "a column that is a list": ["column", ["x"]],
    "a function of text as a tree": ["text", ["column", "s"], {"name": "len"}, []],
    "a number beyond 64 bits": ["add", ["column", "x"], ["value", 2**70]],
    "a moment that is no number": ["moment", "1970"],
    "a float that is none": ["value", {"float": "exec"}],
    "a long text": ["eq", ["column", "s"], ["value", "x" * 20_000]],
    "a large list": ["isin", ["column", "x"], list(range(200_000))],
}


@pytest.mark.parametrize("tree", TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_tree_is_refused_on_load(tree: Any, tmp_path: Path) -> None:
    made = graph(["add", ["column", "x"], ["value", 1]], dtype="int64")
    made.save(tmp_path / "graph")
    assert FeatureGraph.load(tmp_path / "graph") == made
    file = tmp_path / "graph" / "graph.json"
    document = json.loads(file.read_text())
    document["nodes"][0]["params"]["columns"]["x"] = tree
    file.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="traced function"):
        FeatureGraph.load(tmp_path / "graph")


def test_a_deep_tree_is_refused_before_it_is_walked(tmp_path: Path) -> None:
    tree: Any = ["column", "x"]
    for _ in range(400):
        tree = ["neg", tree]
    with pytest.raises(CompileError, match="deep"):
        to_polars(graph(tree))


def test_a_bridged_function_runs_in_batch_only() -> None:
    frame = pl.DataFrame({"x": [3, 1, None, 2]})
    made = read(workflow(lambda col: col.rank() + 0.5), (Column("x", "int64"),), bridge_lambdas=True)
    assert made.output_columns[0].dtype == "float64"
    plan = to_polars(made)
    assert not plan.is_local
    ranks = plan.apply(frame.lazy()).collect()["x"].to_list()
    assert ranks[:2] + ranks[3:] == [3.5, 1.5, 2.5]
    assert ranks[2] != ranks[2]
    with pytest.raises(CompileError, match="Python function, which only batch runs"):
        to_onnx(made)


def test_a_saved_bridged_function_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = read(workflow(lambda col: col.rank()), (Column("x", "int64"),), bridge_lambdas=True)
    made.save(tmp_path / "graph")
    monkeypatch.setattr(bridge, "_FUNCTIONS", {})  # as another process has it
    with pytest.raises(CompileError, match=r"does not have.*Read its workflow again"):
        to_polars(FeatureGraph.load(tmp_path / "graph"))


@pytest.mark.parametrize("value", [300, -1, 100, 70_000, -40_000, 2**40, True, 0.5, 1e300])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32"])
def test_a_constant_gives_way_as_in_numpy(dtype: str, value: Any) -> None:
    from etl.compiler.lowering.promotion import with_constant

    with np.errstate(all="ignore"):
        expected = (np.ones(2, dtype) * value).dtype
    assert with_constant(dtype, value) == expected.name


def test_what_reads_a_removed_column_goes_with_it() -> None:
    nvtabular = door.nvtabular()
    ratio = ["x", "f"] >> nvtabular.ops.LambdaOp(lambda col, df: col / df["label"], dependency=["label"])
    plain = ["x"] >> nvtabular.ops.LambdaOp(lambda col, df: col + 1, dependency=["label"])
    workflow = nvtabular.Workflow(ratio[["f"]] + plain)
    columns = (Column("x", "int64"), Column("f", "float64"), Column("label", "int64"))
    made = read(workflow, columns).remove_inputs(["label"])
    assert [ref.column for ref in made.outputs] == ["x"]
    assert to_polars(made).apply(pl.LazyFrame({"x": [1]})).collect()["x"].to_list() == [2]
    assert [each.name for each in to_onnx(made).graph.input] == ["x", "f"]


def test_a_group_without_its_key_is_gone() -> None:
    nvtabular = door.nvtabular()
    grouped = nvtabular.Workflow(["x", "f", "g"] >> nvtabular.ops.Groupby("x", aggs="sum"))
    columns = (Column("x", "int64"), Column("f", "float64"), Column("g", "float64"))
    made = read(grouped, columns)
    assert [ref.column for ref in made.remove_inputs(["g"]).outputs] == ["x", "f_sum"]
    assert made.remove_inputs(["x"]).outputs == ()
