"""Primitives -> an ONNX graph, for serving.

Every scalar column is [batch, 1]. A list column `x` is two inputs: `x` [batch, L], with anything in the padding, and
`x__length` int32 [batch, 1]; a list of fixed length is one tensor [batch, N]. L may be 0, and so may batch. Nulls are
sent as etl/dtypes.py says. A request may look otherwise: see etl/requests.py. An output is named as its feature, or
`<feature>__out` where an input has that name; the model's metadata tells (`feature_tensors`), and holds the graph's
fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import onnx
from onnx import helper

from etl.compiler import expr as e
from etl.compiler.lowering import lower, problem_of
from etl.compiler.targets import (
    onnx_arithmetic,  # noqa: F401 - fills RULES
    onnx_requests,
    onnx_tables,  # noqa: F401 - fills RULES
)
from etl.compiler.targets.onnx_builder import Builder
from etl.compiler.targets.onnx_nullable import Nullable
from etl.compiler.targets.onnx_requests import Door
from etl.compiler.targets.onnx_rules import RULES
from etl.compiler.targets.onnx_value import Value, cast
from etl.compiler.targets.onnx_vectorise import vectorise
from etl.dtypes import dtype as dtype_named
from etl.errors import CompileError, Problem
from etl.graph import INPUT, FeatureGraph, OpNode, Ref
from etl.names import FEATURES, FINGERPRINT
from etl.requests import NULL_AS, RequestForm, check_forms

RAGGED = "a ragged list cannot be an output tensor."
"""Why a feature is refused that may well be an operator's input."""

_LARGEST = 2**31 - 2**16
"""A protobuf message must stay below 2 GiB."""


def compile(
    graph: FeatureGraph, whole: FeatureGraph | None = None, requests: Mapping[str, RequestForm] | None = None
) -> onnx.ModelProto:
    """Return the model of a fitted graph; CompileError with every problem.

    `whole` is the graph that `graph` is a part of (`remove_inputs`), if any: the model carries its fingerprint, which
    is the one that the training data has. `requests` says of raw columns, by name, how they arrive (etl/requests.py);
    ConfigError for a form that its column cannot have.
    """
    forms = requests or {}
    check_forms(graph.inputs, forms)
    lowered, problems = lower(graph, graph.outputs, "onnx")
    builder = Builder(())
    doors = onnx_requests.doors(builder, graph.inputs, forms)
    inputs = [info for column in graph.inputs for info in doors[column.name].inputs]
    tensors = _tensor_names(graph, {info.name for info in inputs})
    builder.take([*(info.name for info in inputs), *tensors.values()])
    nullable = {c.name: NULL_AS[c.dtype] for c in graph.inputs if c.name in forms and c.dtype in NULL_AS}
    with_nulls = Nullable({name: kind for name, kind in nullable.items() if forms[name].says_null})
    memo: dict[e.Expr, Value] = {}
    outputs = []
    for ref in graph.outputs:
        if ref not in lowered:
            continue
        expr = None
        try:
            expr = with_nulls.whole(lowered[ref])
            value = _spell(expr, memo, builder, doors)
            outputs.append(_output(expr, value, tensors[ref.column], builder))
        except e.Refusal as refusal:
            unspelled = None if expr is None or expr in memo else _refused(expr, memo)
            made_by = None if unspelled is None else _made_by(graph, lowered, unspelled)
            problems.append(_problem(graph, made_by or ref, refusal))
    if problems:
        raise CompileError(problems)
    metadata = {FINGERPRINT: (whole or graph).fingerprint, FEATURES: json.dumps(tensors)}
    model = vectorise(builder.model(inputs, outputs, metadata))
    if model.ByteSize() > _LARGEST:
        raise CompileError([Problem("graph", (), "onnx", "it is larger than 2 GiB.", "Give Categorify a max_size.")])
    return model


def feature_tensors(model: onnx.ModelProto) -> dict[str, str]:
    """Return the name of each feature's output tensor in a model made by `compile`."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    found: dict[str, str] = json.loads(metadata[FEATURES])
    return found


def _tensor_names(graph: FeatureGraph, taken: set[str]) -> dict[str, str]:
    """Return a tensor name for each feature: its own, unless an input of the graph has it (names are unique there)."""
    return {ref.column: f"{ref.column}__out" if ref.column in taken else ref.column for ref in graph.outputs}


def _output(expr: e.Expr, value: Value, name: str, builder: Builder) -> tuple[str, onnx.ValueInfoProto]:
    if value.lengths is not None:
        raise e.Refusal(RAGGED, "End it with ListSlice(..., pad=True).")
    value = cast(builder, value, expr.type.dtype)
    width = expr.type.length if expr.type.is_list else 1
    return value.name, helper.make_tensor_value_info(name, dtype_named(expr.type.dtype).onnx, ["batch", width])


def _problem(graph: FeatureGraph, ref: Ref, refusal: e.Refusal) -> Problem:
    node = next((node for node in graph.nodes if node.id == ref.node), OpNode(INPUT, "output", (), ()))
    refusal.columns = refusal.columns or (ref.column,)
    return problem_of(node, refusal, "onnx")


def _refused(expr: e.Expr, memo: Mapping[e.Expr, Value]) -> e.Expr:
    """Return what could not be spelled on the way to `expr`, which may be the work of an operator far above."""
    while (part := next((part for part in _parts(expr) if part not in memo), None)) is not None:
        expr = part
    return expr


def _parts(expr: e.Expr) -> tuple[e.Expr, ...]:
    return _parts(expr.serving) if isinstance(expr, e.OutOfFold) else expr.parts


def _made_by(graph: FeatureGraph, lowered: Mapping[Ref, e.Expr], wanted: e.Expr) -> Ref | None:
    """Return the first column of an operator that has `wanted` in it."""
    seen: set[e.Expr] = set()
    for ref in (Ref(node.id, column.name) for node in graph.nodes for column in node.outputs):
        waiting = [lowered[ref]] if ref in lowered else []
        while waiting:
            expr = waiting.pop()
            if expr is wanted:
                return ref
            waiting += [] if expr in seen else expr.parts
            seen.add(expr)
    return None


def _spell(expr: e.Expr, memo: dict[e.Expr, Value], builder: Builder, doors: Mapping[str, Door]) -> Value:
    if isinstance(expr, e.OutOfFold):  # a request is never a row that the model is trained on
        return _spell(expr.serving, memo, builder, doors)
    if expr not in memo:
        if isinstance(expr, e.Col) and not expr.rows:
            memo[expr] = doors[expr.name].open()
        else:
            parts = [_spell(part, memo, builder, doors) for part in expr.parts]
            memo[expr] = RULES[type(expr)](builder, expr, *parts)
    return memo[expr]
