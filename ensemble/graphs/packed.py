"""Graphs that take columns side by side: one Split for each packed tensor, then what the graph reads anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from ensemble.graphs.fuse import Link
from etl.dtypes import dtype
from etl.names import PACKED


def read_packed(link: Link, sides: Mapping[str, Sequence[str]]) -> Link:
    """Return the graph with packed tensors in place of the inputs that are wired to packed columns.

    `sides` has the raw columns of each packed tensor, in order. A column is cast to the type that the graph reads;
    that is exact, for what was packed was of that type. A graph that reads none of them is returned as it is.
    """
    readers: dict[str, list[str]] = {}
    for name, source in link.wiring.items():
        readers.setdefault(source, []).append(name)
    used = {side: columns for side, columns in sides.items() if any(column in readers for column in columns)}
    if not used:
        return link
    model = onnx.ModelProto()
    model.CopyFrom(link.model)
    values = {value.name: value for value in link.model.graph.input}
    front, inputs = [], []
    for side, columns in used.items():
        dims = [_batch(values, readers, columns), len(columns)]
        inputs.append(onnx.helper.make_tensor_value_info(side, _kind(side), dims))
        front += _split(model, side, columns, readers, values)
    gone = {name for columns in used.values() for column in columns for name in readers.get(column, ())}
    kept = [*inputs, *(value for value in model.graph.input if value.name not in gone)]
    nodes = [*front, *model.graph.node]
    for field, now in ((model.graph.input, kept), (model.graph.node, nodes)):
        del field[:]
        field.extend(now)
    wiring = {side: side for side in used} | {n: source for n, source in link.wiring.items() if n not in gone}
    return Link(link.role, model, wiring)


def _kind(side: str) -> int:
    return dtype(side.removeprefix(PACKED)).onnx


def _batch(
    values: Mapping[str, onnx.ValueInfoProto], readers: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> str:
    """Return what the graph calls the batch dimension of the first of the columns that it reads."""
    name = next(readers[column][0] for column in columns if column in readers)
    return values[name].type.tensor_type.shape.dim[0].dim_param or "batch"


def _split(
    model: onnx.ModelProto,
    side: str,
    columns: Sequence[str],
    readers: Mapping[str, Sequence[str]],
    values: Mapping[str, onnx.ValueInfoProto],
) -> list[onnx.NodeProto]:
    """Return the nodes that make the columns of one packed tensor, each [batch, 1]."""
    sizes = onnx.numpy_helper.from_array(np.ones(len(columns), np.int64), f"{side}/sizes")
    model.graph.initializer.append(sizes)
    parts = [f"{side}/{column}" for column in columns]
    nodes = [onnx.helper.make_node("Split", [side, sizes.name], parts, axis=1, name=f"{side}/split")]
    for part, column in zip(parts, columns, strict=True):
        for name in readers.get(column, ()):
            kind = values[name].type.tensor_type.elem_type
            made = ("Identity", {}) if kind == _kind(side) else ("Cast", {"to": kind})
            nodes.append(onnx.helper.make_node(made[0], [part], [name], name=f"{side}/{name}", **made[1]))
    return nodes
