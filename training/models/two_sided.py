"""Models of two towers: a vector of the user, a vector of the item, and their dot product.

They learn which item was chosen among others (training/models/negatives.py), from the rows with label 1. What they
answer for a row is sigmoid(scale * <user, item> + shift): scale and shift are two numbers fitted to the labels of all
rows, apart from the vectors, so that the answer is a probability and items rank by it as by the dot product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from training import data
from training.config import ModelConfig
from training.models.in_batch import cross_entropy
from training.models.negatives import Catalogue, Drawn, counts, draw, hardest, masked, others, semi_hard
from training.models.towers import Sides
from training.tensorflow import tensorflow

# The two numbers have the vectors' learning rate, and a longer way to go.
_PACE = 10.0
_JUDGED_ITEMS = 1000
_JUDGED_ROWS = 8192
_SMALLEST = 1e-9

Loss = Callable[[Any, Any, Any], Any]
"""(the chosen item's score [rows], those of others [rows, candidates], whether each may count) -> losses [rows]."""


@dataclass(frozen=True)
class Learning:
    """How the vectors are learned: `loss`, the strategy of the negatives, and what dot products are divided by."""

    loss: Loss
    strategy: str
    temperature: float
    corrects: bool


@dataclass(frozen=True)
class _Pool:
    """What rows are told from: `vectors` [candidates, dim], `log_q` [candidates], `allowed` [rows, candidates]."""

    vectors: Any
    log_q: Any
    allowed: Any


class _Draws:
    """What is drawn from, as constants: it belongs to training, and is neither saved nor served."""

    def __init__(self, items: Catalogue, strategy: str) -> None:
        tf = tensorflow()
        self.features = {name: tf.constant(values) for name, values in items.features.items()}
        drawn: Drawn = "popularity" if strategy == "popularity" else "uniform"
        chances = items.chances(drawn)
        running = np.cumsum(chances)
        self.cumulated = tf.constant(running / running[-1])
        own = chances if strategy in ("uniform", "popularity") else items.popularity
        self.log_q = tf.constant(np.log(np.maximum(own, _SMALLEST)), "float32")
        self.log_chance = tf.constant(np.log(np.maximum(chances, _SMALLEST)), "float32")

    def of(self, codes: Any) -> dict[str, Any]:
        """Return the features of these items, {feature: [items, width]}."""
        tf = tensorflow()
        return {name: tf.gather(values, codes) for name, values in self.features.items()}


@cache
def two_sided() -> Any:
    """Return the class TwoSided."""
    tf = tensorflow()

    class TwoSided(tf.keras.Model):  # type: ignore[misc, name-defined]
        """A model of `user_tower` and `item_tower`, whose vectors learn as `Learning` says."""

        def __init__(
            self,
            found: Sides,
            items: Catalogue,
            towers: tuple[Any, Any],
            learning: Learning,
            config: ModelConfig,
            seed: int,
        ) -> None:
            super().__init__()
            self.user_tower, self.item_tower = towers
            self.found, self.items, self.learning, self.seed = found, items, learning, seed
            self.negatives, self.draws = config.negatives, _Draws(items, learning.strategy)
            self.start = math.log(max(items.rate, _SMALLEST) / max(1 - items.rate, _SMALLEST))
            weight = {"dtype": "float32", "initializer": "zeros", "experimental_autocast": False}
            self.scale, self.shift = self.add_weight("scale", **weight), self.add_weight("shift", **weight)
            only = tf.VariableAggregation.ONLY_FIRST_REPLICA
            self.steps = self.add_weight("steps", dtype="int64", trainable=False, initializer="zeros", aggregation=only)

        def call(self, columns: dict[str, Any], training: bool = False) -> Any:
            users, chosen = self.user_tower(columns, training=training), self.item_tower(columns, training=training)
            return tf.sigmoid(self._odds(tf.reduce_sum(users * chosen, 1, keepdims=True)))

        def _odds(self, dots: Any) -> Any:
            """From dot products to the log of the odds; the larger the one, the larger the other."""
            return tf.exp(_PACE * self.scale) * dots + _PACE * self.shift + self.start

        def train_step(self, given: Any) -> dict[str, Any]:
            columns, labels, *weights = given
            columns = self._latest(columns)
            labels = tf.cast(labels[:, 0], "float32")
            weight = tf.ones_like(labels) if not weights or weights[0] is None else tf.reshape(weights[0], [-1])
            with tf.GradientTape() as tape:
                users, chosen = self.user_tower(columns, training=True), self.item_tower(columns, training=True)
                regularization = tf.add_n([tf.zeros(()), *(tf.cast(one, "float32") for one in self.losses)])
                ranking = self._ranking(columns, labels, weight, users, chosen)
                loss = ranking + self._calibration(labels, weight, users, chosen) + regularization
            self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
            self.steps.assign_add(1)
            return {"loss_batch": loss, "regularization_loss": regularization}

        def _latest(self, columns: Any) -> Any:
            """The columns with the item's features as the catalogue has them.

            What a row says of its item tells which row it is: an item that is drawn has none, and those of a batch
            have another's. A count that grows, say, would tell the rows of one day from all others.
            """
            return {**columns, **self.draws.of(columns[self.found.item.name][:, 0])}

        def _ranking(self, columns: Any, labels: Any, weight: Any, users: Any, chosen: Any) -> Any:
            """The loss of the vectors: over rows with label 1, and over the others where those are explicit."""
            kept = tf.where(labels > 0)[:, 0]  # the others are neither judged nor candidates
            ids = {f.name: tf.gather(columns[f.name], kept)[:, 0] for f in (self.found.user, self.found.item) if f}
            losses = self._apart(tf.gather(users, kept), tf.gather(chosen, kept), ids)
            loss = _mean(losses, tf.gather(weight * labels, kept))
            if not self.negatives.explicit:
                return loss
            frozen = tf.stop_gradient(self._odds(tf.zeros(()))), tf.stop_gradient(tf.exp(_PACE * self.scale))
            apart = tf.nn.softplus(frozen[1] * tf.reduce_sum(users * chosen, 1) + frozen[0])
            return loss + _mean(apart, weight * (1 - labels))

        def _calibration(self, labels: Any, weight: Any, users: Any, chosen: Any) -> Any:
            """The log loss of the answers, by which scale and shift learn, and the vectors do not."""
            odds = self._odds(tf.stop_gradient(tf.reduce_sum(users * chosen, 1)))
            return _mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, odds), weight)

        def _apart(self, users: Any, chosen: Any, ids: dict[str, Any]) -> Any:
            """The loss [rows] of rows whose item was chosen."""
            codes = ids[self.found.item.name]
            log_q = tf.gather(self.draws.log_q, codes) if self.learning.corrects else tf.zeros_like(users[:, 0])
            if self.learning.strategy == "in_batch" and self.learning.loss is softmax:
                return cross_entropy(users / self.learning.temperature, chosen, log_q, list(ids.values()))
            positive = tf.reduce_sum(users * chosen, 1) / self.learning.temperature - log_q
            return self.learning.loss(positive, *self._others(users, chosen, ids, log_q, positive))

        def _others(self, users: Any, chosen: Any, ids: dict[str, Any], log_q: Any, positive: Any) -> tuple[Any, Any]:
            """The scores [rows, candidates] of items that were not chosen, and whether each may count."""

            def scored(pool: _Pool) -> tuple[Any, Any]:
                scores = tf.matmul(users, pool.vectors, transpose_b=True) / self.learning.temperature
                return scores - pool.log_q if self.learning.corrects else scores, pool.allowed

            codes, user = ids[self.found.item.name], self.found.user
            if self.learning.strategy in ("uniform", "popularity"):
                return scored(self._drawn(codes))
            owners = ids[user.name] if user else None
            scores, allowed = scored(_Pool(chosen, log_q, others(codes, codes, owners, owners)))
            if self.learning.strategy == "semi_hard":
                nearest = semi_hard(positive, scores, allowed)
                return nearest, counts(nearest)
            if self.learning.strategy == "hard":
                nearest, _ = hardest(*scored(self._drawn(codes)), self.negatives.hardest)
                scores, allowed = tf.concat([scores, nearest], 1), tf.concat([allowed, counts(nearest)], 1)
            return scores, allowed

        def _drawn(self, codes: Any) -> _Pool:
            drawn = draw(self.draws.cumulated, self.negatives.count, self.seed, self.steps)
            vectors = self.item_tower(self.draws.of(drawn), training=True)
            return _Pool(vectors, tf.gather(self.draws.log_chance, drawn), others(codes, drawn))

        def valid_loss(self, folder: Path, labels: data.Array) -> float:
            """Return how well the chosen items of a split are told from others: what an epoch is judged by.

            The mean cross-entropy of each among up to 1,000 items of the training rows, the same ones every time.
            """
            labels, codes = labels.reshape(len(labels), -1)[:, 0], self.items.items
            if len(codes) > _JUDGED_ITEMS:
                codes = np.sort(np.random.default_rng(0).choice(codes, _JUDGED_ITEMS, replace=False))
            vectors, total, done = self.item_tower(self.draws.of(tf.constant(codes))), 0.0, 0
            for batch in data.batches(folder, (*self.found.users, *self.found.items), _JUDGED_ROWS):
                chosen = np.flatnonzero(labels[done : (done := done + len(batch[self.found.item.name]))] > 0)
                rows = {name: tf.constant(values[chosen]) for name, values in batch.items()}
                total += float(tf.reduce_sum(self._judged(rows, codes, vectors)))
            return total / max(1, int((labels > 0).sum()))

        def _judged(self, rows: dict[str, Any], codes: Any, vectors: Any) -> Any:
            users, chosen = self.user_tower(rows), self.item_tower(self._latest(rows))
            positive = tf.reduce_sum(users * chosen, 1) / self.learning.temperature
            scores = tf.matmul(users, vectors, transpose_b=True) / self.learning.temperature
            return softmax(positive, scores, others(rows[self.found.item.name][:, 0], tf.constant(codes)))

    return TwoSided


def softmax(positive: Any, scores: Any, allowed: Any) -> Any:
    """Return the cross-entropy of the chosen item among the others, [rows]."""
    tf = tensorflow()
    # log(e^positive + e^rest) - positive, without a copy of all scores with one more column.
    return tf.nn.softplus(tf.reduce_logsumexp(masked(scores, allowed), 1) - positive)


def _mean(losses: Any, weight: Any) -> Any:
    """The weighted mean over rows; 0 where nothing weighs."""
    tf = tensorflow()
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weight), tf.reduce_sum(weight))
