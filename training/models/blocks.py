"""The parts that models share, from Merlin Models' blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Feature, Inputs, tagged
from training.models.layers import masked_embedding_table
from training.models.tables import grouped_embeddings
from training.tensorflow import merlin_models, tensorflow

Compute = Callable[[Any, Mapping[str, Any], bool], Any]


def by_kind(inputs: Inputs) -> tuple[list[str], list[str]]:
    """Return the names of the categorical and of the continuous features."""
    codes = [feature.name for feature in inputs.features if feature.categorical]
    return codes, [feature.name for feature in inputs.features if not feature.categorical]


def id_of(inputs: Inputs, side: str, model: str) -> Feature:
    """Return the feature that says which user or item a row is about; ConfigError where there is none."""
    found = tagged(inputs.features, f"{side}_id")
    if found is None or not found.categorical or found.length is not None:
        raise ConfigError(
            model,
            expected=f"a categorical feature tagged {side}_id, one value a row",
            received=found.name if found else "none",
            hint=f"Give the column the role {side}, or end its chain with TagAs{side.capitalize()}ID.",
        )
    return found


def feature_schema(inputs: Inputs) -> Any:
    """Return the Merlin schema of the features, without the label."""
    return inputs.schema[[feature.name for feature in inputs.features]]


def table_dims(inputs: Inputs, codes: Sequence[str], config: ModelConfig) -> dict[str, int]:
    """Return the size of each feature's vectors; ConfigError for names in `embedding_dims` that are no such feature."""
    known = by_kind(inputs)[0]
    unknown = sorted(set(config.embedding_dims) - set(known))
    if unknown:
        raise ConfigError(
            f"model.embedding_dims: {', '.join(unknown)}",
            expected=f"categorical features: {', '.join(known) or 'there are none'}",
        )
    return {name: config.embedding_dims.get(name, config.embedding_dim) for name in codes}


def one_dim(inputs: Inputs, codes: Sequence[str], config: ModelConfig) -> int:
    """Return the size that all vectors have; ConfigError where `embedding_dims` gives them several."""
    dims = table_dims(inputs, codes, config)
    if len(set(dims.values())) > 1:
        raise ConfigError(
            f"model.embedding_dims with {config.name}",
            expected="one size for all: this model multiplies vectors with each other",
            received=", ".join(f"{name}: {dim}" for name, dim in dims.items()),
            hint="Set model.embedding_dim alone, or take a model that puts vectors side by side (dcn_v2).",
        )
    return next(iter(dims.values()), config.embedding_dim)


def embeddings(
    inputs: Inputs, codes: Sequence[str], config: ModelConfig, seed: int, dim: int | None = None, **more: Any
) -> Any:
    """One table for every domain in the schema: jointly encoded columns share theirs. {feature: [batch, dim]}.

    `dim` is the size of all vectors; without it the configuration's. A Gaussian prior on every vector costs
    l2 * |vector|^2 once an epoch. A code's vector is in rows / cardinality rows of an epoch on average, so each row
    bears that part of the cost: ids seen seldom are held back more than a country.
    """
    dims = table_dims(inputs, codes, config)
    return merlin_models().Embeddings(
        inputs.schema[list(codes)],
        dim=_one_a_table(inputs, dims) if dim is None else dim,
        table_cls=masked_embedding_table(),
        l2_batch_regularization_factor=_priors(inputs, codes, config),
        id_dropout=config.id_dropout,
        seed=seed,
        **more,
    )


def grouped(
    inputs: Inputs, codes: Sequence[str], config: ModelConfig, seed: int, dim: int | None = None, stacked: bool = False
) -> Any:
    """As `embeddings`, but all features in one variable, which is faster; tables of several sizes stay apart.

    `stacked`, where all sizes are the same: [batch, features, dim].
    """
    dims = set(table_dims(inputs, codes, config).values()) if dim is None else {dim}
    if len(dims) > 1:
        return embeddings(inputs, codes, config, seed)
    chosen = [next(feature for feature in inputs.features if feature.name == name) for name in codes]
    priors = _priors(inputs, codes, config)
    return grouped_embeddings()(inputs, chosen, dims.pop(), priors, config.id_dropout, seed, stacked)


