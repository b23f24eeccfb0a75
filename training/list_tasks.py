"""The tasks next_item and item_set: the label is an item, and the answer is a list of the best ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etl.errors import ConfigError, DataError
from etl.names import ITEM, SCORE
from training import data

FIRST = 3
"""The code of the first item of a vocabulary."""
_SMALLEST = 1e-9


class ItemLists:
    """Which item follows a list, or belongs to a set.

    Answers `item` int64 [batch, k], `score` float32 [batch, k], the share of each among all items, and `known` int64
    [batch, 1], how many items of the list the model knows; without any it answers by popularity.
    """

    label_dtype = "int64"
    rows_at_once = 1024
    several = False

    def check(self, folders: Sequence[Path], inputs: data.Inputs) -> dict[str, Any]:
        """Return the number of items and the share of valid rows whose item the vocabulary holds.

        ConfigError when the label is no item or no list holds such items; DataError for a split without known ones.
        """
        history = data.history_of(inputs)
        if inputs.others or history is None:
            raise ConfigError(
                "the label of a model of item lists",
                expected="one item, encoded jointly with a list of items",
                received=", ".join(inputs.labels),
                hint="Remove split.examples and features.chains, or take a model of the task click.",
            )
        shares = [self._share(folder, inputs.label, history.cardinality or 0) for folder in folders]
        return {"items": (history.cardinality or 0) - FIRST, "history": history.name, "known_targets": shares[-1]}

    def _share(self, folder: Path, label: str, codes: int) -> float:
        found = data.labels(folder, label, "int64")
        if not len(found):
            raise DataError(f"split {folder}", expected="rows", received="none")
        if found.min() < 0 or found.max() >= codes:
            received = f"codes from {found.min()} to {found.max()}"
            raise DataError(f"label {label!r} in {folder}", expected=f"codes from 0 to {codes - 1}", received=received)
        if not (found >= FIRST).any():
            hint = "Use more rows, or split.by: last-per-user."
            raise DataError(f"label {label!r} in {folder}", expected="known items", received="none", hint=hint)
        return float((found >= FIRST).mean())

    def answer(self, model: Any, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the best items."""
        found: dict[str, Any] = model.answer(columns)
        return found

    def judge(self, batches: Iterable[tuple[data.Array, dict[str, data.Array]]]) -> tuple[float, dict[str, float]]:
        """Return the cross entropy, and `recall@k` and `mrr@k` for all k that are answered.

        A target that is not answered counts as the share that the answers leave over. Items that no vocabulary holds
        are misses; the cross entropy is of the others.
        """
        losses, places, k = [], [], 0
        for labels, answers in batches:
            items, scores = answers[ITEM], answers[SCORE].astype("float64")
            if not np.isfinite(scores).all():
                return math.inf, {}
            hit, k = (items == labels[:, None]) & (scores > 0), items.shape[1]
            left = np.where(hit.any(1), (scores * hit).sum(1), 1 - scores.sum(1))
            losses.append(-np.log(np.maximum(left, _SMALLEST))[labels >= FIRST])
            places.append(np.where(hit.any(1), hit.argmax(1) + 1, np.inf))
        place = np.concatenate(places)
        metrics = {f"recall@{k}": float(np.isfinite(place).mean()), f"mrr@{k}": float((1 / place).mean())}
        return float(np.concatenate(losses).mean()), metrics
