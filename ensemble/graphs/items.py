"""A model that answers with codes of items, made to answer with the items themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from etl.errors import ArtifactError
from etl.names import ITEM

_CODES, _TABLE = f"{ITEM}__codes", f"{ITEM}__values"


def with_items(model: onnx.ModelProto, values: npt.NDArray[Any]) -> onnx.ModelProto:
    """Return the model with its output `item` looked up in `values` [codes], of numbers or of strings (objects).

    ArtifactError when it has no such output.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    output = next((value for value in made.graph.output if value.name == ITEM), None)
    if output is None:
        received = ", ".join(value.name for value in made.graph.output)
        raise ArtifactError("the model", expected=f"an output {ITEM!r}", received=received)
    for node in made.graph.node:
        node.input[:] = [_CODES if name == ITEM else name for name in node.input]
        node.output[:] = [_CODES if name == ITEM else name for name in node.output]
    made.graph.initializer.append(_tensor(values))
    made.graph.node.append(helper.make_node("Gather", [_TABLE, _CODES], [ITEM], name=_TABLE))
    output.type.tensor_type.elem_type = made.graph.initializer[-1].data_type
    return made


def _tensor(values: npt.NDArray[Any]) -> onnx.TensorProto:
    if values.dtype != object:
        return numpy_helper.from_array(np.ascontiguousarray(values), _TABLE)
    encoded = [str(value).encode() for value in values]
    return helper.make_tensor(_TABLE, TensorProto.STRING, [len(encoded)], encoded)