def _priors(inputs: Inputs, codes: Sequence[str], config: ModelConfig) -> dict[str, float]:
    """The part of l2 that a row bears for each feature."""
    chosen = [feature for feature in inputs.features if feature.name in set(codes)]
    return {feature.name: config.l2 * (feature.cardinality or 0) / inputs.rows for feature in chosen}


def _one_a_table(inputs: Inputs, dims: dict[str, int]) -> dict[str, int]:
    """Check that columns which share a table want the same size of it."""
    tables: dict[str, dict[str, int]] = {}
    for name, dim in dims.items():
        table = inputs.schema[name].int_domain.name or name
        tables.setdefault(table, {})[name] = dim
    for wanted in tables.values():
        if len(set(wanted.values())) > 1:
            raise ConfigError(
                "model.embedding_dims",
                expected="one size for columns that are encoded jointly: they share a table",
                received=", ".join(f"{name}: {dim}" for name, dim in wanted.items()),
            )
    return dims


@cache
def body() -> Any:
    """Return the class Body."""
    tf = tensorflow()

    class Body(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Layers and how they are put together: `compute(parts, columns, training)` -> [batch, width].

        `parts` are the layers by name, which are tracked; `columns` are tensors by feature, as Merlin's models hand
        them to their first block: scalars [batch, 1], lists [batch, length, 1].
        """

        def __init__(self, parts: Mapping[str, Any], compute: Compute, width: int) -> None:
            super().__init__()
            self.parts, self.compute, self.width = dict(parts), compute, width

        def call(self, columns: Any, training: bool = False) -> Any:
            return self.compute(self.parts, columns, training)

        def compute_output_shape(self, shapes: Any) -> Any:
            return tf.TensorShape([None, self.width])

    return Body


def vectors(tables: Any, columns: Mapping[str, Any], names: Sequence[str], training: bool) -> list[Any]:
    """Look up `names` in a block that `embeddings` made; [batch, dim] each, in the order of the names."""
    found = tables({name: columns[name] for name in names}, training=training)
    return [found[name] for name in names]


def linear(inputs: Inputs, config: ModelConfig, seed: int) -> tuple[dict[str, Any], Compute]:
    """A logit that is a sum of weights, one for each code, and of each continuous value times a weight: [batch, 1].

    A list counts as the mean of its values' weights. The weights of codes are tables of size 1: the same as one-hot
    columns before a Dense layer, without a row of zeros as long as the vocabulary.
    """
    tf, (codes, values) = tensorflow(), by_kind(inputs)
    parts: dict[str, Any] = {"bias": tf.keras.layers.Dense(1)} if values else {}
    if codes:
        parts["weights"] = embeddings(inputs, codes, config, seed, dim=1, block_name="weights")

    def compute(parts: Any, columns: Mapping[str, Any], training: bool) -> Any:
        terms = vectors(parts["weights"], columns, codes, training) if codes else []
        terms += [parts["bias"](tf.concat([columns[name] for name in values], 1))] if values else []
        return tf.add_n(terms)

    return parts, compute


def top(config: ModelConfig) -> Any:
    """Return the layers before the output."""
    return merlin_models().MLPBlock(config.top, dropout=config.dropout or None)


def output(inputs: Inputs) -> Any:
    """Return the head that makes the click probability [batch, 1]."""
    return merlin_models().BinaryOutput(inputs.label)


def sigmoid_output(inputs: Inputs) -> Any:
    """Return the head for a body that ends in the logit [batch, 1] itself."""
    return merlin_models().BinaryOutput(inputs.label, to_call=tensorflow().keras.layers.Activation("sigmoid"))
