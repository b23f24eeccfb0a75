"""Models that rank rows of many columns by their click probability."""

from __future__ import annotations

from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.data import Inputs
from training.models.blocks import by_kind, embeddings, feature_schema, output, top
from training.models.layers import pairwise_dots
from training.models.registry import model
from training.tensorflow import merlin_models


@model("dlrm")
def dlrm(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """DLRM (arXiv:1906.00091): dot products of every pair of embeddings, the continuous columns being one of them."""
    mm = merlin_models()
    codes, values = by_kind(inputs)
    if not codes:
        raise ConfigError(
            "dlrm", expected="at least one categorical feature", received="none", hint="Use the model dcn_v2."
        )
    if len(codes) + bool(values) < 2:
        raise ConfigError(
            "dlrm", expected="at least two features", received=f"only {codes[0]}", hint="Use the model dcn_v2."
        )
    tables = embeddings(inputs, codes, config, seed)
    interact = mm.SequentialBlock(mm.StackFeatures(axis=1), pairwise_dots()())
    if not values:
        return mm.Model(tables, interact, top(config), output(inputs), schema=feature_schema(inputs))
    if config.bottom[-1] != config.embedding_dim:
        raise ConfigError(
            "model.bottom",
            expected=f"a last width equal to embedding_dim ({config.embedding_dim})",
            received=str(config.bottom),
        )
    bottom = mm.ContinuousFeatures.from_schema(inputs.schema[values], aggregation="concat").connect(
        mm.MLPBlock(config.bottom)
    )
    body = mm.ParallelBlock({"embeddings": tables, "bottom_block": bottom}, is_input=True)
    body = body.connect_with_shortcut(interact, shortcut_filter=mm.Filter("bottom_block"), aggregation="concat")
    return mm.Model(body, top(config), output(inputs), schema=feature_schema(inputs))


@model("dcn_v2")
def dcn_v2(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """DCN-v2, stacked (arXiv:2008.13535): cross layers over all features side by side, then a perceptron."""
    mm = merlin_models()
    codes, values = by_kind(inputs)
    branches = {}
    if codes:
        branches["categorical"] = embeddings(inputs, codes, config, seed)
    if values:
        branches["continuous"] = mm.ContinuousFeatures.from_schema(inputs.schema[values])
    features = mm.ParallelBlock(branches, aggregation="concat", is_input=True)
    return mm.Model(
        features, mm.CrossBlock(config.cross_depth), top(config), output(inputs), schema=feature_schema(inputs)
    )
