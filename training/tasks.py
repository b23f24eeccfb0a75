"""What a model is asked to learn: how its labels are checked, what it answers, and how an epoch is judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from training import data
from training.models.catalog import MODELS

_SMALLEST = 1e-7


class Task(Protocol):
    """One kind of learning; the models of training/models/catalog.py name theirs."""

    label_dtype: str
    """The type in which a training step gets the labels, [batch, 1]."""

    def check(self, folders: Sequence[Path], inputs: data.Inputs) -> dict[str, Any]:
        """Return facts of the training labels for training.json; DataError when a split's cannot be learned."""

    def answer(self, model: Any, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs that are served, by name, for tensors {feature: [batch, width]}; runs inside a graph."""

    def judge(self, batches: Iterable[tuple[data.Array, dict[str, data.Array]]]) -> tuple[float, dict[str, float]]:
        """Return the loss and the metrics of (labels [rows], answers) of a whole split, batch by batch.

        The epoch with the lowest loss is kept; infinity for answers that are no numbers.
        """


class Click:
    """Whether the label is 1: `score` is its probability, [batch, 1]."""

    label_dtype = "float32"

    def check(self, folders: Sequence[Path], inputs: data.Inputs) -> dict[str, Any]:
        """Return the click rate of the training rows; DataError for an empty split, other values, or one class."""
        rates = [data.check_labels(folder, inputs.label) for folder in folders]
        return {"click_rate": rates[0]}

    def answer(self, model: Any, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the probabilities."""
        return {"score": model(columns, training=False)}

    def judge(self, batches: Iterable[tuple[data.Array, dict[str, data.Array]]]) -> tuple[float, dict[str, float]]:
        """Return log loss and `auc`."""
        from sklearn.metrics import log_loss, roc_auc_score

        seen = [(labels, answers["score"][:, 0]) for labels, answers in batches]
        labels, scores = (np.concatenate(column) for column in zip(*seen, strict=True))
        if not np.isfinite(scores).all():
            return math.inf, {"auc": 0.5}
        scores = scores.astype("float64")
        return float(log_loss(labels, np.clip(scores, _SMALLEST, 1 - _SMALLEST))), {
            "auc": float(roc_auc_score(labels, scores))
        }


TASKS: dict[str, Task] = {"click": Click()}


def task_of(model: str) -> Task:
    """Return the task of the model of this name."""
    return TASKS[MODELS[model].task]
