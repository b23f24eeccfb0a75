"""Graphs with tensors in a file beside them: saved, copied and opened (etl/onnx_files.py), and worked on.

What works on graphs here (joining, converting to another opset, ONNX Runtime's optimiser, ONNX's checker) cannot take
tensors from a file, or reads them all. `lift` makes them inputs while that lasts, and `restore` puts them back.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from etl.onnx_files import THRESHOLD, copy_graph, move_graph, open_graph, outside, read, save_graph

__all__ = [
    "THRESHOLD",
    "check",
    "copy_graph",
    "lift",
    "move_graph",
    "open_graph",
    "outside",
    "read",
    "restore",
    "save_graph",
]


def lift(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """Return a copy of `model` in which the tensors that lie outside are its last inputs, and those tensors."""
    tensors = outside(model)
    lifted = onnx.ModelProto()
    lifted.CopyFrom(model)
    kept = [tensor for tensor in model.graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    if tensors:
        del lifted.graph.initializer[:]
        lifted.graph.initializer.extend(kept)
    lifted.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in tensors
    )
    return lifted, tensors


def restore(model: onnx.ModelProto, tensors: Iterable[onnx.TensorProto], prefix: str = "") -> None:
    """Make initializers of the inputs that `lift` made, in place; in `model` their names start with `prefix`.

    Tensors that no node reads any more are left out.
    """
    lifted = {prefix + tensor.name: tensor for tensor in tensors}
    kept = [value for value in model.graph.input if value.name not in lifted]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    used = _read(model.graph)
    for name, tensor in lifted.items():
        if name in used:
            model.graph.initializer.add().CopyFrom(tensor)
            model.graph.initializer[-1].name = name


def check(model: onnx.ModelProto) -> None:
    """Check a graph as ONNX does, without reading what lies outside; onnx.checker.ValidationError if it is wrong."""
    onnx.checker.check_model(lift(model)[0] if outside(model) else model)


def _read(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _read(inner)
    return names
