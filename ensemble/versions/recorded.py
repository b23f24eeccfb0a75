"""Requests recorded with a version, and what its graphs answer to them without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import np_to_triton_dtype

from ensemble import pbtxt
from ensemble.requests.encode import Array
from ensemble.spec import ModelSpec
from ensemble.versions.state import Place
from etl.dtypes import BY_TRITON
from etl.errors import ArtifactError

EXPECTED = "expected.json"
FILES = (EXPECTED, "request.example.json")
"""A KServe v2 request; the first also holds the answer, as `outputs` with data."""
ROWS = 32
"""The most rows that are recorded."""


@dataclass(frozen=True)
class Recorded:
    """A request by input, and the answer by output."""

    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]


def read(place: Place, version: int) -> Recorded:
    """Return the request of a version with its right answer: as recorded at export, else as ONNX Runtime gives it.

    ArtifactError when the version has no recorded request.
    """
    for name in FILES:
        path = place.folder(version) / name
        if path.is_file():
            said = json.loads(path.read_text(encoding="utf-8"))
            inputs = {each["name"]: _array(each) for each in said["inputs"]}
            expected = {each["name"]: _array(each) for each in said.get("outputs", ()) if "data" in each}
            return Recorded(inputs, expected or offline(place, version, inputs))
    raise ArtifactError(
        f"version {version} of {place.name!r} has no recorded request",
        expected=f"one of {', '.join(FILES)} in {place.folder(version)}",
        hint="Export it again, or take it without a check (--no-check).",
    )


def write(folder: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Record a request and its right answer in the folder of a version."""
    said = {"inputs": [_said(*each) for each in inputs.items()], "outputs": [_said(*each) for each in outputs.items()]}
    (folder / EXPECTED).write_text(json.dumps(said) + "\n", encoding="utf-8")


def offline(place: Place, version: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the graphs of a version in this process, one after the other as its ensemble says."""
    import onnxruntime as ort

    ensemble = pbtxt.parse(place.config(version))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    values = {name: _decoded(array) for name, array in inputs.items()}
    for step in ensemble.steps:
        path = place.repository / step.model / "1" / "model.onnx"
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {inner: values[outer] for inner, outer in step.input_map.items() if outer in values}
        outputs = dict(step.output_map)
        values |= dict(zip(outputs.values(), session.run(list(outputs), feed), strict=True))
    return {spec.name: values[spec.name] for spec in ensemble.outputs}


def outputs_of(place: Place, version: int) -> tuple[str, ...]:
    """Return the names of the ensemble's outputs."""
    spec: ModelSpec = pbtxt.parse(place.config(version))
    return tuple(each.name for each in spec.outputs)


def _said(name: str, values: Array) -> dict[str, Any]:
    kind = np_to_triton_dtype(values.dtype)
    flat = values.reshape(-1).tolist()
    data = [value.decode() if isinstance(value, bytes) else value for value in flat]
    return {"name": name, "shape": list(values.shape), "datatype": kind, "data": data}


def _array(said: Mapping[str, Any]) -> Array:
    kind = BY_TRITON[said["datatype"]].numpy
    if said["datatype"] == "BYTES":
        values: Array = np.array([text.encode() for text in said["data"]], dtype=np.object_)
    else:
        values = np.array(said["data"], dtype=kind)
    return values.reshape(said["shape"])


def _decoded(array: Array) -> Array:
    if array.dtype != np.object_:
        return array
    texts = np.array([text.decode() for text in array.reshape(-1)], dtype=np.object_)
    return texts.reshape(array.shape)
