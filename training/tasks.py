"""What a model is asked to learn: how its labels are checked, what it answers, and how an epoch is judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from etl.errors import ConfigError
from etl.names import SCORE
from training import data
from training.list_tasks import ItemLists
from training.models.catalog import MODELS

_SMALLEST = 1e-7


class Task(Protocol):
    """One kind of learning; the models of training/models/catalog.py name theirs."""

    label_dtype: str
    """The type in which a training step gets the labels, [batch, 1], or [batch, labels] of several."""
    rows_at_once: int
    """Rows that are answered together outside of training."""
    several: bool
    """Whether more than the first label is learned."""

    def check(self, folders: Sequence[Path], inputs: data.Inputs) -> dict[str, Any]:
        """Return facts of the training labels for training.json; DataError when a split's cannot be learned."""

    def answer(self, model: Any, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs that are served, by name, for tensors {feature: [batch, width]}; runs inside a graph."""

    def judge(self, batches: Iterable[tuple[data.Array, dict[str, data.Array]]]) -> tuple[float, dict[str, float]]:
        """Return the loss and the metrics of (labels as data.targets reads them, answers) of a split, batch by batch.

        The epoch with the lowest loss is kept; infinity for answers that are no numbers.
        """


class Click:
    """Whether the label is 1: `score` is its probability, [batch, 1]."""

    label_dtype, rows_at_once, several = "float32", 65_536, False

    def check(self, folders: Sequence[Path], inputs: data.Inputs) -> dict[str, Any]:
        """Return the click rate of the training rows; DataError for an empty split, other values, or one class."""
        rates = [data.check_labels(folder, inputs.label) for folder in folders]
        return {"click_rate": rates[0]}

    def answer(self, model: Any, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the probabilities."""
        return {SCORE: model(columns, training=False)}

    def judge(self, batches: Iterable[tuple[data.Array, dict[str, data.Array]]]) -> tuple[float, dict[str, float]]:
        """Return log loss and `auc`."""
        seen = [(labels, answers[SCORE][:, 0]) for labels, answers in batches]
        loss, auc = _judged(*(np.concatenate(column) for column in zip(*seen, strict=True)))
        return loss, {"auc": auc}


class Multi:
    """Whether each of several labels is 1: `score` for the first label, `score_<label>` for every one, [batch, 1].

    The models answer [batch, labels] in the order of the labels, which they keep as `labels`.
    """

    label_dtype, rows_at_once, several = "float32", 65_536, True

    def check(self, folders: Sequence[Path], inputs: data.Inputs) -> dict[str, Any]:
        """Return the rate of the first label and of every label in the training rows; errors as for clicks.

        ConfigError for a single label.
        """
        if not inputs.others:
            raise ConfigError(
                "the labels",
                expected="two or more columns tagged target: this model learns several labels",
                received=inputs.label,
                hint="Give another column the role label, or take a model of the task click.",
            )
        rates = [{label: data.check_labels(folder, label) for label in inputs.labels} for folder in folders]
        return {"click_rate": rates[0][inputs.label], "rates": rates[0]}

    def answer(self, model: Any, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the probabilities, by name."""
        found = model(columns, training=False)
        named = {f"{SCORE}_{label}": found[:, at : at + 1] for at, label in enumerate(model.labels)}
        return {SCORE: found[:, :1], **named}

    def judge(self, batches: Iterable[tuple[data.Array, dict[str, data.Array]]]) -> tuple[float, dict[str, float]]:
        """Return the mean of the labels' log losses; `auc` of the first label, `auc_<label>` of every one."""
        seen = [
            (labels, np.concatenate([values for name, values in answers.items() if name != SCORE], axis=1), answers)
            for labels, answers in batches
        ]
        names = [name.removeprefix(f"{SCORE}_") for name in seen[0][2] if name != SCORE]
        labels, scores = np.concatenate([one[0] for one in seen]), np.concatenate([one[1] for one in seen])
        judged = [_judged(labels[:, at], scores[:, at]) for at in range(len(names))]
        aucs = {f"auc_{name}": auc for name, (_, auc) in zip(names, judged, strict=True)}
        return float(np.mean([loss for loss, _ in judged])), {"auc": judged[0][1], **aucs}


def _judged(labels: data.Array, scores: data.Array) -> tuple[float, float]:
    """Log loss and AUC of probabilities; infinity and a half for scores that are no numbers."""
    from sklearn.metrics import log_loss, roc_auc_score

    if not np.isfinite(scores).all():
        return math.inf, 0.5
    scores = scores.astype("float64")
    return float(log_loss(labels, np.clip(scores, _SMALLEST, 1 - _SMALLEST))), float(roc_auc_score(labels, scores))


TASKS: dict[str, Task] = {"click": Click(), "multi": Multi(), "next_item": ItemLists(), "item_set": ItemLists()}


def task_of(model: str) -> Task:
    """Return the task of the model of this name."""
    return TASKS[MODELS[model].task]
