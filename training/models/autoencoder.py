"""Models of item sets: the items that are given become a small vector, from which all of the set is to come back."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from training.config import ModelConfig
from training.inputs import Inputs
from training.models.item_lists import FIRST, item_model, lists
from training.models.registry import model
from training.tensorflow import tensorflow


@model("autoencoder")
def autoencoder(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Mult-VAE, or with `model.kl: 0` the denoising Mult-DAE (arXiv:1802.05814)."""
    return _autoencoder()(inputs, config, seed)


@cache
def _autoencoder() -> Any:
    tf = tensorflow()

    class Autoencoder(item_model()):  # type: ignore[misc]
        """The set as a row of ones and zeros, of length 1 -> a layer -> mean and spread -> a layer -> logits.

        The first layer's weights are looked up item by item: the numbers are those of the row times the matrix, and
        neither time nor gradients grow with the number of items. What is served is the mean.
        """

        def __init__(self, inputs: Inputs, config: ModelConfig, seed: int) -> None:
            found, hidden, size = lists(inputs, config.name, whole_sets=True), config.units, config.embedding_dim
            super().__init__(inputs, found, config, seed, size)
            begin = tf.keras.initializers.RandomNormal(stddev=1 / math.sqrt(hidden), seed=seed)
            self.table = self.add_weight("item_vectors", [found.codes, hidden], initializer=begin)
            self.table_bias = self.add_weight("item_vectors_bias", [hidden], initializer="zeros")
            self.mean = tf.keras.layers.Dense(size, dtype="float32", name="mean")
            self.spread = tf.keras.layers.Dense(size, dtype="float32", kernel_initializer="zeros", name="spread")
            self.spread.build(
                [None, hidden]
            )  # an answer does not use it, and a checkpoint is to have it from the start
            self.hidden = tf.keras.layers.Dense(hidden, "tanh", dtype="float32", name="hidden")
            out = tf.keras.initializers.RandomNormal(stddev=1 / math.sqrt(hidden), seed=seed + 1)
            self.output_table = self.add_weight("item_vectors_out", [found.codes, hidden], initializer=out)

        def encode(self, codes: Any, training: bool) -> Any:
            return self.mean(self._read(codes, training))

        def decode(self, vector: Any, training: bool) -> Any:
            return tf.matmul(self.hidden(vector), self.output_table, transpose_b=True) + self.bias

        def row_losses(self, columns: dict[str, Any], targets: Any) -> Any:
            given = columns[self.found.history.name]
            read = self._read(given, True)
            mean, spread = self.mean(read), self.spread(read)
            if self.beside is not None:
                mean = mean + self.beside(columns, training=True)
            logits = self.decode(self._drawn(mean, spread) if self.config.kl else mean, True) + self.no_items
            whole = tf.concat([given, targets[:, None]], 1)
            shares = tf.gather(tf.nn.log_softmax(logits), whole, batch_dims=1)
            likelihood = tf.reduce_sum(tf.where(first_of_its_kind(whole), shares, 0.0), 1)
            return self._kl_weight() * _divergence(mean, spread) - likelihood

        def _read(self, codes: Any, training: bool) -> Any:
            given = tf.cast(first_of_its_kind(codes), "float32")  # [batch, length]
            length = tf.maximum(tf.reduce_sum(given, 1, keepdims=True), 1.0)
            given = self.drop(given, self.config.item_dropout, 1) if training else given
            vectors = tf.gather(self.table, codes)
            summed = tf.squeeze(tf.matmul((given / tf.sqrt(length))[:, None, :], vectors), 1)
            return tf.tanh(summed + self.table_bias)

        def _drawn(self, mean: Any, spread: Any) -> Any:
            seed = tf.stack([tf.constant((self.seed * 101 + 2) % 2**31, "int64"), self.steps])
            return mean + tf.exp(spread / 2) * tf.random.stateless_normal(tf.shape(mean), seed)

        def _kl_weight(self) -> Any:
            """It rises from 0, so that the vectors say something before they are drawn together."""
            share = tf.cast(self.steps, "float32") / max(self.config.kl_steps, 1)
            return self.config.kl * tf.minimum(share, 1.0)

    return Autoencoder


def _divergence(mean: Any, spread: Any) -> Any:
    """KL divergence from the standard normal distribution, [batch]; `spread` is the log of the variance."""
    tf = tensorflow()
    return tf.reduce_sum(tf.exp(spread) + mean**2 - 1 - spread, 1) / 2


def first_of_its_kind(codes: Any) -> Any:
    """Whether each of [batch, length] codes is an item that does not stand before it already."""
    tf = tensorflow()
    length = codes.shape[1]
    same = tf.equal(codes[:, :, None], codes[:, None, :])
    before = tf.cast(1 - tf.linalg.band_part(tf.ones((length, length)), 0, -1), "bool")
    return (codes >= FIRST) & ~tf.reduce_any(same & before[None], 2)
