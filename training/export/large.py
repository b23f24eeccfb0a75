"""TensorFlow functions as ONNX graphs, also those with tables that no protobuf message can hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl.onnx_files import THRESHOLD, keep_in, outside, place


def convert(traced: Any, signature: Sequence[Any], opset: int, folder: Path, threshold_bytes: int = THRESHOLD) -> Any:
    """Return the ONNX graph of a `tf.function`.

    When its variables have more than `threshold_bytes`, each large one is in a file of its own in `folder`, which must
    live as long as the graph; a frozen TensorFlow graph and an ONNX graph alike hold less than 2 GiB.
    """
    import tf2onnx

    variables = traced.get_concrete_function(*signature).graph.variables
    large = sum(variable.shape.num_elements() * variable.dtype.size for variable in variables) > threshold_bytes
    proto, stored = tf2onnx.convert.from_function(traced, input_signature=signature, opset=opset, large_model=large)
    for number, tensor in enumerate(outside(proto)):
        content = stored.name_to_tensor_data.pop(str(place(tensor).file))
        keep_in(tensor, content, folder / f"table_{number}")
    return proto
