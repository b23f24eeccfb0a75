"""A model that begins with an earlier one's weights: vectors of codes that both know are kept, new ones start anew.

`mews etl update` adds codes behind those that were given, so that a table grows at its end. That this is so is checked:
a description of a model holds a digest of each vocabulary, and the beginning of today's must have the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.errors import ArtifactError, ConfigError
from etl.graph import FeatureGraph
from training import data
from training.artifacts import read_training
from training.models.tables import grouped_embeddings
from training.tensorflow import tensorflow

_FIRST = 3
"""Codes below this are padding, null and unknown; they are never forgotten."""


@dataclass(frozen=True)
class Warm:
    """What was taken: numbers of weights, rows that were added to tables, and rows that were forgotten."""

    weights: int
    added_rows: int
    forgotten_rows: int

    def to_json(self) -> dict[str, int]:
        """Plain values for training.json."""
        return asdict(self)


def vocabularies(features: Path) -> dict[str, dict[str, Any]]:
    """Return the number of values and the digest of each vocabulary of the graph beside the features; {} without one.

    The names are `<operator>/<vocabulary>`.
    """
    return {name: {"rows": table.height, "digest": _digest(table)} for name, table in _tables(features)}


def warm_start(model: Any, inputs: data.Inputs, features: Path, earlier: Path, evict_below: int = 0) -> Warm:
    """Give `model` the weights of the model folder `earlier`; `features` is the folder of today's splits.

    What is learned is taken; what a model reads off its rows, such as popularity, stays today's. Vectors of codes that
    have fewer than `evict_below` rows in `features/train` start anew. ArtifactError when codes have moved since, or
    when the models differ in more than the sizes of vocabularies; the model is then unchanged.
    """
    facts = read_training(earlier)
    _check_codes(facts, features, earlier)
    before, sizes = _weights(earlier), _sizes(facts, inputs)
    pieces = _pieces(model, sizes)
    _check_shapes(model, before, pieces, set(sizes.values()), earlier)
    learned = {variable.ref() for variable in model.trainable_variables}
    fresh = [np.array(variable) for variable in model.variables]
    added, start = 0, [array.copy() for array in fresh]
    for variable, array, old in zip(model.variables, start, before, strict=True):
        if variable.ref() in learned:
            _take(old, array, pieces.get(variable.ref()))
            added += array.shape[0] - old.shape[0] if array.ndim else 0
    forgotten = _forget(model, inputs, features / "train", start, fresh, evict_below) if evict_below else 0
    for variable, array in zip(model.variables, start, strict=True):
        variable.assign(array)
    return Warm(len(learned), added, forgotten)


def _tables(features: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    folder = features / "graph"
    if not (folder / "graph.json").exists():
        return
    for node in FeatureGraph.load(folder).nodes:
        if node.op == "Categorify":
            yield from ((f"{node.id}/{key}", table) for key, table in (node.state or {}).items())


def _digest(table: pl.DataFrame) -> str:
    """The digest of a vocabulary's values, in order."""
    made = hashlib.sha256()
    for name in table.columns:
        if name.startswith("value"):
            values = table[name].cast(pl.String).to_list()
            made.update("\0".join("" if value is None else value for value in values).encode() + b"\1")
    return made.hexdigest()


def _begins_with(table: pl.DataFrame, old: Mapping[str, Any]) -> bool:
    return _digest(table.head(old["rows"])) == str(old["digest"])


def _check_codes(facts: Mapping[str, Any], features: Path, earlier: Path) -> None:
    """ArtifactError unless every code of the earlier model still means the same value."""
    hint = "Add the new rows with `mews etl update`, which keeps codes; or train without train.warm_start."
    known, now = facts.get("vocabularies") or {}, dict(_tables(features))
    fingerprint = data.fingerprint(features / "train")
    if not known or not now:
        if fingerprint == facts["fingerprint"]:
            return
        raise ArtifactError(
            f"warm start with {earlier}",
            expected="vocabularies of both models, or features of one graph",
            received="features of another graph, without its vocabularies",
            hint=hint,
        )
    moved = [name for name, old in known.items() if name not in now or not _begins_with(now[name], old)]
    if moved:
        raise ArtifactError(
            f"warm start with {earlier}",
            expected="codes that mean the same values",
            received=f"others for {', '.join(moved)}",
            hint=hint,
        )


def _weights(earlier: Path) -> list[data.Array]:
    """The weights in the earlier model's SavedModel, in the order of its variables."""
    tf, prefix = tensorflow(), earlier / "saved_model" / "variables" / "variables"
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights/")]
        return [reader.get_tensor(name) for name in sorted(names, key=lambda name: int(name.split("/")[1]))]
    except (ValueError, tf.errors.OpError) as error:
        raise ArtifactError(f"model {earlier}", expected="a whole SavedModel", received=str(error)[:300]) from error


