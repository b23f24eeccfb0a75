"""Large integer vocabularies as arrays that ONNX Runtime maps into memory, in the place of LabelEncoder.

A LabelEncoder's keys are attributes: every process reads them all when it starts, and builds a hash table of its own.
For 10 million keys that is 590 MiB each. Here the hash table is built once, as three tensors of the graph, which may
lie in a file beside it: keys and codes in the order of their buckets, and where each bucket starts. A look-up reads
one bucket. So a start reads nothing, instances share the pages, and one look-up is more nodes than one.

    bucket   = (key * MULTIPLIER) mod buckets
    position = starts[bucket] + 0 .. width - 1          width: of the fullest bucket
    code     = default + sum((keys[position] == key) * (codes[position] - default))
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ensemble.graphs.external import THRESHOLD, check, save_graph

Array = npt.NDArray[Any]
SMALLEST = 1_000_000
"""Keys from which a vocabulary is mapped."""

_MULTIPLIER = np.int64(-7046029254386353131)  # 2**64 / the golden ratio, odd; products wrap around
_KEYS_IN_A_BUCKET = 2


def map_vocabularies(model: onnx.ModelProto, smallest: int = SMALLEST) -> onnx.ModelProto:
    """Return the graph with each LabelEncoder from int64 to int64 that has at least `smallest` keys as tensors.

    The answers are the same for every key. Without such a node the graph itself is returned. Save the result with
    `save_graph(..., threshold_bytes=0)`, so that the tensors lie beside it.
    """
    large = [node.output[0] for node in model.graph.node if _is_large(node, smallest)]
    if not large:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = list(made.graph.node)
    del made.graph.node[:]
    for node in nodes:
        if node.output[0] in large:
            tensors, look_up = _mapped(node)
            made.graph.initializer.extend(tensors)
            made.graph.node.extend(look_up)
        else:
            made.graph.node.append(node)
    check(made)
    return made


def save_features(
    model: onnx.ModelProto, target: Path, vocabularies: Literal["inline", "mapped"], smallest: int = SMALLEST
) -> None:
    """Write a features' graph with its vocabularies inline, or the large ones mapped, as export.vocabularies says."""
    made = map_vocabularies(model, smallest) if vocabularies == "mapped" else model
    save_graph(made, target, THRESHOLD if made is model else 0)


def buckets_of(keys: Array, count: int) -> Array:
    """Return the bucket of each of `keys`, int64, as the graph computes it."""
    with np.errstate(over="ignore"):
        return np.mod(keys * _MULTIPLIER, np.int64(count))


def _is_large(node: onnx.NodeProto, smallest: int) -> bool:
    if node.op_type != "LabelEncoder":
        return False
    held = {attribute.name: attribute.t for attribute in node.attribute}
    if not {"keys_tensor", "values_tensor", "default_tensor"} <= set(held):
        return False
    whole = all(held[f"{name}_tensor"].data_type == TensorProto.INT64 for name in ("keys", "values"))
    return whole and int(np.prod(held["keys_tensor"].dims)) >= smallest


def _mapped(node: onnx.NodeProto) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    held = {attribute.name: numpy_helper.to_array(attribute.t).reshape(-1) for attribute in node.attribute}
    keys, values, default = held["keys_tensor"], held["values_tensor"], held["default_tensor"].astype(np.int64)
    keys, first = np.unique(keys, return_index=True)  # of a key that is there twice the first counts
    count = max(1, len(keys) // _KEYS_IN_A_BUCKET) | 1
    placed = buckets_of(keys, count)
    order = np.argsort(placed, kind="stable")
    sizes = np.bincount(placed, minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    width = int(sizes.max())
    # Behind the last key come `width` that are none: positions may run over the end.
    behind = np.full(width, keys[order[-1]], np.int64)
    arrays = {
        "keys": np.concatenate([keys[order], behind]),
        "codes": np.concatenate([values[first][order] - default, np.zeros(width, np.int64)]),
        "starts": starts,
        "positions": np.arange(width),
        "buckets": np.array(count),
        "multiplier": np.array(_MULTIPLIER),
        "default": default,
        "none": np.array(0),
        "ones": np.ones((width, 1)),
        "last": np.array([-1]),
    }
    name = node.output[0]
    tensors = [numpy_helper.from_array(np.asarray(array, np.int64), f"{name}/{key}") for key, array in arrays.items()]
    return tensors, list(_look_up(node.input[0], name))


def _look_up(source: str, name: str) -> Iterator[onnx.NodeProto]:
    """Yield the nodes; a width is added behind the shape of the input, and summed away again."""

    def made(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        named = [one if one == source else f"{name}/{one}" for one in inputs]
        target = f"{name}/{output}" if output else name
        return helper.make_node(operator, named, [target], f"{name}/{output or 'code'}/{operator}", **attributes)

    yield made("Unsqueeze", [source, "last"], "key")
    yield made("Mul", ["key", "multiplier"], "hash")
    yield made("Mod", ["hash", "buckets"], "bucket")
    yield made("Gather", ["starts", "bucket"], "start")
    yield made("Add", ["start", "positions"], "places")
    yield made("Gather", ["keys", "places"], "found")
    yield made("Equal", ["found", "key"], "same")
    yield made("Gather", ["codes", "places"], "differences")
    yield made("Where", ["same", "differences", "none"], "kept")
    # A sum: ONNX Runtime's ReduceSum gives no rows another shape.
    yield made("MatMul", ["kept", "ones"], "sum")
    yield made("Squeeze", ["sum", "last"], "difference")
    yield made("Add", ["difference", "default"], "")
