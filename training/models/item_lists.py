"""What models of item lists share: they read the codes of a history and score every item that could come next.

A code under 3 is no item (padding, null, unknown) and is left out, as if it were not in the list. A list without any
known item says nothing, and gets the items by popularity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.errors import ConfigError
from training import data
from training.config import ModelConfig
from training.data import Feature, Inputs
from training.models.blocks import embeddings
from training.tensorflow import tensorflow

FIRST = 3
"""The code of the first item of a vocabulary."""
_HAD, _NO_ITEM = -1e9, -2e9
_JUDGED_ROWS = 1024


@dataclass(frozen=True)
class Lists:
    """The history, the features beside it, and how often the training rows hold each code, float64 [codes]."""

    history: Feature
    others: tuple[Feature, ...]
    counts: data.Array

    @property
    def codes(self) -> int:
        """The number of codes, with those that are no items."""
        return len(self.counts)

    @property
    def log_popularity(self) -> data.Array:
        """The log of each code's share, float32 [codes]; 1 is added to every count."""
        counts = self.counts + 1
        found: data.Array = np.log(counts / counts.sum()).astype("float32")
        return found


def lists(inputs: Inputs, name: str, *, whole_sets: bool = False) -> Lists:
    """Read the lists of the training rows; ConfigError when no list holds codes of the items that are learned.

    `whole_sets` counts what the lists hold too, not only the targets.
    """
    history = data.history_of(inputs)
    if history is None or inputs.folder is None:
        raise ConfigError(
            f"the model {name}",
            expected="a list of items, encoded jointly with the item that is learned",
            received=", ".join(feature.name for feature in inputs.features),
            hint=f"Leave split.examples and features.chains to the defaults of model.name: {name}.",
        )
    rows = pl.scan_parquet(data.parts(inputs.folder))
    columns = [pl.col(inputs.label), *([pl.col(history.name).explode()] if whole_sets else [])]
    counts = np.zeros(history.cardinality or 0)
    for column in columns:
        for code, count in rows.select(code=column).group_by("code").len().collect().iter_rows():
            counts[code] += count
    counts[:FIRST] = 0
    others = tuple(feature for feature in inputs.features if feature.name != history.name)
    return Lists(history, others, counts)


@cache
def item_model() -> Any:
    """Return the class ItemModel."""
    tf = tensorflow()

    class ItemModel(tf.keras.Model):  # type: ignore[misc, name-defined]
        """{feature: [batch, width]} -> the logits of all codes, [batch, codes].

        A subclass says how a history becomes a vector (`encode`) and a vector logits (`decode`); `row_losses`
        is what it learns by, [batch].
        """

        def __init__(self, inputs: Inputs, found: Lists, config: ModelConfig, seed: int, dim: int) -> None:
            super().__init__(dtype="float32")
            self.found, self.config, self.seed, self.label = found, config, seed, inputs.label
            self.beside = _beside(inputs, found, config, seed, dim) if found.others else None
            start = tf.constant_initializer(found.log_popularity)
            self.popularity = self.add_weight("popularity", [found.codes], trainable=False, initializer=start)
            self.bias = self.add_weight("bias", [found.codes], initializer=start)
            only = tf.VariableAggregation.ONLY_FIRST_REPLICA
            self.steps = self.add_weight("steps", dtype="int64", trainable=False, initializer="zeros", aggregation=only)
            # Plain numbers: a tensor made here would be an input of the exported graph.
            self.no_items = np.where(np.arange(found.codes) < FIRST, _NO_ITEM, 0).astype("float32")

        def vector(self, columns: dict[str, Any], training: bool = False) -> Any:
            """What the history and the features beside it say, [batch, dim]."""
            made = self.encode(columns[self.found.history.name], training)
            return made if self.beside is None else made + self.beside(columns, training=training)

        def call(self, columns: dict[str, Any], training: bool = False) -> Any:
            logits = self.decode(self.vector(columns, training), training)
            known = tf.reduce_any(columns[self.found.history.name] >= FIRST, 1, keepdims=True)
            return tf.where(known, logits, self.popularity) + self.no_items

        def answer(self, columns: dict[str, Any]) -> dict[str, Any]:
            """The best items: `item` int64 [batch, k], `score` [batch, k], and `known` int64 [batch, 1].

            Scores are shares of all items that may be answered. Items of the history come last, with a score of 0.
            """
            codes, logits = columns[self.found.history.name], self(columns, training=False)
            if self.config.exclude_history:
                logits = without(logits, codes)
            best, items = tf.math.top_k(logits, min(self.config.top_k, self.found.codes - FIRST))
            score = tf.exp(best - tf.reduce_logsumexp(logits, 1, keepdims=True))
            known = tf.reduce_sum(tf.cast(codes >= FIRST, "int64"), 1, keepdims=True)
            return {"item": tf.cast(items, "int64"), "score": score, "known": known}

        def every_item(self, columns: dict[str, Any]) -> Any:
            """The logits of all codes, [batch, codes], items of the history as all others: what rankings compare."""
            return self(columns, training=False)

        def train_step(self, given: Any) -> dict[str, Any]:
            columns, labels, *weights = given
            targets = tf.cast(labels[:, 0], "int64")
            weight = tf.cast(targets >= FIRST, "float32")
            weight = weight if not weights or weights[0] is None else weight * tf.reshape(weights[0], [-1])
            with tf.GradientTape() as tape:
                losses = self.row_losses(columns, targets)
                regularization = tf.add_n([tf.zeros(()), *(tf.cast(one, "float32") for one in self.losses)])
                loss = tf.reduce_sum(losses * weight) / tf.maximum(tf.reduce_sum(weight), 1e-9) + regularization
            self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
            self.steps.assign_add(1)
            return {"loss_batch": loss, "regularization_loss": regularization}

        def valid_loss(self, folder: Path, labels: data.Array) -> float:
            """Return the mean cross entropy of the rows of a split whose item is known: what an epoch is judged by."""
            features, total, done = (self.found.history, *self.found.others), 0.0, 0
            for batch in data.batches(folder, features, _JUDGED_ROWS):
                targets = labels[done : (done := done + len(batch[self.found.history.name]))]
                logits = self({name: tf.constant(values) for name, values in batch.items()}, training=False)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits).numpy()
                total += float(losses[targets >= FIRST].sum())
            return total / max(1, int((labels >= FIRST).sum()))

        def drop(self, values: Any, rate: float, place: int, shape: Any = None) -> Any:
            """Dropout that follows from the step's number, so that a resumed run drops the same."""
            if not rate:
                return values
            seed = tf.stack([tf.constant((self.seed * 101 + place) % 2**31, "int64"), self.steps])
            kept = tf.random.stateless_uniform(tf.shape(values) if shape is None else shape, seed) >= rate
            return values * tf.cast(kept, values.dtype) / (1 - rate)

    return ItemModel


