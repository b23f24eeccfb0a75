"""The compiler: what it refuses, what it names, and how many nodes a request costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest

from etl.compiler import expr as e
from etl.compiler import feature_tensors, relational, to_onnx, to_polars
from etl.compiler.lowering import RULES as LOWERING
from etl.compiler.murmur import hash_series
from etl.compiler.registry import Registry
from etl.compiler.targets import onnx_rules, polars
from etl.errors import CompileError, MewsError, SchemaError
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.operators import OPERATORS

RAGGED = Column("l", "int64", True)
INPUTS = (Column("i", "int64"), Column("f", "float64"), Column("s", "string"), Column("b", "bool"), RAGGED)
DECLARED = {
    "Categorify": "int64",
    "Normalize": "float64",
    "NormalizeMinMax": "float64",
    "LogOp": "float32",
    "Bucketize": "int32",
}


def one(op: str, column: str, params: dict[str, Any] | None = None, state: Any = None, **declared: Any) -> FeatureGraph:
    """A graph of one operator on one column."""
    raw = next(each for each in INPUTS if each.name == column)
    made = Column(column, declared.pop("dtype", DECLARED.get(op, raw.dtype)), raw.is_list, **declared)
    node = OpNode("op", op, (Ref("input", column),), (made,), params or {}, state)
    return FeatureGraph(INPUTS, (node,), (Ref("op", column),))


def vocabulary(*values: Any) -> dict[str, pl.DataFrame]:
    return {"s": pl.DataFrame({"value": values, "count": [1] * len(values)}), "i": pl.DataFrame({"value": values})}


REFUSED = {
    "unknown operator": (one("Shuffle", "f"), "there is no rule for it"),
    "unfitted Categorify": (one("Categorify", "s"), "not fitted"),
    "unfitted Normalize": (one("Normalize", "f"), "not fitted"),
    "state without the column": (
        one("Normalize", "f", {}, {"moments": pl.DataFrame({"column": ["g"], "mean": [0.0], "std": [1.0]})}),
        "does not hold this column",
    ),
    "vocabulary of another kind": (
        one("Categorify", "s", {}, {"s": pl.DataFrame({"value": [1]})}),
        "its vocabulary is of",
    ),
    "vocabulary with the empty string": (one("Categorify", "s", {}, vocabulary("a", "")), "means null in a request"),
    "inexact vocabulary": (one("Categorify", "i", {}, {"i": pl.DataFrame({"value": [2.0**60]})}), "not exact"),
    "logarithm of strings": (one("LogOp", "s"), "takes numbers"),
    "clip of a list": (one("Clip", "l", {"min_value": 0}), "does not take lists"),
    "clip of a boolean": (one("Clip", "b", {"min_value": 0}), "takes numbers"),
    "clip by a fraction": (one("Clip", "i", {"min_value": 0.5}), "not a value of type int64"),
    "fill of another type": (one("FillMissing", "s", {"fill_val": 0}), "not a value of type string"),
    "fill of integers with a fraction": (one("FillMissing", "i", {"fill_val": 0.5}), "not a value of type int64"),
    "fill with what means null": (one("FillMissing", "s", {"fill_val": ""}), "not a value of type string"),
    "fill of a list": (one("FillMissing", "l", {"add_binary_cols": True}), "never filled"),
    "boundaries without order": (one("Bucketize", "f", {"boundaries": [1, 3, 2]}), "must be sorted"),
    "no boundaries for the column": (one("Bucketize", "f", {"boundaries": {"g": [1]}}), "no boundaries"),
    "boundaries that are not exact": (one("Bucketize", "i", {"boundaries": [2**60]}), "not exact"),
    "slice of a scalar": (one("ListSlice", "f", {"start": 1}), "takes lists"),
    "padding without an end": (one("ListSlice", "l", {"start": 0, "pad": True}), "longest result"),
    "padding with a fraction": (
        one("ListSlice", "l", {"start": 2, "pad": True, "pad_value": 0.5}, length=2),
        "pad_value",
    ),
    "float16": (
        one(
            "Normalize",
            "f",
            {"out_dtype": "float16"},
            {"moments": pl.DataFrame({"column": ["f"], "mean": [0.0], "std": [1.0]})},
        ),
        "float16",
    ),
    "declared as something else": (one("LogOp", "f", dtype="int64"), "the graph declares int64"),
}


@pytest.mark.parametrize("compiled", [to_polars, to_onnx])
@pytest.mark.parametrize(("graph", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_expressed_is_refused(graph: FeatureGraph, reason: str, compiled: Any) -> None:
    with pytest.raises(CompileError, match=reason) as caught:
        compiled(graph)
    (problem,) = caught.value.problems
    assert problem.operator == graph.nodes[0].op
    assert problem.columns == (graph.outputs[0].column,)


def test_every_problem_is_told_at_once() -> None:
    refs = (Ref("input", "s"), Ref("input", "f"), Ref("input", "b"))
    log = OpNode("a", "LogOp", refs, tuple(Column(ref.column, "float32") for ref in refs))
    clip = OpNode("b", "Clip", (Ref("input", "l"),), (RAGGED,), {"min_value": 0})
    after = OpNode("c", "Normalize", (Ref("a", "s"),), (Column("after", "float64"),))
    graph = FeatureGraph(INPUTS, (log, clip, after), (Ref("a", "b"), Ref("b", "l"), Ref("c", "after"), Ref("a", "f")))
    with pytest.raises(CompileError) as caught:
        to_onnx(graph)
    told = [(problem.operator, problem.columns) for problem in caught.value.problems]
    assert told == [("LogOp", ("s",)), ("LogOp", ("b",)), ("Clip", ("l",))], "what depends on a problem is not one"


def test_a_ragged_output_is_refused_for_serving_only() -> None:
    graph = one("ListSlice", "l", {"start": 2})
    assert to_polars(graph).exprs
    with pytest.raises(CompileError, match=r"ListSlice\(\.\.\., pad=True\)"):
        to_onnx(graph)


def test_tensors_are_named_as_columns_and_inputs_keep_their_names() -> None:
    rename = OpNode("r", "Rename", (Ref("input", "i"),), (Column("renamed", "int64"),), {"name": "renamed"})
    log = OpNode("l", "LogOp", (Ref("input", "f"),), (Column("f", "float32"),))
    graph = FeatureGraph(INPUTS, (rename, log), (Ref("r", "renamed"), Ref("l", "f"), Ref("input", "s")))
    model = to_onnx(graph)
    assert [each.name for each in model.graph.input] == ["i", "f", "s", "b", "l", "l__length"]
    assert feature_tensors(model) == {"renamed": "renamed", "f": "f__out", "s": "s__out"}
    assert {each.key: each.value for each in model.metadata_props}["mews.fingerprint"] == graph.fingerprint


def test_one_lookup_is_one_node() -> None:
    model = to_onnx(one("Categorify", "s", {}, vocabulary("a", "b")))
    assert [node.op_type for node in model.graph.node] == ["LabelEncoder"]


def test_shared_work_is_done_once() -> None:
    fill = OpNode(
        "m",
        "FillMissing",
        (Ref("input", "f"),),
        (Column("f", "float64"), Column("f_filled", "bool")),
        {"add_binary_cols": True},
    )
    logs = [OpNode(f"l{n}", "LogOp", (Ref("m", "f"),), (Column(f"log{n}", "float32"),)) for n in range(2)]
    graph = FeatureGraph(INPUTS, (fill, *logs), (Ref("m", "f_filled"), Ref("l0", "log0"), Ref("l1", "log1")))
    kinds = [node.op_type for node in to_onnx(graph).graph.node]
    assert sorted(kinds) == ["Add", "Cast", "Identity", "IsNaN", "Log", "Where"]


def test_missing_and_mistyped_columns_are_named() -> None:
    plan = to_polars(FeatureGraph(INPUTS, (), tuple(Ref("input", name) for name in ("i", "f", "l"))))
    frame = pl.LazyFrame({"i": ["a"], "l": [1], "more": [1]})
    with pytest.raises(SchemaError, match="'i' is String, not int64; 'f' is missing; 'l' is Int64, not list of int64"):
        plan.apply(frame)
    nothing = plan.apply(pl.LazyFrame({"i": [None], "f": [None], "l": [None]})).collect()
    assert nothing.schema == {"i": pl.Int64, "f": pl.Float64, "l": pl.List(pl.Int64)}


def test_every_primitive_has_a_rule_in_every_target() -> None:
    spelled = leaves(e.Expr) - {e.OutOfFold}  # OutOfFold is one of its two parts in every target
    assert set(polars.RULES) == set(onnx_rules.RULES) == spelled
    assert set(LOWERING) == {name for name, facts in OPERATORS.items() if facts.rows == "keeps"}
    assert set(relational.RULES) == {name for name, facts in OPERATORS.items() if facts.rows != "keeps"}


def leaves(base: type[Any]) -> set[type[Any]]:
    """The classes below `base` that nothing is derived from."""
    below = base.__subclasses__()
    return set().union(*map(leaves, below)) if below else {base}


def test_a_registry_takes_one_rule_per_key() -> None:
    registry: Registry[int] = Registry("colour")
    registry.register("red")(1)
    with pytest.raises(ValueError, match="two rules for colour 'red'"):
        registry.register("red")(2)
    with pytest.raises(MewsError, match="colour 'blue'; expected one of: red"):
        registry["blue"]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series(["", "a", "ab", "abc", "abcd", "abcde", "日本語", "x" * 257, "a\0b"]),
        pl.Series([0, 1, -1, 2**63 - 1, -(2**63), 123456789]),
        pl.Series([0.0, 1.5, float("inf"), 1e-300]),
    ],
)
def test_our_hash_is_onnx_runtimes(values: pl.Series) -> None:
    dtype = {pl.String: "string", pl.Int64: "int64", pl.Float64: "float64"}[values.dtype]
    raw = Column("x", dtype)
    table = {"x": pl.DataFrame({"value": pl.Series([], dtype=values.dtype)})}
    node = OpNode("c", "Categorify", (Ref("input", "x"),), (Column("x", "int64"),), {"num_buckets": 997}, table)
    session = onnxruntime.InferenceSession(to_onnx(FeatureGraph((raw,), (node,), (Ref("c", "x"),))).SerializeToString())
    sent = values.to_numpy().reshape(-1, 1) if dtype != "string" else np.array(values.to_list(), object).reshape(-1, 1)
    received = session.run(None, {"x": sent})[0].ravel()
    expected = hash_series(values) % 997 + 2
    known = [value not in ("", -(2**63)) for value in values]
    assert received[known].tolist() == expected[known].tolist()
    assert (received[~np.array(known)] == 1).all()
