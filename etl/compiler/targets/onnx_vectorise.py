"""Columns that take the same way as one tensor.

Thirteen columns with the same chain of operators are thirteen times as many nodes, and for one row a node costs more
than what it computes. So raw columns [batch, 1] of one type whose operators differ in constants at most are joined to
[batch, n], every operator runs once with its constants as [1, n], and the results are split again. Every operator here
works on each value by itself, so the numbers are the same, but for the last bit of a function such as Log: ONNX Runtime
computes the last few values of any tensor by another way than the rest, joined or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# fmt: off
_EACH = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Div", "Equal", "Exp", "Floor", "Greater", "GreaterOrEqual",
    "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Round", "Sqrt",
    "Sub", "Tanh", "Where", "Xor",
})
# fmt: on
"""Operators of ONNX that work on each value by itself, and take constants that broadcast."""

_SCALAR_CONSTANTS = frozenset(["Clip"])
"""Of those, the ones whose constants must be one number: columns are joined only where they have the same."""

_SCALARS = ((), (1,), (1, 1))


@dataclass
class _Way:
    """One raw column and the nodes that work on it alone, in order."""

    source: onnx.ValueInfoProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    @property
    def made(self) -> list[str]:
        """The tensors, the raw column first; the same place in another way of the same shape is the same step."""
        return [self.source.name, *(node.output[0] for node in self.nodes)]


def vectorise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model`, changed in place, with columns that take the same way joined; outputs keep their names."""
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    ways = _ways(graph, constants)
    outside = _read_outside(graph, ways)
    groups: dict[object, list[_Way]] = {}
    for way in ways:
        groups.setdefault(_shape(way, constants, outside), []).append(way)
    made: list[onnx.NodeProto] = []
    joined: list[_Way] = []
    for group in groups.values():
        shared = [place for place, name in enumerate(group[0].made) if place and name in outside]
        if len(group) * len(group[0].nodes) > len(group[0].nodes) + 1 + len(shared) and shared:
            made += _join(graph, group, shared, constants)
            joined += group
    if joined:
        gone = {node.output[0] for way in joined for node in way.nodes}
        nodes = [*made, *(node for node in graph.node if node.output[0] not in gone)]
        _replace(graph, nodes)
    return model


def _ways(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto]) -> list[_Way]:
    ways = {info.name: _Way(info) for info in graph.input if _is_one_wide(info) and info.name not in constants}
    owner = {name: name for name in ways}
    for node in graph.node:
        columns = {owner.get(name) for name in node.input if name not in constants}
        steady = all(tuple(constants[name].dims) in _SCALARS for name in node.input if name in constants)
        if node.op_type in _EACH and not node.domain and steady and len(columns) == 1 and (name := columns.pop()):
            ways[name].nodes.append(node)
            owner[node.output[0]] = name
    return [way for way in ways.values() if way.nodes]


def _is_one_wide(info: onnx.ValueInfoProto) -> bool:
    dims = info.type.tensor_type.shape.dim
    return len(dims) == 2 and dims[0].dim_param == "batch" and dims[1].dim_value == 1


def _read_outside(graph: onnx.GraphProto, ways: Sequence[_Way]) -> set[str]:
    """Return what is read by others than the nodes of a way: by the graph's outputs and by other operators."""
    inside = {node.output[0] for way in ways for node in way.nodes}
    read = {info.name for info in graph.output}
    for node in graph.node:
        if node.output[0] not in inside:
            read.update(node.input)
    return read


def _shape(way: _Way, constants: dict[str, onnx.TensorProto], outside: set[str]) -> object:
    """Return a value that two ways share when they differ in their constants at most."""
    places = {name: place for place, name in enumerate(way.made)}
    steps = []
    for node in way.nodes:
        inputs: list[object] = []
        for name in node.input:
            if name in constants:
                value = numpy_helper.to_array(constants[name]).tobytes() if node.op_type in _SCALAR_CONSTANTS else b""
                inputs.append((constants[name].data_type, value))
            else:
                inputs.append(places[name])
        attributes = tuple(sorted(attribute.SerializeToString() for attribute in node.attribute))
        steps.append((node.op_type, attributes, tuple(inputs), node.output[0] in outside))
    return way.source.type.tensor_type.elem_type, tuple(steps)


def _join(
    graph: onnx.GraphProto, group: Sequence[_Way], shared: Sequence[int], constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Return the nodes for a group; constants that differ are added to `graph`."""
    stem = f"{group[0].source.name}__and_{len(group) - 1}_more"
    names = [f"{stem}__{place}" for place in range(len(group[0].made))]
    places = {name: place for place, name in enumerate(group[0].made)}
    nodes = [helper.make_node("Concat", [way.source.name for way in group], [names[0]], name=names[0], axis=1)]
    for step, node in enumerate(group[0].nodes, start=1):
        joined = onnx.NodeProto()
        joined.CopyFrom(node)
        joined.name = names[step]
        joined.output[:] = [names[step]]
        for number, name in enumerate(node.input):
            if name in places:
                joined.input[number] = names[places[name]]
                continue
            values = [numpy_helper.to_array(constants[way.nodes[step - 1].input[number]]) for way in group]
            if any(value.tobytes() != values[0].tobytes() for value in values):
                joined.input[number] = f"{names[step]}__{number}"
                graph.initializer.append(_row(values, joined.input[number]))
        nodes.append(joined)
    for place in shared:
        outputs = [way.made[place] for way in group]
        nodes.append(helper.make_node("Split", [names[place]], outputs, name=f"{names[place]}__split", axis=1))
    return nodes


def _row(values: Sequence[NDArray[np.generic]], name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.concatenate([value.reshape(1, 1) for value in values], axis=1), name)


def _replace(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Put `nodes` in place of the graph's, and drop the constants that none of them reads."""
    used = {name for node in nodes for name in node.input} | {info.name for info in graph.input}
    kept = [t for t in graph.initializer if t.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
