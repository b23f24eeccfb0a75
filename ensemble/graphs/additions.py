"""Inputs and outputs that a graph gets beside its own; the graph given is left as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx


def with_copies(model: onnx.ModelProto, copies: Mapping[str, str]) -> onnx.ModelProto:
    """Return the graph with each output of `copies` a second time, under the name that it maps to."""
    added = _copied(model)
    values = {value.name: value for value in model.graph.output}
    for name, copy in copies.items():
        added.graph.node.append(onnx.helper.make_node("Identity", [name], [copy], name=copy))
        added.graph.output.append(onnx.ValueInfoProto(name=copy, type=values[name].type))
    return added


def with_columns(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Return the graph with each output of `names`, [batch], as one of [batch, 1] under the name that it maps to."""
    added = _copied(model)
    shape = onnx.helper.make_tensor("mews__column", onnx.TensorProto.INT64, [2], [-1, 1])
    added.graph.initializer.append(shape)
    for value in added.graph.output:
        if (old := value.name) in names:
            value.name = names[old]
            value.type.tensor_type.shape.dim.add(dim_value=1)
            added.graph.node.append(onnx.helper.make_node("Reshape", [old, shape.name], [value.name], name=value.name))
    return added


def with_inputs(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], defaults: Sequence[onnx.TensorProto] = ()
) -> onnx.ModelProto:
    """Return the graph with inputs that it does not read, and the values of those that may be left out."""
    added = _copied(model)
    added.graph.input.extend(inputs)
    added.graph.initializer.extend(defaults)
    return added


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