@cache
def _beside_class() -> Any:
    tf = tensorflow()

    class Beside(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """The features beside the history -> what they add to its vector, [batch, dim]; nothing at first."""

        def __init__(self, inputs: Inputs, found: Lists, config: ModelConfig, seed: int, dim: int) -> None:
            super().__init__(name="beside", dtype="float32")
            self.codes = [feature.name for feature in found.others if feature.categorical]
            self.values = [feature.name for feature in found.others if not feature.categorical]
            self.tables = embeddings(inputs, self.codes, config, seed) if self.codes else None
            self.last = tf.keras.layers.Dense(dim, use_bias=False, kernel_initializer="zeros", dtype="float32")

        def call(self, columns: dict[str, Any], training: bool = False) -> Any:
            found = [columns[name] for name in self.values]
            if self.tables is not None:
                made = self.tables({name: columns[name] for name in self.codes}, training=training)
                found += [tf.cast(one, "float32") for one in tf.nest.flatten(made)]
            return self.last(tf.concat(found, 1))

    return Beside


def _beside(inputs: Inputs, found: Lists, config: ModelConfig, seed: int, dim: int) -> Any:
    return _beside_class()(inputs, found, config, seed, dim)


def compacted(codes: Any) -> tuple[Any, Any]:
    """Return the codes [batch, length] with the items first, in their order, and how many there are, int64 [batch]."""
    tf = tensorflow()
    length = codes.shape[1]
    known = codes >= FIRST
    place = tf.range(length)[None, :] + tf.where(known, 0, length)
    _, order = tf.math.top_k(-place, length)
    return tf.gather(codes, order, batch_dims=1), tf.reduce_sum(tf.cast(known, "int64"), 1)


def without(logits: Any, codes: Any) -> Any:
    """Return the logits [batch, items] with those of the codes [batch, length] so low that they come last."""
    tf = tensorflow()
    rows = tf.broadcast_to(tf.range(tf.shape(codes, out_type="int64")[0])[:, None], tf.shape(codes))
    values = tf.where(codes >= FIRST, _HAD, _NO_ITEM) + tf.zeros_like(codes, "float32")
    return tf.tensor_scatter_nd_update(logits, tf.stack([rows, codes], 2), values)
