"""What a model of item lists is asked in a comparison: for each user, the list of items before the test rows.

A list holds the user's positives of train and valid, in the order in which the model's own lists are made (of time,
then of rows), the last `split.history` of them. What stands beside it (the user's own columns, the context) is that of
the user's latest row in train or valid. No test row is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from etl.errors import ConfigError
from etl.graph import FeatureGraph
from etl.names import ROW
from etl.operators.categorical import FIRST as UNKNOWN
from etl.operators.categorical import first_code, vocabulary_of
from etl.progress import Progress
from etl.sources.dataset import DataColumn, Dataset
from mews.compare.folders import ListRun
from mews.compare.ground import Ground

Array = npt.NDArray[Any]
FIRST = UNKNOWN + 1
"""The first code of a known value."""


def open_lists(ground: Ground, folder: ListRun, longest: int, whole_sets: bool, progress: Progress) -> Any:
    """Return the model of `folder` as a Recommender of the users and items of `ground`.

    The lists pass through the graph that the model was trained with, as `transform` runs it. A user whom the features
    of `ground` do not know has an empty list. ConfigError as `vocabulary`.
    """
    theirs, pair = FeatureGraph.load(ground.run.graph), ground.held.pair
    codes = np.unique(np.concatenate([ground.cases.users, ground.test.users]))
    codes = codes[codes >= FIRST]
    users = vocabulary(theirs, pair.user.name).gather(codes - FIRST).alias(owner_of_lists(ground))
    parts = [Dataset.load(ground.run.split / part) for part in ("train", "valid")]
    rows = lists_before_test(parts, Dataset.load(folder.split / "train").columns, users, longest, whole_sets)
    lists = np.zeros(pair.user.cardinality or 0, "int64")
    lists[codes] = np.arange(1, len(codes) + 1)
    with tempfile.TemporaryDirectory(prefix="mews-compare-") as temporary:
        rows.write_parquet(Path(temporary, "rows.parquet"))
        return _opened(folder, [Path(temporary, "rows.parquet")], lists, vocabulary(theirs, pair.item.name), progress)


def open_test_lists(ground: Ground, folder: ListRun, progress: Progress) -> Any:
    """Return the model of `folder` as a Recommender of the test lists of `ground`, whose codes count from FIRST."""
    items = vocabulary(FeatureGraph.load(ground.run.graph), ground.inputs.label)
    test = Dataset.load(ground.run.split / "test")
    return _opened(folder, test.files, np.maximum(np.arange(test.rows + FIRST) - FIRST, 0), items, progress)


def _opened(folder: ListRun, rows: Sequence[Path], lists: Array, items: pl.Series, progress: Progress) -> Any:
    """The model, asked with the examples in the files `rows`; it answers in codes whose raw values are `items`."""
    from etl import batch
    from training.evaluation.recommender import open_list_model
    from training.train import read_training

    graph = FeatureGraph.load(folder.graph)
    places = _places(items, vocabulary(graph, read_training(folder.model)["label"]))
    with tempfile.TemporaryDirectory(prefix="mews-compare-") as temporary:
        features = Path(temporary, "features")
        batch.transform(graph, rows, features, progress=progress)
        return open_list_model(folder.model, features, lists, places, folder.name)


def lists_before_test(
    parts: Sequence[Dataset], columns: Sequence[DataColumn], users: pl.Series, longest: int, whole_sets: bool = False
) -> pl.DataFrame:
    """Return a row with an empty list and nothing beside it, then a row for each of `users`, in their order.

    `parts` are the rows before test, in order; `columns` those of the model's examples, whose item is null here.
    `users` are raw values, and bear the name of their column. `whole_sets` keeps the last of each item only.
    """
    item, label, time = parts[0].only("item") or "", parts[0].label, parts[0].only("timestamp")
    history = next(column.name for column in columns if column.role == "history")
    beside = [column.name for column in columns if column.name not in (history, item, users.name)]
    rows = pl.concat([part.scan() for part in parts]).with_row_index(ROW)
    had = pl.col(item).drop_nulls() if label is None else pl.col(item).filter(pl.col(label) == 1).drop_nulls()
    if whole_sets:
        had = had.reverse().unique(maintain_order=True).reverse()
    known = (
        rows.filter(pl.col(users.name).is_in(users.implode()))
        .sort([*([time] if time else []), ROW])
        .group_by(users.name, maintain_order=True)
        .agg(*(pl.col(name).last() for name in beside), had.tail(longest).alias(history))
        .collect()
    )
    asked = pl.concat([users.clear().extend_constant(None, 1), users]).to_frame()
    made = asked.join(known, on=users.name, how="left", maintain_order="left")
    made = made.with_columns(pl.col(history).fill_null([]), pl.lit(None).alias(item))
    return made.select(pl.col(column.name).cast(column.polars_type) for column in columns)


def owner_of_lists(ground: Ground) -> str:
    """Return the raw column of the users, whose lists are asked for.

    MewsError where there is nobody to ask, or where codes of users and items do not stand for one raw value each.
    """
    graph, pair, _ = FeatureGraph.load(ground.run.graph), ground.held.pair, ground.cases
    for feature in (pair.user.name, pair.item.name):
        vocabulary(graph, feature)
    return _raw_column(graph, pair.user.name)


def vocabulary(graph: FeatureGraph, feature: str) -> pl.Series:
    """Return the raw value of every code of a feature, from FIRST on.

    ConfigError for codes that do not stand for one raw value each.
    """
    _raw_column(graph, feature)
    nodes = (node for node in graph.nodes if node.op == "Categorify" and feature in (c.name for c in node.outputs))
    node = next(nodes, None)
    if node is None or first_code(node, feature) != FIRST:
        received = "none" if node is None else "num_buckets"
        raise ConfigError(f"the codes of {feature!r}", expected="one Categorify, a code a value", received=received)
    return (node.state or {})[vocabulary_of(node, feature)].get_column("value")


def _raw_column(graph: FeatureGraph, feature: str) -> str:
    found = graph.raw_columns_of(feature)
    if len(found) != 1:
        raise ConfigError(f"the codes of {feature!r}", expected="one raw column", received=", ".join(found))
    return found[0]


def _places(theirs: pl.Series, own: pl.Series) -> Array:
    """The model's code of each code of `theirs`, -1 for values that it does not know."""
    numbered = [values.alias("value").to_frame().with_row_index("code", FIRST) for values in (theirs, own)]
    both = numbered[0].join(numbered[1], on="value")
    places = np.full(len(theirs) + FIRST, -1, "int64")
    places[both["code"].to_numpy()] = both["code_right"].to_numpy()
    return places
