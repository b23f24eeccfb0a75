"""How much a variant of a graph changes its scores, on rows whose labels are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from etl.errors import ArtifactError, MewsError
from etl.names import SCORE

Array = npt.NDArray[Any]
_BATCH = 1024
_SMALLEST = 1e-7


@dataclass(frozen=True)
class Accuracy:
    """Area under the ROC curve and mean log loss of scores; NaN where the rows have one class only."""

    auc: float
    logloss: float


@dataclass(frozen=True)
class Change:
    """`before` and `after` on the same rows, and the largest change of any score."""

    before: Accuracy
    after: Accuracy
    largest_change: float

    @property
    def auc_drop(self) -> float:
        """How much AUC was lost; negative where some was gained."""
        return self.before.auc - self.after.auc

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "auc_drop": self.auc_drop}


def session(model: Path) -> ort.InferenceSession:
    """Open a graph on one thread, as the served one is; ArtifactError when ONNX Runtime refuses it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common public base
        raise ArtifactError(f"ONNX Runtime cannot run {model}", received=str(error)) from error


def scores(model: Path, rows: Mapping[str, Array], batch: int = _BATCH) -> Array:
    """Return the graph's score for each of `rows` ([rows, width] by input), `batch` at a time; float32 [rows]."""
    opened = session(model)
    read = [value.name for value in opened.get_inputs()]
    count = len(next(iter(rows.values())))
    made = np.empty(count, np.float32)
    for start in range(0, count, batch):
        (part,) = opened.run([SCORE], {name: rows[name][start : start + batch] for name in read})
        made[start : start + batch] = part.reshape(-1)
    return made


def accuracy(labels: Array, scored: Array) -> Accuracy:
    """Return AUC (a tie counts half) and log loss of `scored` [rows] by `labels`, 0 or 1 [rows]."""
    positive = labels > 0
    _, place, counts = np.unique(scored, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    clicks, others = int(positive.sum()), int((~positive).sum())
    pairs = clicks * others
    auc = (ranks[positive].sum() - clicks * (clicks + 1) / 2) / pairs if pairs else float("nan")
    clipped = np.clip(scored.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    return Accuracy(float(auc), float(-np.where(positive, np.log(clipped), np.log1p(-clipped)).mean()))


def change(labels: Array, before: Array, after: Array) -> Change:
    """Return how scores [rows] changed from `before` to `after`."""
    return Change(accuracy(labels, before), accuracy(labels, after), float(np.abs(before - after).max()))


def refuse_if_over(name: str, found: Change, max_auc_drop: float) -> None:
    """MewsError with the figures when more than `max_auc_drop` of AUC was lost, or a score is not a number."""
    if found.auc_drop <= max_auc_drop and np.isfinite(found.largest_change):
        return
    raise MewsError(
        f"the model as {name}",
        expected=f"an AUC at most {max_auc_drop:g} below {found.before.auc:.5f}",
        received=f"{found.after.auc:.5f}, with scores changed by up to {found.largest_change:.2g}",
        hint="Choose another export.precision, or a larger export.max_auc_drop.",
    )
