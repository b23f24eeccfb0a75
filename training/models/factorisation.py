"""Models of who likes what: matrix factorisation, and neural forms of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Feature, Inputs, of_side
from training.models.blocks import (
    Compute,
    body,
    embeddings,
    feature_schema,
    id_of,
    one_dim,
    sigmoid_output,
    top,
    vectors,
)
from training.models.registry import model
from training.tensorflow import merlin_models, tensorflow

_SIDES = ("user", "item")


@model("mf")
def mf(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Matrix factorisation with biases (Koren et al. 2009): the product of the user's and the item's vector.

    `user_tower` and `item_tower` give [batch, dim + 2]: the biases stand in the vectors, so that their product is the
    logit, score = sigmoid(<user, item>).
    """
    tf, ids = tensorflow(), {side: id_of(inputs, side, "mf").name for side in _SIDES}
    dim = one_dim(inputs, list(ids.values()), config)
    towers = {
        side: body()(_vector_and_bias(inputs, ids[side], config, seed, dim), _tower(side, ids[side]), dim + 2)
        for side in _SIDES
    }

    def logit(parts: Any, columns: Mapping[str, Any], training: bool) -> Any:
        user, item = (parts[side](columns, training=training) for side in _SIDES)
        return tf.reduce_sum(user * item, 1, keepdims=True)

    made = _logit_model(dict(towers), logit, inputs)
    # Functions, so that Keras does not track each tower twice.
    made.user_tower = lambda columns: towers["user"](columns, training=False)
    made.item_tower = lambda columns: towers["item"](columns, training=False)
    return made


def _vector_and_bias(inputs: Inputs, name: str, config: ModelConfig, seed: int, dim: int) -> dict[str, Any]:
    return {
        "vectors": embeddings(inputs, [name], config, seed, dim=dim),
        "biases": embeddings(inputs, [name], config, seed, dim=1, block_name="biases"),
        "all": _constant(),
    }


def _constant() -> Any:
    """One number that is learned, as a layer: {} -> [1]."""
    tf = tensorflow()
    return tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")


def _tower(side: str, name: str) -> Compute:
    """The user's [vector, bias, 1] or the item's [vector, 1, bias + mean]: their product has both biases in it."""
    tf = tensorflow()

    def compute(parts: Any, columns: Mapping[str, Any], training: bool) -> Any:
        (vector,) = vectors(parts["vectors"], columns, [name], training)
        (bias,) = vectors(parts["biases"], columns, [name], training)
        one = tf.ones_like(bias)
        return tf.concat([vector, bias, one] if side == "user" else [vector, one, bias + parts["all"](one)], 1)

    return compute


@model("deep_mf")
def deep_mf(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Neural matrix factorisation (arXiv:1708.05031): products of vectors beside a perceptron on other vectors."""
    return _neural(inputs, config, seed, {side: (id_of(inputs, side, "deep_mf"),) for side in _SIDES})


@model("deep_mf_meta")
def deep_mf_meta(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Neural matrix factorisation whose perceptron also reads what else is known of the user and of the item."""
    ids = {side: id_of(inputs, side, "deep_mf_meta") for side in _SIDES}
    known = {side: (ids[side], *(one for one in of_side(inputs.features, side) if one != ids[side])) for side in _SIDES}
    if sum(map(len, known.values())) == len(_SIDES):
        raise ConfigError(
            "deep_mf_meta",
            expected="features of the user or of the item beside the ids",
            received="none with the tag user or item",
            hint="Say whose property a column is: data.columns.<name>.side; or use the model deep_mf.",
        )
    return _neural(inputs, config, seed, known)


def _neural(inputs: Inputs, config: ModelConfig, seed: int, known: Mapping[str, tuple[Feature, ...]]) -> Any:
    """The first feature of each side is its id."""
    tf, ids = tensorflow(), [known[side][0].name for side in _SIDES]
    features = [feature for side in _SIDES for feature in known[side]]
    codes = [feature.name for feature in features if feature.categorical]
    values = [feature.name for feature in features if not feature.categorical]
    dim = one_dim(inputs, ids, config)
    parts = {
        "factors": embeddings(inputs, ids, config, seed, dim=dim, block_name="factors"),
        "tables": embeddings(inputs, codes, config, seed),
        "top": top(config),
        "logit": tf.keras.layers.Dense(1),
    }

    def logit(parts: Any, columns: Mapping[str, Any], training: bool) -> Any:
        user, item = vectors(parts["factors"], columns, ids, training)
        found = vectors(parts["tables"], columns, codes, training)
        deep = parts["top"](tf.concat([*found, *(columns[name] for name in values)], 1), training=training)
        return parts["logit"](tf.concat([user * item, deep], 1))

    return _logit_model(parts, logit, inputs)


def _logit_model(parts: dict[str, Any], logit: Compute, inputs: Inputs) -> Any:
    return merlin_models().Model(body()(parts, logit, 1), sigmoid_output(inputs), schema=feature_schema(inputs))
