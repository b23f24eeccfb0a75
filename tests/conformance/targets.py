"""Run a fitted graph on a frame in each target; every target gives lists of Python values by feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl

from etl.compiler import feature_tensors, to_onnx, to_polars
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float
from etl.graph import Column, FeatureGraph, OpNode, Ref

Values = dict[str, list[Any]]
GARBAGE: Mapping[str, Any] = {"string": "garbage"}


def run_polars(graph: FeatureGraph, frame: pl.DataFrame) -> Values:
    """Run the Polars plan."""
    made = to_polars(graph).apply(frame.lazy()).collect()
    for column in graph.output_columns:
        inner = dtype_named(column.dtype).polars
        assert made.schema[column.name] == (pl.List(inner) if column.is_list else inner), column
    return {series.name: series.to_list() for series in made}


def run_onnx(graph: FeatureGraph, frame: pl.DataFrame) -> Values:
    """Run the ONNX graph in ONNX Runtime, outputs as served: lists of fixed length only."""
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    used = {name for node in model.graph.node for name in node.input}
    assert {constant.name for constant in model.graph.initializer} <= used, "ONNX Runtime warns of unused constants"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {}
    for column in graph.inputs:
        feeds |= encode(column, frame.get_column(column.name))
    tensors = feature_tensors(model)
    found = dict(zip((output.name for output in session.get_outputs()), session.run(None, feeds), strict=True))
    return {column.name: decode(column, found[tensors[column.name]]) for column in graph.output_columns}


TARGETS: dict[str, Callable[[FeatureGraph, pl.DataFrame], Values]] = {"polars": run_polars, "onnx": run_onnx}


def encode(column: Column, series: pl.Series) -> dict[str, Any]:
    """Return a raw column as request tensors; the padding of lists is garbage."""
    kind = dtype_named(column.dtype)
    numpy_type = "int64" if column.dtype == "datetime" else kind.numpy
    if not column.is_list:
        values = [kind.null if value is None else value for value in series.to_physical().to_list()]
        return {column.name: np.array(values, numpy_type).reshape(-1, 1)}
    rows = [[kind.null if value is None else value for value in row or ()] for row in series.to_list()]
    width = max((len(row) for row in rows), default=0) + 2
    padding = GARBAGE.get(column.dtype, 77)
    padded = np.array([row + [padding] * (width - len(row)) for row in rows], numpy_type).reshape(-1, width)
    lengths = np.array([len(row) for row in rows], np.int32).reshape(-1, 1)
    return {column.name: padded, f"{column.name}__length": lengths}


def decode(column: Column, tensor: Any) -> list[Any]:
    """Return an output tensor as values, nulls as None."""
    kind = dtype_named(column.dtype)
    assert tensor.dtype == np.dtype("int64" if column.dtype == "datetime" else kind.numpy), (column, tensor.dtype)
    rows = tensor.tolist()
    if not is_float(column.dtype):
        rows = [[None if kind.null is not None and value == kind.null else value for value in row] for row in rows]
    return rows if column.is_list else [row[0] for row in rows]


def padded(graph: FeatureGraph, length: int) -> FeatureGraph:
    """Return the graph with every ragged output cut or padded to `length`, since ONNX has no ragged tensors."""
    nodes, outputs = list(graph.nodes), []
    for ref, column in zip(graph.outputs, graph.output_columns, strict=True):
        if not column.is_list or column.length is not None:
            outputs.append(ref)
            continue
        params = {"start": 0, "end": length, "pad": True, "pad_value": "" if column.dtype == "string" else 0}
        nodes.append(OpNode(f"pad_{len(nodes)}", "ListSlice", (ref,), (replace(column, length=length),), params))
        outputs.append(Ref(nodes[-1].id, column.name))
    return FeatureGraph(graph.inputs, tuple(nodes), tuple(outputs))
