"""A deployment tried in this process: its parts one after the other with ONNX Runtime, on real rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.export.parts import Deployment
from ensemble.requests.encode import Array
from etl.errors import ArtifactError

# The same float32 operations run in another order at most; numbers over 1 by as much of themselves.
TOLERANCE = 1e-6

Request = Mapping[str, Array]


@dataclass(frozen=True)
class Trial:
    """What went in and out: the inputs of each part by its role, and the ensemble's outputs; an entry a request."""

    inputs: Mapping[str, Sequence[Request]]
    answers: Sequence[Request]


def tried(deployment: Deployment, requests: Sequence[Request], rows: Sequence[int]) -> Trial:
    """Run requests of so many rows; ArtifactError when ONNX Runtime refuses one, or an output has other rows."""
    values: list[dict[str, Array]] = [dict(request) for request in requests]
    inputs = {}
    for part in deployment.parts:
        fed = [{name: v[source] for name, source in part.wiring.items() if source in v} for v in values]
        names = [source.removeprefix(f"{part.role}/") for source in part.outputs if source in deployment.used]
        inputs[part.role] = fed
        for held, made, count in zip(values, part.graph.run_all(fed, names), rows, strict=True):
            _check_rows(part.role, made, count)
            held |= {f"{part.role}/{name}": _bytes(array) for name, array in made.items()}
    return Trial(inputs, [{name: v[source] for name, source in deployment.outputs.items()} for v in values])


def check_same(wanted: Trial, found: Trial, shape: str) -> None:
    """ArtifactError unless the answers are equal, floats within 1e-6."""
    for before, after in zip(wanted.answers, found.answers, strict=True):
        for name, values in before.items():
            if not _same(values, after[name]):
                raise ArtifactError(
                    f"output {name!r} of the {shape} graphs is not that of the parts they were made from",
                    expected=f"a difference of at most {TOLERANCE}",
                    received=_difference(values, after[name]),
                    hint="Export with shape: chained and signature: named, and report this.",
                )


def _check_rows(role: str, made: Mapping[str, Array], rows: int) -> None:
    for name, array in made.items():
        if array.shape[:1] != (rows,):
            raise ArtifactError(
                f"output {name!r} of the {role}", expected=f"{rows} rows, one for each", received=f"shape {array.shape}"
            )


def _same(left: Array, right: Array) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    tolerance = max(TOLERANCE, float(np.finfo(left.dtype).eps))
    return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True))


def _difference(left: Array, right: Array) -> str:
    if left.dtype != right.dtype or left.shape != right.shape:
        return f"{right.dtype}{list(right.shape)} instead of {left.dtype}{list(left.shape)}"
    if left.dtype.kind == "f":
        return str(float(np.nanmax(np.abs(left.astype(np.float64) - right))))
    return f"{int((left != right).sum())} other values"


def _bytes(values: Array) -> Array:
    """Strings as requests have them."""
    if values.dtype != object:
        return values
    encoded = [value.encode() if isinstance(value, str) else value for value in values.reshape(-1)]
    made = np.empty(len(encoded), dtype=object)
    made[:] = encoded
    return made.reshape(values.shape)
