"""Models of what comes next: the items of a visit or of a user, in their order, become a vector that scores them all.

Past `model.full_softmax` items a training step compares the target with `model.sampled_items` others, drawn by their
place in the vocabulary, which is by falling count (log-uniform), with the correction for how often each is drawn.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.data import Inputs
from training.models.item_lists import FIRST, compacted, item_model, lists
from training.models.registry import model
from training.tensorflow import tensorflow


@model("gru4rec")
def gru4rec(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """GRU4Rec (arXiv:1511.06939): a recurrent network reads the items one after the other."""
    return _session_model()(inputs, config, seed, _recurrent()(config))


@model("transformer")
def transformer(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """SASRec (arXiv:1808.09781): blocks of causal self-attention over the items and how recent they are."""
    if config.embedding_dim % config.heads:
        raise ConfigError(
            "model.heads", expected=f"a divisor of embedding_dim ({config.embedding_dim})", received=str(config.heads)
        )
    return _session_model()(inputs, config, seed, _attention()(config))


@cache
def _session_model() -> Any:
    tf = tensorflow()

    class SessionModel(item_model()):  # type: ignore[misc]
        """Item vectors -> the reader of the sequence -> logits, by the item vectors again or a table of their own."""

        def __init__(self, inputs: Inputs, config: ModelConfig, seed: int, reader: Any) -> None:
            super().__init__(inputs, lists(inputs, config.name), config, seed, config.embedding_dim)
            self.table = self.output_table = self._vectors("item_vectors", seed)
            if not config.tied:
                self.output_table = self._vectors("item_vectors_out", seed + 1)
            self.reader = reader

        def _vectors(self, name: str, seed: int) -> Any:
            dim = self.config.embedding_dim
            begin = tf.keras.initializers.RandomNormal(stddev=1 / math.sqrt(dim), seed=seed)
            return self.add_weight(name, [self.found.codes, dim], initializer=begin)

        def encode(self, codes: Any, training: bool) -> Any:
            items, count = compacted(codes)
            vectors = tf.gather(self.table, items)  # [batch, length, dim]
            drop = self.drop if training else _keep
            vectors = drop(vectors, self.config.dropout, 1)
            states = self.reader(vectors, count, drop)  # [batch, length, dim]
            last = tf.one_hot(tf.maximum(count - 1, 0), codes.shape[1])
            return tf.reduce_sum(states * last[:, :, None], 1)

        def decode(self, vector: Any, training: bool) -> Any:
            return tf.matmul(vector, self.output_table, transpose_b=True) + self.bias

        def row_losses(self, columns: dict[str, Any], targets: Any) -> Any:
            vector = self.vector(columns, training=True)
            if self.found.codes <= self.config.full_softmax:
                logits = self.decode(vector, True) + self.no_items
                return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            return self._sampled(vector, targets)

        def _sampled(self, vector: Any, targets: Any) -> Any:
            count, items = self.config.sampled_items, self.found.codes - FIRST
            seed = tf.stack([tf.constant(self.seed, "int64"), self.steps])
            drawn = tf.exp(tf.random.stateless_uniform([count], seed) * math.log(items + 1)) - 1
            drawn = tf.minimum(tf.cast(drawn, "int64"), items - 1) + FIRST
            own = tf.reduce_sum(vector * tf.gather(self.output_table, targets), 1) + tf.gather(self.bias, targets)
            others = tf.matmul(vector, tf.gather(self.output_table, drawn), transpose_b=True)
            others = others + tf.gather(self.bias, drawn) - _log_expected(drawn, items, count)
            others = tf.where(drawn[None, :] == targets[:, None], -1e9, others)
            logits = tf.concat([(own - _log_expected(targets, items, count))[:, None], others], 1)
            return tf.reduce_logsumexp(logits, 1) - logits[:, 0]

    return SessionModel


def _log_expected(codes: Any, items: int, count: int) -> Any:
    """The log of how often a code is drawn in `count` log-uniform draws."""
    tf = tensorflow()
    place = tf.cast(tf.maximum(codes - FIRST, 0), "float32")
    return tf.math.log(tf.math.log1p(1 / (place + 1)) / math.log(items + 1) * count)


def _keep(values: Any, rate: float, place: int) -> Any:
    return values


@cache
def _recurrent() -> Any:
    tf = tensorflow()

    class Recurrent(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """A GRU of `model.units` states, and a layer that brings them to the items' width."""

        def __init__(self, config: ModelConfig) -> None:
            super().__init__(name="reader", dtype="float32")
            self.gru = tf.keras.layers.GRU(config.units, return_sequences=True, dtype="float32")
            self.last = tf.keras.layers.Dense(config.embedding_dim, dtype="float32")
            self.rate = config.dropout

        def call(self, vectors: Any, count: Any, drop: Any) -> Any:
            return self.last(drop(self.gru(vectors), self.rate, 2))

    return Recurrent


