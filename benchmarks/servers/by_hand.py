"""The features of a graph as one writes them by hand for a server: dicts for vocabularies, NumPy for numbers.

It knows Categorify of single columns, ListSlice with padding, FillMissing, Clip, LogOp and Normalize, and refuses other
operators. `write` runs where the graph is; `Features` needs NumPy only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.servers.kserve import Request, Score, Settings

if TYPE_CHECKING:
    from etl.graph import FeatureGraph, OpNode, Ref

NULL, UNKNOWN, FIRST = 1, 2, 3
_FILE = "features.json"

Array = npt.NDArray[Any]


class UnknownOperatorError(Exception):
    """A graph has an operator that nobody wrote by hand here."""


def write(graph: FeatureGraph, folder: Path) -> None:
    """Write what the columns of a fitted graph need: features.json and one file for each vocabulary.

    UnknownOperatorError names an operator that is not known here.
    """
    folder.mkdir(parents=True)
    made = {(node.id, column.name): node for node in graph.nodes for column in node.outputs}
    features = []
    for ref, column in zip(graph.outputs, graph.output_columns, strict=True):
        feature: dict[str, Any] = {"name": column.name, "length": column.length}
        while ref.node != "input":
            node = made[ref.node, ref.column]
            feature |= _step(node, ref, folder)
            (ref,) = node.sources(ref.column)
        features.append({**feature, "column": ref.column})
    (folder / _FILE).write_text(json.dumps(features), encoding="utf-8")


def _step(node: OpNode, ref: Ref, folder: Path) -> dict[str, Any]:
    if node.op not in _STEPS:
        raise UnknownOperatorError(f"by hand there is no {node.op}")
    return _STEPS[node.op](node, ref, folder)


def _categorify(node: OpNode, ref: Ref, folder: Path) -> dict[str, Any]:
    from etl.operators.categorical import vocabulary_of

    if node.params.get("num_buckets") or node.params.get("encode_type") == "combo" or "groups" in node.params:
        raise UnknownOperatorError("by hand there is no Categorify with buckets or of several columns")
    values = (node.state or {})[vocabulary_of(node, ref.column)].get_column("value")
    target = f"{node.id}-{ref.column}"
    if values.dtype.is_integer():
        np.save(folder / f"{target}.npy", values.to_numpy(), allow_pickle=False)
        return {"vocabulary": f"{target}.npy"}
    (folder / f"{target}.json").write_text(json.dumps(values.to_list()), encoding="utf-8")
    return {"vocabulary": f"{target}.json"}


def _normalize(node: OpNode, ref: Ref, folder: Path) -> dict[str, Any]:
    moments = (node.state or {})["moments"]
    row = moments.row(moments.get_column("column").to_list().index(ref.column), named=True)
    return {"mean": row["mean"], "std": row["std"]}


_STEPS: dict[str, Callable[[OpNode, Ref, Path], dict[str, Any]]] = {
    "Categorify": _categorify,
    "Normalize": _normalize,
    "AddMetadata": lambda node, ref, folder: {},
    "ListSlice": lambda node, ref, folder: {"slice": [node.params["start"], node.params["end"]]},
    "FillMissing": lambda node, ref, folder: {"fill": node.params["fill_val"]},
    "Clip": lambda node, ref, folder: {"low": node.params.get("min_value"), "high": node.params.get("max_value")},
    "LogOp": lambda node, ref, folder: {"log": True},
}


def together(requests: Sequence[Request]) -> Request:
    """Return several requests as one; lists of different widths are padded."""
    if len(requests) == 1:
        return requests[0]
    widths = {name: max(one.widths[name] for one in requests) for name in requests[0].widths}
    data = {name: [value for one in requests for value in _wide(one, name, widths[name])] for name in widths}
    return Request(sum(one.rows for one in requests), data, widths)


def _wide(request: Request, name: str, width: int) -> list[Any]:
    values, own = request.data[name], request.widths[name]
    if own == width:
        return values
    padding = [type(values[0])()] * (width - own) if values else []
    return [value for row in range(request.rows) for value in (*values[row * own : (row + 1) * own], *padding)]


class Features:
    """What `write` left in a folder, loaded: a function from requests to a model's inputs."""

    def __init__(self, folder: Path) -> None:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        self._columns = {feature["name"]: _column(feature, folder) for feature in found}

    def __call__(self, request: Request) -> dict[str, Array]:
        """Return the features of all rows by name: int64 codes or float32, [rows, width]."""
        return {name: column(request) for name, column in self._columns.items()}


def _column(feature: dict[str, Any], folder: Path) -> Callable[[Request], Array]:
    if "vocabulary" not in feature:
        return _numbers(feature)
    codes = _dictionary(folder / feature["vocabulary"])
    return _lists(feature, codes) if feature["length"] else _codes(feature["column"], codes)


def _dictionary(path: Path) -> dict[Any, int]:
    if path.suffix == ".npy":
        keys = np.load(path, allow_pickle=False)
        null: Any = int(np.iinfo(keys.dtype).min)
        listed = keys.tolist()
    else:
        null, listed = "", json.loads(path.read_text(encoding="utf-8"))
    return {null: NULL, **dict(zip(listed, range(FIRST, FIRST + len(listed)), strict=True))}


def _codes(name: str, codes: dict[Any, int]) -> Callable[[Request], Array]:
    get = codes.get

    def scalar(request: Request) -> Array:
        return np.array([get(value, UNKNOWN) for value in request.data[name]], dtype=np.int64).reshape(-1, 1)

    return scalar


def _lists(feature: dict[str, Any], codes: dict[Any, int]) -> Callable[[Request], Array]:
    name, length, get = feature["column"], feature["length"], codes.get
    start, end = feature["slice"]

    def padded(request: Request) -> Array:
        values, width = request.data[name], request.widths[name]
        made = np.zeros((request.rows, length), dtype=np.int64)
        for row, size in enumerate(request.data[f"{name}__length"]):
            kept = values[row * width : row * width + size][start:end]
            made[row, : len(kept)] = [get(value, UNKNOWN) for value in kept]
        return made

    return padded


def _numbers(feature: dict[str, Any]) -> Callable[[Request], Array]:
    name, fill, mean, std = feature["column"], feature.get("fill"), feature.get("mean"), feature.get("std")

    def numbers(request: Request) -> Array:
        values = np.array(request.data[name], dtype=np.float64)
        if fill is not None:
            values[~(values > -(2.0**31))] = fill  # NaN, and the smallest int32 and int64
        if feature.get("low") is not None or feature.get("high") is not None:
            values = np.clip(values, feature.get("low"), feature.get("high"))
        if feature.get("log"):
            values = np.log1p(values.astype(np.float32))
        if mean is not None:
            values = (values - mean) / std if std else values - mean
        return values.astype(np.float32).reshape(-1, 1)

    return numbers


def load(settings: Settings) -> Score:
    """Return the features by hand with model.onnx behind them, in one ONNX Runtime session of one thread."""
    features, model = Features(settings.folder / "by_hand"), session(settings.folder / "model.onnx")

    def score(request: Request) -> Sequence[float]:
        found: Array = model.run(["score"], features(request))[0]
        return found[:, 0].tolist()  # type: ignore[no-any-return]

    return score


def session(model: Path) -> Any:
    """Return an ONNX Runtime session as the exported ensemble has it: one thread, no spinning."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
