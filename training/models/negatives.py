"""Items that were not chosen: how they are drawn, which may count, and which of them are hard.

Draws follow from a seed and the step's number alone, so that a resumed training draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training import data
from training.tensorflow import tensorflow

Drawn = Literal["uniform", "popularity"]
_POWER = 0.75
_LOWEST = -1e9
"""The score of an item that may not count."""


@dataclass(frozen=True)
class Catalogue:
    """The items of the training rows, by code.

    `chosen` are the rows with label 1 of each code and `shown` those with any label, int64 [codes]; `features` are the
    item's own in the last row that it is in, {feature: [codes, width]}; zeros, but for the code itself, where none is.
    """

    chosen: data.Array
    shown: data.Array
    features: dict[str, data.Array]

    @property
    def rate(self) -> float:
        """Share of the rows with label 1."""
        return float(self.chosen.sum() / self.shown.sum())

    @cached_property
    def items(self) -> data.Array:
        """Codes that some row has, int64, ascending."""
        found: data.Array = np.flatnonzero(self.shown)
        return found

    @cached_property
    def popularity(self) -> data.Array:
        """Share of each code in the rows with label 1, float64 [codes]; codes never chosen count for half a row."""
        counts = np.where(self.shown > 0, np.maximum(self.chosen, 0.5), 0.5)
        made: data.Array = counts / max(1, self.chosen.sum())
        return made

    def chances(self, strategy: Drawn) -> data.Array:
        """How likely each code is drawn, float64 [codes], sum 1; 0 for codes that no row has."""
        weights = (self.chosen + 1.0) ** (_POWER if strategy == "popularity" else 0)
        weights = np.where(self.shown > 0, weights, 0)
        made: data.Array = weights / weights.sum()
        return made


def read_catalogue(folder: Path, features: Sequence[data.Feature], item: data.Feature, label: str) -> Catalogue:
    """Read the items of a split in one pass; memory holds a batch of rows and one row for each code."""
    codes = item.cardinality or 0
    chosen, shown = np.zeros(codes, "int64"), np.zeros(codes, "int64")
    own = (item, *(feature for feature in features if feature.name != item.name))
    latest = {feature.name: np.zeros((codes, feature.width), feature.dtype) for feature in own}
    latest[item.name][:, 0] = np.arange(codes)
    target = data.Feature(label, None, None)
    for batch in data.batches(folder, (*own, target)):
        rows = batch[item.name][:, 0]
        shown += np.bincount(rows, minlength=codes)
        chosen += np.bincount(rows[batch[label][:, 0] > 0], minlength=codes)
        for feature in own:
            latest[feature.name][rows] = batch[feature.name]  # where a code comes twice, NumPy keeps the last
    return Catalogue(chosen, shown, latest)


def draw(cumulated: Any, count: int, seed: int, step: Any) -> Any:
    """Return `count` codes, int64 [count], with replacement; `cumulated` are the chances' running sums, the last 1."""
    tf = tensorflow()
    at = tf.random.stateless_uniform([count], tf.stack([tf.cast(seed, step.dtype), step]), dtype=cumulated.dtype)
    return tf.searchsorted(cumulated, at, side="right", out_type="int64")


def others(codes: Any, candidates: Any, users: Any = None, candidate_users: Any = None) -> Any:
    """Whether candidate j is another item than row i's, [rows, candidates]; nor chosen by the same user, if given."""
    tf = tensorflow()
    allowed = codes[:, None] != candidates[None, :]
    return allowed if users is None else tf.logical_and(allowed, users[:, None] != candidate_users[None, :])


def masked(scores: Any, allowed: Any) -> Any:
    """Return the scores, with those of items that may not count too low to matter."""
    tf = tensorflow()
    return tf.where(allowed, scores, tf.cast(_LOWEST, scores.dtype))


def counts(scores: Any) -> Any:
    """Whether each score is that of an item that may count."""
    return scores > _LOWEST / 2


def hardest(scores: Any, allowed: Any, count: int) -> tuple[Any, Any]:
    """Return the `count` highest scores of each row and the columns that they are in, both [rows, count]."""
    tf = tensorflow()
    found = tf.math.top_k(masked(scores, allowed), tf.minimum(count, tf.shape(scores)[1]))
    return found.values, found.indices


def semi_hard(positive: Any, scores: Any, allowed: Any) -> Any:
    """Return of each row the highest score below the chosen item's, [rows, 1]; failing that, the lowest of all.

    `positive` is [rows]. Harder ones, that score above it, are often wrong or make all vectors the same
    (arXiv:1503.03832).
    """
    tf = tensorflow()
    below = tf.logical_and(allowed, scores < positive[:, None])
    lowest = tf.reduce_min(tf.where(allowed, scores, -tf.cast(_LOWEST, scores.dtype)), 1, keepdims=True)
    lowest = tf.where(tf.reduce_any(allowed, 1, keepdims=True), lowest, tf.cast(_LOWEST, scores.dtype))
    found = tf.reduce_max(masked(scores, below), 1, keepdims=True)
    return tf.where(tf.reduce_any(below, 1, keepdims=True), found, lowest)