@cache
def _attention() -> Any:
    tf = tensorflow()

    class Attention(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Blocks of attention to the items before, each followed by two layers; the most recent item has place 0."""

        def __init__(self, config: ModelConfig) -> None:
            super().__init__(name="reader", dtype="float32")
            self.config, self.dim = config, config.embedding_dim

        def build(self, shape: Any) -> None:
            dim, wide = self.dim, 2 * self.dim
            near_zero = tf.keras.initializers.RandomNormal(0, 0.02)
            self.places = self.add_weight("places", [shape[1], dim], initializer=near_zero)
            sizes = {"query": (dim, dim), "key": (dim, dim), "value": (dim, dim), "out": (dim, dim)}
            sizes |= {"wide": (dim, wide), "narrow": (wide, dim)}
            self.blocks = []
            for number in range(self.config.blocks):
                block = {name: self.add_weight(f"{name}_{number}", size) for name, size in sizes.items()}
                for name, size in (("wide_bias", wide), ("narrow_bias", dim)):
                    block[name] = self.add_weight(f"{name}_{number}", [size], initializer="zeros")
                for name in ("before", "between"):
                    block[name] = self.add_weight(f"{name}_{number}", [dim], initializer="ones")
                self.blocks.append(block)
            self.scale = self.add_weight("scale", [dim], initializer="ones")

        def call(self, vectors: Any, count: Any, drop: Any) -> Any:
            length = vectors.shape[1]
            recent = tf.maximum(count[:, None] - 1 - tf.range(length, dtype="int64")[None, :], 0)
            states = vectors * math.sqrt(self.dim) + tf.gather(self.places, recent)
            for number, block in enumerate(self.blocks):
                mixed = self._attend(_normal(states, block["before"]), block)
                states = states + drop(mixed, self.config.dropout, 10 + number)
                inner = tf.nn.relu(_normal(states, block["between"]) @ block["wide"] + block["wide_bias"])
                states = states + drop(inner @ block["narrow"] + block["narrow_bias"], self.config.dropout, 20 + number)
            return _normal(states, self.scale)

        def _attend(self, states: Any, block: dict[str, Any]) -> Any:
            length, heads, width = states.shape[1], self.config.heads, self.dim // self.config.heads

            def split(name: str) -> Any:  # [batch, heads, length, width]
                return tf.transpose(tf.reshape(states @ block[name], (-1, length, heads, width)), (0, 2, 1, 3))

            later = 1 - tf.linalg.band_part(tf.ones((length, length)), -1, 0)
            weights = tf.matmul(split("query"), split("key"), transpose_b=True) / math.sqrt(width) - 1e9 * later
            mixed = tf.transpose(tf.matmul(tf.nn.softmax(weights), split("value")), (0, 2, 1, 3))
            return tf.reshape(mixed, (-1, length, self.dim)) @ block["out"]

    return Attention


def _normal(values: Any, scale: Any) -> Any:
    """Layer normalisation without a shift (Keras' own exports as a batch normalisation)."""
    tf = tensorflow()
    centred = values - tf.reduce_mean(values, -1, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, keepdims=True) + 1e-6) * scale
