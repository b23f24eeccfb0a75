"""Towers: which features belong to the user and which to the item, and the layers that make a vector of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Feature, Inputs, of_side, tagged
from training.models.blocks import grouped, vectors
from training.models.negatives import Catalogue, read_catalogue
from training.tensorflow import merlin_models, tensorflow


@dataclass(frozen=True)
class Sides:
    """The features of a two-sided model, the ids being among them; `user` is None where no feature is a user's id."""

    users: tuple[Feature, ...]
    items: tuple[Feature, ...]
    user: Feature | None
    item: Feature


def sides(inputs: Inputs, name: str) -> Sides:
    """Return the features of either side; ConfigError without a user's feature or without the item's id."""
    users, items = (of_side(inputs.features, side) for side in ("user", "item"))
    item = tagged(items, "item_id")
    if not users or item is None or item.length or not item.categorical:
        missing = "features of the user" if item is not None else "an item id"
        raise ConfigError(
            f"the model {name}",
            expected=f"{missing}, by the tags of the features",
            received=", ".join(feature.name for feature in inputs.features),
            hint="Say which columns are the ids (roles user and item) and whose properties others are (side).",
        )
    return Sides(users, items, tagged(users, "user_id"), item)


def catalogue(inputs: Inputs, found: Sides) -> Catalogue:
    """Read the items that training draws from; ConfigError for inputs that come from no folder."""
    if inputs.folder is None:
        raise ConfigError("the items of the training rows", expected="features in a folder", received="none")
    return read_catalogue(inputs.folder, found.items, found.item, inputs.label)


@cache
def tower_class() -> Any:
    """Return the class Tower."""
    tf, mm = tensorflow(), merlin_models()

    class Tower(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """The features of one side -> their vector [batch, dim]; other features are passed over.

        Without `dim` there are no layers: the embeddings are the vector. `table` is their size, if not the
        configuration's. `ones` adds a 1 at the end, which an item's last number, its bias, is multiplied with.
        """

        def __init__(
            self,
            inputs: Inputs,
            features: Sequence[Feature],
            config: ModelConfig,
            seed: int,
            *,
            dim: int | None,
            table: int | None = None,
            normalised: bool = False,
            ones: bool = False,
            name: str,
        ) -> None:
            super().__init__(name=name)
            self.codes = [feature.name for feature in features if feature.categorical]
            self.lists = {feature.name for feature in features if feature.length}
            self.values = [feature.name for feature in features if not feature.categorical]
            self.normalised, self.ones = normalised, ones
            self.tables = grouped(inputs, self.codes, config, seed, dim=table) if self.codes else None
            self.hidden: Any = mm.MLPBlock(config.top, dropout=config.dropout or None) if dim else None
            self.last: Any = tf.keras.layers.Dense(dim) if dim else None

        def call(self, columns: dict[str, Any], training: bool = False) -> Any:
            found = [columns[name] for name in self.values]
            if self.tables is not None:
                shaped = {n: columns[n][..., None] if n in self.lists else columns[n] for n in self.codes}
                found += vectors(self.tables, shaped, self.codes, training)
            vector = tf.concat(found, 1)
            if self.last is not None:
                vector = self.last(self.hidden(vector, training=training))
            if self.normalised:
                vector = tf.math.l2_normalize(vector, 1)
            vector = tf.concat([vector, tf.ones_like(vector[:, :1])], 1) if self.ones else vector
            return tf.cast(vector, "float32")

    return Tower
