"""Models that rank rows of many columns by their click probability."""

from __future__ import annotations

from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Inputs
from training.models.blocks import (
    Compute,
    body,
    by_kind,
    embeddings,
    feature_schema,
    grouped,
    linear,
    one_dim,
    output,
    sigmoid_output,
    top,
    vectors,
)
from training.models.crosses import crosses
from training.models.layers import pairwise_dots
from training.models.registry import model
from training.tensorflow import merlin_models, tensorflow


@model("dlrm")
def dlrm(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """DLRM (arXiv:1906.00091): dot products of every pair of embeddings, the continuous columns being one of them."""
    mm, tf, (codes, values) = merlin_models(), tensorflow(), by_kind(inputs)
    if not codes:
        raise ConfigError(
            "dlrm", expected="at least one categorical feature", received="none", hint="Use the model dcn_v2."
        )
    if len(codes) + bool(values) < 2:
        raise ConfigError(
            "dlrm", expected="at least two features", received=f"only {codes[0]}", hint="Use the model dcn_v2."
        )
    dim = one_dim(inputs, codes, config)
    if values and config.bottom[-1] != dim:
        raise ConfigError(
            "model.bottom",
            expected=f"a last width equal to embedding_dim ({dim})",
            received=str(config.bottom),
        )
    tables = grouped(inputs, codes, config, seed, stacked=True)
    parts = {"tables": tables, "dots": pairwise_dots()()} | ({"bottom": mm.MLPBlock(config.bottom)} if values else {})

    def compute(parts: Any, columns: Any, training: bool) -> Any:
        found = parts["tables"](columns, training=training)
        if not values:
            return parts["dots"](found, training=training)
        bottom = parts["bottom"](tf.concat([columns[name] for name in values], 1), training=training)
        dots = parts["dots"](tf.concat([bottom[:, None], found], 1), training=training)
        return tf.concat([bottom, dots], 1)

    count = len(codes) + bool(values)
    width = count * (count - 1) // 2 + (dim if values else 0)
    return mm.Model(body()(parts, compute, width), top(config), output(inputs), schema=feature_schema(inputs))


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


@model("deepfm")
def deepfm(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """DeepFM (arXiv:1703.04247): a factorisation machine and a perceptron on the same vectors; their logits add up."""
    mm, tf, (codes, values) = merlin_models(), tensorflow(), by_kind(inputs)
    if len(codes) < 2:
        raise ConfigError(
            "deepfm",
            expected="at least two categorical features",
            received=", ".join(codes) or "none",
            hint="Use the model dcn_v2.",
        )
    one_dim(inputs, codes, config)
    parts, first_order = linear(inputs, config, seed)
    parts |= {"tables": embeddings(inputs, codes, config, seed), "pairs": mm.FMPairwiseInteraction()}
    parts |= {"top": top(config), "deep": tf.keras.layers.Dense(1)}

    def logit(parts: Any, columns: Any, training: bool) -> Any:
        found = vectors(parts["tables"], columns, codes, training)
        pairs = tf.reduce_sum(parts["pairs"](tf.stack(found, 1)), 1, keepdims=True)
        wide = tf.concat([*found, *(columns[name] for name in values)], 1)
        deep = parts["deep"](parts["top"](wide, training=training))
        return first_order(parts, columns, training) + pairs + deep

    return _logit_model(parts, logit, inputs)


@model("wide_deep")
def wide_deep(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Wide & Deep (arXiv:1606.07792): a linear model, of crossed features too, and a perceptron on vectors."""
    tf, (codes, values) = tensorflow(), by_kind(inputs)
    parts, wide = linear(inputs, config, seed)
    crossed = [crosses()(inputs, names, config) for names in config.crosses]
    parts |= {f"cross_{number}": cross for number, cross in enumerate(crossed)}
    parts |= {"top": top(config), "deep": tf.keras.layers.Dense(1)}
    if codes:
        parts["tables"] = embeddings(inputs, codes, config, seed)

    def logit(parts: Any, columns: Any, training: bool) -> Any:
        found = vectors(parts["tables"], columns, codes, training) if codes else []
        deep = parts["top"](tf.concat([*found, *(columns[name] for name in values)], 1), training=training)
        terms = [parts[f"cross_{number}"](columns) for number in range(len(crossed))]
        return tf.add_n([wide(parts, columns, training), parts["deep"](deep), *terms])

    return _logit_model(parts, logit, inputs)


def _logit_model(parts: dict[str, Any], logit: Compute, inputs: Inputs) -> Any:
    return merlin_models().Model(body()(parts, logit, 1), sigmoid_output(inputs), schema=feature_schema(inputs))
