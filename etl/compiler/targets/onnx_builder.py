"""Nodes, constants and names of an ONNX graph: the only place that makes a name.

The same node on the same inputs is made once, and so is a constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# tf2onnx writes opset 17; a fused graph needs one opset for both of its halves.
OPSETS = {"": 17, "ai.onnx.ml": 4, "com.microsoft": 1}
IR_VERSION = 8


class Builder:
    """Collects nodes; `taken` are the names of the graph's own inputs and outputs."""

    def __init__(self, taken: Sequence[str]) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._made: dict[tuple[Any, ...], str] = {}
        self._taken = set(taken)
        self._defaults: list[onnx.TensorProto] = []
        self._declared: list[onnx.ValueInfoProto] = []

    def take(self, names: Iterable[str]) -> None:
        """Keep `names` free for inputs and outputs."""
        self._taken.update(names)

    def default(self, value: onnx.TensorProto) -> None:
        """Make the input that `value` is named after optional: absent, it is `value`."""
        self._defaults.append(value)

    def declare(self, value: onnx.ValueInfoProto) -> None:
        """Say what a tensor is that an operator outside ONNX makes: ONNX's shape inference crashes without."""
        self._declared.append(value)

    def constant(self, value: Any, dtype: str) -> str:
        """Return the name of a constant tensor; `dtype` is NumPy's name, or "string"."""
        array = np.asarray(value, dtype=object if dtype == "string" else dtype)
        key = ("constant", dtype, array.shape, array.tobytes() if dtype != "string" else tuple(array.ravel()))
        if key not in self._made:
            name = self._made[key] = self._name("constant")
            self._constants[name] = tensor(array, name)
        return self._made[key]

    def node(self, op: str, *inputs: str, domain: str = "", label: str = "", **attributes: Any) -> str:
        """Return the name of the first output of a node `op` on `inputs`; `label` is the node's name in messages."""
        key: tuple[object, ...]
        if any(isinstance(value, onnx.TensorProto) for value in attributes.values()):
            key = (op, object())  # a table's repr is as long as the table; Exprs are shared by identity already
        else:
            key = (op, domain, label, inputs, tuple(sorted((name, repr(value)) for name, value in attributes.items())))
        if key not in self._made:
            name = self._made[key] = self._name(op)
            made = helper.make_node(op, list(inputs), [name], name=label or name, domain=domain, **attributes)
            self._nodes.append(made)
        return self._made[key]

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[tuple[str, onnx.ValueInfoProto]],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """Return the model whose outputs are the tensors named first in `outputs`, under the names they declare."""
        sources = {info.name for info in inputs}
        renamed: dict[str, str] = {}
        for source, info in outputs:
            if source in sources or source in self._constants or source in renamed:
                self._nodes.append(helper.make_node("Identity", [source], [info.name], name=f"{info.name}__identity"))
            else:
                renamed[source] = info.name
        for node in self._nodes:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        used = {name for node in self._nodes for name in node.input}  # a table's default is inside its node
        initializers = [constant for name, constant in self._constants.items() if name in used]
        initializers += self._defaults
        made = [info for _, info in outputs]
        graph = helper.make_graph(self._nodes, "features", inputs, made, initializers, value_info=self._declared)
        domains = {"", *(node.domain for node in self._nodes)}
        opsets = [helper.make_opsetid(domain, OPSETS[domain]) for domain in sorted(domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mews")
        helper.set_model_props(model, metadata)
        return model

    def _name(self, op: str) -> str:
        number = len(self._made)
        while f"{op}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{op}_{number}")
        return f"{op}_{number}"


def tensor(array: NDArray[Any], name: str = "") -> onnx.TensorProto:
    """Return `array` as a tensor; an object array holds strings."""
    if array.dtype != object:
        return numpy_helper.from_array(array, name)
    values = [value.encode("utf-8") for value in array.ravel()]
    return helper.make_tensor(name, onnx.TensorProto.STRING, array.shape, values)