def _sizes(facts: Mapping[str, Any], inputs: data.Inputs) -> dict[str, tuple[int, int]]:
    """How each feature's number of codes has changed: (before, now), 0 before for one that was not there."""
    known = {one.name: one.cardinality for one in map(data.Feature.from_json, facts["features"])}
    return {one.name: (known.get(one.name) or 0, one.cardinality) for one in inputs.features if one.cardinality}


def _pieces(model: Any, sizes: Mapping[str, tuple[int, int]]) -> dict[Any, list[tuple[int, int]]]:
    """The sizes before and now of the tables that lie one behind the other in a variable, by the variable's ref."""
    made: dict[Any, list[tuple[int, int]]] = {}
    for table in _embedding_tables(model):
        if table.grouped:
            before, now = zip(*(sizes[name] for name in table.names), strict=True)
            made.setdefault(table.variable.ref(), []).append((max(before), max(now)))
    return made


def _take(old: data.Array, array: data.Array, pieces: list[tuple[int, int]] | None) -> None:
    """Put the earlier weights `old` into the beginning of today's, or into that of each piece of its rows."""
    if pieces is None:
        array[tuple(slice(0, size) for size in old.shape)] = old
        return
    start = old_start = 0
    for before, now in pieces:
        array[start : start + before] = old[old_start : old_start + before]
        start, old_start = start + now, old_start + before


def _check_shapes(
    model: Any,
    before: list[data.Array],
    pieces: Mapping[Any, list[tuple[int, int]]],
    grown: set[tuple[int, int]],
    earlier: Path,
) -> None:
    """ArtifactError unless the weights differ in nothing but the sizes of vocabularies."""

    def fits(old: data.Array, variable: Any) -> bool:
        shape, rows = tuple(variable.shape), pieces.get(variable.ref())
        if len(old.shape) != len(shape):
            return False
        if rows is None:
            changes = [(one, two) for one, two in zip(old.shape, shape, strict=True) if one != two]
            return all(one < two and (one, two) in grown for one, two in changes)
        sums = tuple(map(sum, zip(*rows, strict=True)))
        return sums == (old.shape[0], shape[0]) and old.shape[1:] == shape[1:] and all(a <= b for a, b in rows)

    count = len(model.variables)
    if len(before) != count or not all(map(fits, before, model.variables)):
        raise ArtifactError(
            f"warm start with {earlier}",
            expected=f"a model of the same kind and layers ({count} weights)",
            received=f"{len(before)} weights" if count != len(before) else "other shapes",
            hint="Keep the section `model` and the columns as they were, or train without train.warm_start.",
        )


def _forget(
    model: Any, inputs: data.Inputs, split: Path, start: list[data.Array], fresh: list[data.Array], below: int
) -> int:
    """Put the fresh vectors back for codes with too few rows; returns the number of rows."""
    places = {variable.ref(): place for place, variable in enumerate(model.variables)}
    known, forgotten = {feature.name: feature for feature in inputs.features}, 0
    tables = list(_embedding_tables(model))
    if not tables:
        raise ConfigError(
            "train.evict_below", expected="a model with an embedding table for each vocabulary", received="another"
        )
    for table in tables:
        place = places[table.variable.ref()]
        own = slice(table.start, max(table.start + (known[name].cardinality or 0) for name in table.names))
        counts = sum(_counts(split, known[name], own.stop - own.start) for name in table.names)
        seldom = (counts < below) & (np.arange(own.stop - own.start) >= _FIRST)
        start[place][own][seldom] = fresh[place][own][seldom]
        forgotten += int(seldom.sum())
    return forgotten


@dataclass(frozen=True)
class _Table:
    """Rows of a variable from `start`, in which the features `names` are looked up; `grouped`: others' follow."""

    variable: Any
    start: int
    names: tuple[str, ...]
    grouped: bool


def _embedding_tables(model: Any) -> Iterator[_Table]:
    """Every embedding table of the model, in the order of its rows."""
    for layer in model._flatten_layers():  # Merlin's models have no usable `submodules`
        if isinstance(layer, grouped_embeddings()):
            for start in sorted(set(layer.starts.values())):
                names = tuple(name for name, first in layer.starts.items() if first == start)
                yield _Table(layer.embeddings, start, names, grouped=True)
            continue
        variable = getattr(getattr(layer, "table", None), "embeddings", None)
        if variable is not None:
            yield _Table(variable, 0, tuple(layer.schema.column_names), grouped=False)


def _counts(split: Path, feature: data.Feature, size: int) -> data.Array:
    """Rows of the split in which each code occurs, int64 [size]."""
    column = pl.col(feature.name).list.unique() if feature.length else pl.col(feature.name)
    lazy = pl.scan_parquet(data.parts(split)).select(column)
    lazy = lazy.explode(feature.name, empty_as_null=False) if feature.length else lazy
    counted = lazy.group_by(feature.name).len().collect()
    made = np.zeros(size, "int64")
    made[counted[feature.name].to_numpy()] = counted["len"].to_numpy()
    return made
