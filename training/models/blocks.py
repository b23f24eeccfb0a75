"""The parts that models share, from Merlin Models' blocks."""

from __future__ import annotations

from typing import Any

from training.config import ModelConfig
from training.data import Inputs
from training.models.layers import masked_embedding_table
from training.tensorflow import merlin_models


def by_kind(inputs: Inputs) -> tuple[list[str], list[str]]:
    """Return the names of the categorical and of the continuous features."""
    codes = [feature.name for feature in inputs.features if feature.categorical]
    return codes, [feature.name for feature in inputs.features if not feature.categorical]


def feature_schema(inputs: Inputs) -> Any:
    """Return the Merlin schema of the features, without the label."""
    return inputs.schema[[feature.name for feature in inputs.features]]


def embeddings(inputs: Inputs, codes: list[str], config: ModelConfig, seed: int) -> Any:
    """One table for every domain in the schema: jointly encoded columns share theirs.

    A Gaussian prior on every vector costs l2 * |vector|^2 once an epoch. A code's vector is in rows / cardinality rows
    of an epoch on average, so each row bears that part of the cost: ids seen seldom are held back more than a country.
    """
    return merlin_models().Embeddings(
        inputs.schema[codes],
        dim=config.embedding_dim,
        table_cls=masked_embedding_table(),
        l2_batch_regularization_factor={
            feature.name: config.l2 * (feature.cardinality or 0) / inputs.rows for feature in inputs.features
        },
        id_dropout=config.id_dropout,
        seed=seed,
    )


def top(config: ModelConfig) -> Any:
    """Return the layers before the output."""
    return merlin_models().MLPBlock(config.top, dropout=config.dropout or None)


def output(inputs: Inputs) -> Any:
    """Return the head that makes the click probability [batch, 1]."""
    return merlin_models().BinaryOutput(inputs.label)
