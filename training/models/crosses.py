"""Crossed features: a weight for every combination of some columns' codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Feature, Inputs
from training.tensorflow import tensorflow

# Codes are joined as the digits of a number to this base, modulo a prime; the products stay below 2^63.
_BASE, _PRIME = 2_654_435_761, 2_147_483_629


@cache
def crosses() -> Any:
    """Return the class Cross."""
    tf = tensorflow()

    class Cross(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """{feature: codes [batch, 1]} -> the weight of their combination, [batch, 1], 0 before training.

        Combinations are hashed to `cross_buckets` weights. Each has the same prior as an embedding vector.
        """

        def __init__(self, inputs: Inputs, names: Sequence[str], config: ModelConfig) -> None:
            super().__init__()
            self.names, self.buckets = [one.name for one in _crossed(inputs, names)], config.cross_buckets
            self.penalty = config.l2 * self.buckets / inputs.rows
            self.table = tf.keras.layers.Embedding(self.buckets, 1, embeddings_initializer="zeros")

        def call(self, columns: Mapping[str, Any]) -> Any:
            key = columns[self.names[0]]
            for name in self.names[1:]:
                key = (key * _BASE + columns[name]) % _PRIME
            weights = tf.squeeze(self.table(key * _BASE % _PRIME % self.buckets), -1)  # [batch, 1]
            if self.penalty > 0:
                self.add_loss(self.penalty * tf.reduce_mean(weights**2))
            return weights

    return Cross


def _crossed(inputs: Inputs, names: Sequence[str]) -> list[Feature]:
    known = {one.name: one for one in inputs.features if one.categorical and one.length is None}
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        raise ConfigError(
            f"model.crosses: {', '.join(names)}",
            expected=f"different ones of the categorical features with one value a row: {', '.join(known)}",
            received=", ".join(unknown) or "one twice",
        )
    return [known[name] for name in names]
