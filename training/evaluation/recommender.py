"""What ranking metrics ask: scores of all items for some users. Trained models and baselines answer alike.

A model of rows is asked for every pair of a user's and an item's latest features; what belongs to neither (the hour,
the device of a visit) is the same for all pairs: its median, or its commonest code. A model with a tower for each side
is asked for vectors, whose dot products rank as its scores do. A model of item lists is asked with each user's list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from etl.errors import ArtifactError
from etl.names import SCORE
from training import data
from training.data import Array, Feature
from training.evaluation.interactions import FIRST, ids
from training.predict import read_features
from training.tensorflow import quiet, tensorflow
from training.train import read_training

_ROWS = 65_536
_LISTS = 512


class Recommender(Protocol):
    """Scores of items for users."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def scores(self, users: Array) -> Array:
        """Return float32 [n, items] for user codes [n]: a column for each item code, -inf for what is no item."""


class FromItems(Protocol):
    """Scores of items for sets of items, whoever had them."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def complete(self, sets: Any) -> Array:
        """Return float32 [n, items] for a CSR [n, items] of the items in each set."""


@dataclass(frozen=True)
class Latest:
    """The features of every code as the latest row has them: {feature: [codes, width]}; zeros for codes without rows.

    `context` are the features of neither side, the same for all: {feature: [1, width]}.
    """

    users: dict[str, Array]
    items: dict[str, Array]
    context: dict[str, Array]
    candidates: Array


def latest(folders: Sequence[Path], features: Sequence[Feature]) -> Latest:
    """Read the splits in order, later rows over earlier ones. Memory grows with the codes, not the rows.

    Candidates are the items of the first split, that is of the training rows.
    """
    pair = ids(features)
    sides = {side: data.of_side(features, side) for side in ("user", "item")}
    keys = {"user": pair.user, "item": pair.item}
    tables = {
        side: {each.name: np.zeros((keys[side].cardinality or 0, each.width), each.dtype) for each in sides[side]}
        for side in sides
    }
    candidates = np.zeros(pair.item.cardinality or 0, bool)
    wanted = tuple({each.name: each for each in (*sides["user"], *sides["item"], pair.user, pair.item)}.values())
    for place, folder in enumerate(folders):
        for batch in data.batches(folder, wanted):
            for side, table in tables.items():
                codes = batch[keys[side].name][:, 0]
                for name, values in table.items():
                    values[codes] = batch[name]  # of a repeated code the last row stays
            if not place:
                candidates[batch[pair.item.name][:, 0]] = True
    candidates[:FIRST] = False
    apart = {each.name for side in sides.values() for each in side}
    context = tuple(each for each in features if each.name not in apart)
    for side, table in tables.items():
        table[keys[side].name] = np.arange(keys[side].cardinality or 0)[:, None]
    return Latest(tables["user"], tables["item"], _typical(folders[0], context), candidates)


def _typical(folder: Path, features: Sequence[Feature]) -> dict[str, Array]:
    """Medians, commonest codes, and empty lists: {feature: [1, width]}."""
    scalars = [feature for feature in features if feature.length is None]
    found: dict[str, Any] = {}
    if scalars:
        asked = [
            pl.col(each.name).drop_nulls().mode().sort().first() if each.categorical else pl.col(each.name).median()
            for each in scalars
        ]
        found = pl.scan_parquet(data.parts(folder)).select(asked).collect().row(0, named=True)
    return {each.name: np.full((1, each.width), found.get(each.name) or 0, each.dtype) for each in features}


@dataclass
class RowModel:
    """A model that scores one (user, item, context) row, asked for every pair."""

    name: str
    module: Any
    features: tuple[Feature, ...]
    table: Latest

    def __post_init__(self) -> None:
        tf = tensorflow()
        self._codes = np.flatnonzero(self.table.candidates)
        names = data.tensor_names(self.features)
        context = {name: tf.constant(values) for name, values in self.table.context.items()}

        def pairs(users: dict[str, Any], items: dict[str, Any]) -> Any:
            rows, columns = (tf.shape(next(iter(side.values())))[0] for side in (users, items))
            whole = {name: tf.repeat(values, columns, axis=0) for name, values in users.items()}
            whole |= {name: tf.tile(values, [rows, 1]) for name, values in items.items()}
            whole |= {name: tf.repeat(values, rows * columns, axis=0) for name, values in context.items()}
            score = self.module.score({names[name]: whole[name] for name in names})["score"]
            return tf.reshape(score, [rows, columns])

        sides = [
            {name: tf.TensorSpec([None, *values.shape[1:]], values.dtype) for name, values in side.items()}
            for side in (self.table.users, self.table.items)
        ]
        self._pairs = tf.function(pairs, input_signature=sides, autograph=False)

    def scores(self, users: Array) -> Array:
        """Return the probability of every candidate."""
        made = np.full((len(users), len(self.table.candidates)), -np.inf, "float32")
        width = min(len(self._codes), _ROWS)
        height = max(1, _ROWS // max(1, width))
        with quiet():
            for first in range(0, len(self._codes), width):
                codes = self._codes[first : first + width]
                items = {name: values[codes] for name, values in self.table.items.items()}
                for start in range(0, len(users), height):
                    rows = slice(start, start + height)
                    asked = {name: values[users[rows]] for name, values in self.table.users.items()}
                    made[rows, codes] = self._pairs(asked, items).numpy()
        return made


@dataclass
class TwoTowers:
    """A model whose scores rank as dot products of a user's and an item's vector."""

    name: str
    module: Any
    features: tuple[Feature, ...]
    table: Latest

    def __post_init__(self) -> None:
        self._codes = np.flatnonzero(self.table.candidates)
        self.vectors = self._vectors("item", self.table.items, self._codes)

    def scores(self, users: Array) -> Array:
        """Return dot products with every candidate."""
        made = np.full((len(users), len(self.table.candidates)), -np.inf, "float32")
        made[:, self._codes] = self._vectors("user", self.table.users, users) @ self.vectors.T
        return made

    def _vectors(self, side: str, table: dict[str, Array], codes: Array) -> Array:
        tf, names = tensorflow(), data.tensor_names(self.features)
        tower = getattr(self.module, f"{side}_tower")
        wanted = [feature.name for feature in data.of_side(self.features, side)]
        with quiet():
            made = [
                tower({names[name]: tf.constant(table[name][part]) for name in wanted})["vector"].numpy()
                for part in np.array_split(codes, max(1, -(-len(codes) // _ROWS)))
            ]
        return np.concatenate(made)


@dataclass
class ListModel:
    """A model that scores every item for a list of items.

    `columns` are the features of the lists that users are asked with, {feature: [lists, width]}, `lists` the place
    of each user code's list among them, and `places` the model's own code of each item code, -1 where it knows none:
    both int64 [codes]. `item_codes` is how many codes it has itself.
    """

    name: str
    module: Any
    features: tuple[Feature, ...]
    columns: dict[str, Array]
    lists: Array
    places: Array
    item_codes: int

    def scores(self, users: Array) -> Array:
        """Return the logits of every item that the model knows, those of the list too."""
        tf, names = tensorflow(), data.tensor_names(self.features)
        made = np.full((len(users), len(self.places)), -np.inf, "float32")
        known = np.flatnonzero(self.places >= 0)
        for start in range(0, len(users), _LISTS):
            rows = self.lists[users[start : start + _LISTS]]
            with quiet():
                found = self.module.every_item(
                    {tensor: tf.constant(self.columns[name][rows]) for name, tensor in names.items()}
                )
            made[start : start + len(rows), known] = found[SCORE].numpy()[:, self.places[known]]
        return made


def open_model(model: Path, folders: Sequence[Path], name: str | None = None) -> RowModel | TwoTowers:
    """Return a model folder of rows as a Recommender, with the latest features of `folders` (train, then valid).

    ConfigError when the features have no user_id or item_id, ArtifactError when they come from another graph.
    """
    facts = read_training(model)
    _check_graph(facts, model, *folders)
    features = read_features(facts)
    ids(features)
    module = load_module(model)
    kind = TwoTowers if hasattr(module, "user_tower") and hasattr(module, "item_tower") else RowModel
    return kind(name or facts["config"]["name"], module, features, latest(folders, features))


def open_list_model(model: Path, split: Path, lists: Array, places: Array, name: str | None = None) -> ListModel:
    """Return a model folder of item lists as a Recommender; the rows of `split` are what `lists` point to.

    ArtifactError when they come from another graph than the model's.
    """
    facts = read_training(model)
    _check_graph(facts, model, split)
    features = read_features(facts)
    batches = list(data.batches(split, features))
    columns = {each.name: np.concatenate([batch[each.name] for batch in batches]) for each in features}
    codes, module = facts["items"] + FIRST, load_module(model)
    return ListModel(name or facts["config"]["name"], module, features, columns, lists, places, codes)


def _check_graph(facts: dict[str, Any], model: Path, *folders: Path) -> None:
    if (made := data.fingerprint(*folders)) != facts["fingerprint"]:
        raise ArtifactError(
            f"features in {folders[0].parent}",
            expected=f"fingerprint {facts['fingerprint'][:12] or 'none'}, as the model in {model}",
            received=made[:12] or "none",
            hint="Train again on these features.",
        )


def load_module(model: Path) -> Any:
    """Load the SavedModel of a model folder; ArtifactError when it has none."""
    folder = model / "saved_model"
    if not (folder / "saved_model.pb").exists():
        raise ArtifactError(f"model folder {model}", expected="saved_model/", received="none", hint="Run `mews train`.")
    with quiet():
        return tensorflow().saved_model.load(str(folder))
