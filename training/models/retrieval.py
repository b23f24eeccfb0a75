"""Models that find items: one vector for the user, one for each item, told apart by a softmax."""

from __future__ import annotations

from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Inputs
from training.models.registry import model
from training.models.towers import catalogue, sides, tower_class
from training.models.two_sided import Learning, softmax, two_sided


@model("two_tower")
def two_tower(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Two towers (Yi et al., RecSys 2019): cosine over temperature, in-batch softmax with logQ correction."""
    found, tower = sides(inputs, config.name), tower_class()
    width = {"dim": config.embedding_dim, "normalised": True}
    towers = (
        tower(inputs, found.users, config, seed, name="user_tower", **width),
        tower(inputs, found.items, config, seed + 1, name="item_tower", **width),
    )
    learning = Learning(softmax, strategy(config, "in_batch"), config.temperature, config.negatives.log_q)
    return two_sided()(found, catalogue(inputs, found), towers, learning, config, seed)


@model("youtube_dnn")
def youtube_dnn(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """A user vector from the user's features and history, against a softmax table of items (Covington et al., 2016).

    An item's vector ends with its bias, the user's with 1.
    """
    found, tower = sides(inputs, config.name), tower_class()
    if found.item.name in config.embedding_dims:
        raise ConfigError(
            f"model.embedding_dims: {found.item.name}",
            expected="no size of its own: an item's vector is as long as the user's",
            hint="Set model.embedding_dim.",
        )
    towers = (
        tower(inputs, found.users, config, seed, dim=config.embedding_dim, ones=True, name="user_tower"),
        tower(inputs, (found.item,), config, seed + 1, dim=None, table=config.embedding_dim + 1, name="item_tower"),
    )
    learning = Learning(softmax, strategy(config, "popularity"), 1.0, config.negatives.log_q)
    return two_sided()(found, catalogue(inputs, found), towers, learning, config, seed)


def strategy(config: ModelConfig, own: str, refused: tuple[str, ...] = ("semi_hard",)) -> str:
    """Return the strategy that is asked for, or the model's own; ConfigError for one that does not suit its loss."""
    found = config.negatives.strategy or own
    if found in refused:
        raise ConfigError(
            "model.negatives.strategy",
            expected=f"one that {config.name} can use, such as {own}",
            received=found,
            hint="semi_hard needs the triplets of the model triplet; hard needs a softmax.",
        )
    return found
