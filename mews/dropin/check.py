"""The ONNX pieces against the user's own objects, on the same rows, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from ensemble.export.plan import Piece, Plan
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.requests.encode import encode
from ensemble.spec import RequestSchema
from etl.errors import MewsError
from mews.dropin.plan import Tensors
from mews.dropin.steps import REQUEST, Array, Arrays, Read, Source, Step

TOLERANCE = 1e-5
"""Of numbers up to 1; of larger ones this part of them, for float32 holds no more."""
_ALONE = (
    "On the same inputs the two agree: what differs is a rounding in the features, on which a split of a tree or "
    "another step of the model lies. Round that feature in the workflow, and train again."
)
_FEATURES = (
    "Where Mews computes otherwise than NVTabular on purpose, docs/operators.md says so. Nothing was written; "
    "check=False exports all the same."
)


def check(read: Read, plan: Plan, made_as: Tensors, request: RequestSchema, rows: pl.DataFrame) -> float:
    """Return the largest difference between the pieces and the user's own objects, which both run on `rows`.

    Each side works on what its own steps before made. `made_as` names the tensor of each column. Integers must be
    equal, floats differ by 1e-5 at most; MewsError names the first step and column that do, and by how much.
    """
    tensors = encode(rows, request)
    ours: dict[tuple[str, str], Array] = {}
    theirs: dict[tuple[str, str], Array] = {}
    largest = 0.0
    for step, piece in zip(read.steps, plan.pieces, strict=True):
        made = _run(piece, _fed(piece, tensors, ours))
        ours |= {(step.role, tensor): values for tensor, values in made.items()}
        wanted = _own(step, rows, tensors, theirs)
        for name, tensor in made_as[step.role].items():
            answer = made[tensor] if wanted is None else wanted[name]
            found = difference(made[tensor], answer)
            if not found <= _allowed(made[tensor], answer):
                alone = not step.features and _agrees_alone(step, piece, tensor, answer, tensors, theirs)
                raise _differs(step, name, found, len(answer), alone)
            theirs[step.role, name] = answer
            largest = max(largest, found)
    return largest


def _allowed(ours: Array, theirs: Array) -> float:
    return 0 if ours.dtype.kind in "iub" and theirs.dtype.kind in "iub" else TOLERANCE


def difference(ours: Array, theirs: Array) -> float:
    """Return the largest difference of two arrays, of numbers over 1 relative; NaN equals NaN, other texts are inf."""
    if ours.shape != theirs.shape:
        return float("inf")
    if ours.dtype == object or theirs.dtype == object:
        return 0.0 if _texts(ours) == _texts(theirs) else float("inf")
    if _allowed(ours, theirs) == 0:  # beyond 2**53 integers are no longer themselves in float64
        apart = np.abs(ours.astype(np.float64) - theirs)
        return float(np.where(ours == theirs, 0, np.maximum(1, apart)).max(initial=0))
    left, right = ours.astype(np.float64), theirs.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0, np.abs(left - right) / np.maximum(1, np.abs(right)))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0))


def _texts(values: Array) -> list[str]:
    flat = values.reshape(-1).tolist()
    return [value.decode() if isinstance(value, bytes) else str(value) for value in flat]


def _run(piece: Piece, fed: Mapping[str, Array]) -> dict[str, Array]:
    graph = OnnxFile.open(piece.graph)
    return graph.run(fed, [spec.name for spec in graph.outputs])


def _fed(piece: Piece, tensors: Mapping[str, Array], made: Mapping[tuple[str, str], Array]) -> dict[str, Array]:
    """The inputs of a piece, by its wiring."""
    found = {}
    for name, source in piece.wiring.items():
        role, slash, tensor = source.partition("/")
        found[name] = made[role, tensor] if slash and (role, tensor) in made else tensors[source]
    return found


def _own(
    step: Step, rows: pl.DataFrame, tensors: Mapping[str, Array], theirs: Mapping[tuple[str, str], Array]
) -> Arrays | None:
    """What the user's object answers to what the user's objects before it made; None where there is none."""
    if step.own is None:
        return None

    def given(source: Source) -> Array:
        if source.role != REQUEST:
            return theirs[source.role, source.name]
        return rows.get_column(source.name) if step.features else tensors[source.name]  # type: ignore[return-value]

    return step.own({name: given(source) for name, source in step.reads.items()})


def _agrees_alone(
    step: Step,
    piece: Piece,
    tensor: str,
    answer: Array,
    tensors: Mapping[str, Array],
    theirs: Mapping[tuple[str, str], Array],
) -> bool:
    """Whether the graph of one model agrees when it is given what the user's own objects before it made."""
    sources = {name: step.reads[name] for name in piece.wiring}
    fed = {
        name: tensors[source.name]
        if source.role == REQUEST
        else theirs[source.role, source.name].astype(source.column.dtype)
        for name, source in sources.items()
    }
    return difference(_run(piece, fed)[tensor], answer) <= TOLERANCE


def _differs(step: Step, name: str, found: float, rows: int, alone: bool) -> MewsError:
    return MewsError(
        f"{step.what}: {name!r} is not what your own object answers",
        expected=f"a difference of at most {TOLERANCE:g} (integers: 0) on {rows} rows",
        received=f"{found:.3g}",
        hint=_ALONE if alone else _FEATURES if step.features else "Nothing was written.",
    )
