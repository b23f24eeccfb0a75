"""The deep triplet network for implicit feedback: a user, an item that was chosen, one that was not."""

from __future__ import annotations

from functools import partial
from typing import Any

from training.config import ModelConfig
from training.inputs import Inputs
from training.models.registry import model
from training.models.retrieval import strategy
from training.models.towers import catalogue, sides, tower_class
from training.models.two_sided import Learning, two_sided
from training.tensorflow import tensorflow


@model("triplet")
def triplet(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Two towers and pairs of items: BPR (arXiv:1205.2618) on dot products with an item bias, or a margin on cosines.

    Every chosen item is compared with all items of the pool at once, which is the mean over triplets with each.
    """
    found, tower = sides(inputs, config.name), tower_class()
    cosines = config.pair_loss == "margin"
    width, form = config.embedding_dim, {"normalised": cosines}
    towers = (
        tower(inputs, found.users, config, seed, name="user_tower", dim=width, ones=not cosines, **form),
        tower(inputs, found.items, config, seed + 1, name="item_tower", dim=width + (not cosines), **form),
    )
    loss = partial(_margin, margin=config.margin) if cosines else _bpr
    chosen = strategy(config, "uniform", refused=("hard",))
    learning = Learning(loss, chosen, 1.0, corrects=False)
    return two_sided()(found, catalogue(inputs, found), towers, learning, config, seed)


def _bpr(positive: Any, scores: Any, allowed: Any) -> Any:
    """-log sigmoid(chosen - other), the mean over each row's others."""
    return _each(tensorflow().nn.softplus(scores - positive[:, None]), allowed)


def _margin(positive: Any, scores: Any, allowed: Any, margin: float) -> Any:
    """By how much others come closer than `margin` to the chosen item, the mean over each row's others."""
    return _each(tensorflow().nn.relu(margin - positive[:, None] + scores), allowed)


def _each(losses: Any, allowed: Any) -> Any:
    tf = tensorflow()
    count = tf.cast(allowed, losses.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * count, 1), tf.reduce_sum(count, 1))
