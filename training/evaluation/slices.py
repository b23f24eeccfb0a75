"""The same metrics for parts of the held-out data: new and cold users and items, popular and rare items, a country.

A user or an item is `new` when the vocabulary does not hold it, `cold` with fewer than COLD_ROWS training rows, else
`warm`. Items fall into ten groups of equal number by their training rows: decile 1 holds the most popular.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.graph import FeatureGraph
from etl.operators.categorical import first_code, vocabulary_of
from training import data
from training.config import EvaluateConfig
from training.data import Array, Feature
from training.evaluation.clicks import figures
from training.evaluation.interactions import FIRST, Cases, Ids, Interactions
from training.evaluation.intervals import means
from training.evaluation.ranking import Ranked, found

COLD_ROWS = 5
FEWEST = 50
"""Slices of fewer rows (or users) have no metrics of their own."""
_LARGEST = 12
"""Values of a column that are told apart, by falling count; the others are one slice."""
_NOBODY = ""
"""A group that is no slice: items of no decile."""
DECILES = tuple(f"decile {number}" for number in range(1, 11))

_RESAMPLES = 100
"""Most resamples for a slice of rows: there are many slices, and each costs as much as its rows."""

Names = Mapping[str, Mapping[int, str]]
"""What the codes of a feature stand for: {feature: {code: value}}."""


@dataclass(frozen=True)
class Groups:
    """A division of things (rows, users, items) by one property: `group` int64 [things] indexes `values`."""

    by: str
    values: tuple[str, ...]
    group: Array

    def take(self, things: Array) -> Groups:
        """The groups of these things."""
        return Groups(self.by, self.values, self.group[things])


@dataclass(frozen=True)
class Divisions:
    """How users and items, by code, are divided."""

    users: tuple[Groups, ...]
    items: tuple[Groups, ...]


def divisions(train: Interactions, candidates: Array) -> Divisions:
    """Divide codes by their training rows."""
    users = np.bincount(train.users, minlength=train.user_codes)
    items = np.bincount(train.items, minlength=train.item_codes)
    return Divisions((_warmth("user", users),), (_warmth("item", items), _deciles(items, candidates)))


def _warmth(by: str, rows: Array) -> Groups:
    group = np.where(rows < COLD_ROWS, 1, 2)
    group[:FIRST] = 0
    return Groups(by, ("new", "cold", "warm"), group)


def _deciles(rows: Array, candidates: Array) -> Groups:
    codes = np.flatnonzero(candidates)
    ranked = codes[np.argsort(-rows[codes], kind="stable")]
    group = np.zeros(len(rows), "int64")
    group[ranked] = 1 + np.arange(len(ranked)) * 10 // max(1, len(ranked))
    return Groups("item popularity", (_NOBODY, *DECILES), group)


def of_column(feature: Feature, codes: Array, names: Names) -> Groups:
    """Divide things by the codes [things] of a categorical feature: its commonest values, and `other`."""
    counts = np.bincount(codes, minlength=feature.cardinality or 0)
    kept = np.argsort(-counts, kind="stable")[:_LARGEST]
    kept = kept[counts[kept] > 0]
    group = np.full(len(counts), len(kept))
    group[kept] = np.arange(len(kept))
    known = names.get(feature.name, {})
    reserved = {0: "(none)", 1: "(null)", 2: "(unknown)"}
    values = [known.get(int(code), reserved.get(int(code), f"code {code}")) for code in kept]
    return Groups(feature.name, (*values, "other"), group[codes])


def of_rows(split: Path, pair: Ids, columns: Sequence[Feature], divided: Divisions, names: Names) -> list[Groups]:
    """Divide a split's rows by their user, their item and the categorical `columns`."""
    codes = _codes(split, (pair.user, pair.item, *columns))
    made = [groups.take(codes[pair.user.name]) for groups in divided.users]
    made += [groups.take(codes[pair.item.name]) for groups in divided.items]
    return made + [of_column(each, codes[each.name], names) for each in columns]


def of_columns(split: Path, columns: Sequence[Feature], names: Names) -> list[Groups]:
    """Divide a split's rows by categorical columns alone."""
    codes = _codes(split, columns) if columns else {}
    return [of_column(each, codes[each.name], names) for each in columns]


def _codes(split: Path, features: Sequence[Feature]) -> dict[str, Array]:
    wanted = tuple({each.name: each for each in features}.values())
    read: dict[str, list[Array]] = {each.name: [] for each in wanted}
    for batch in data.batches(split, wanted):
        for name, values in batch.items():
            read[name].append(values[:, 0])
    return {name: np.concatenate(values) for name, values in read.items()}


def names_of(graph: FeatureGraph) -> Names:
    """What the codes of a fitted graph's categorical columns stand for; of combined columns, the values joined."""
    made: dict[str, dict[int, str]] = {}
    for node in graph.nodes:
        for column in node.outputs if node.op == "Categorify" else ():
            table = (node.state or {}).get(vocabulary_of(node, column.name))
            if table is not None:
                values = table.select(pl.concat_str(pl.selectors.starts_with("value").cast(pl.String), separator=" × "))
                first = first_code(node, column.name)
                made[column.name] = dict(enumerate(values.to_series().to_list(), first))
    return made


def rows(labels: Array, scores: Array, divided: Iterable[Groups], config: EvaluateConfig, seed: int = 0) -> list[Any]:
    """Judge the rows of every slice: a list of {by, value, rows, positives} with auc, logloss, ece as clicks has them.

    A slice of fewer than FEWEST rows, or of one class, has `reason` instead of metrics.
    """
    made, config = [], config.model_copy(update={"bootstrap": min(config.bootstrap, _RESAMPLES)})
    for named, within in _slices(divided, "rows"):
        theirs = labels[within]
        named |= {"positives": int(theirs.sum())}
        if "reason" not in named and named["positives"] in (0, len(theirs)):
            named["reason"] = "one class only"
        made.append(named if "reason" in named else named | figures(theirs, scores[within], config, seed))
    return made


def users(ranked: Ranked, divided: Iterable[Groups], config: EvaluateConfig, seed: int = 0) -> list[Any]:
    """Ranking metrics of every slice of users: a list of {by, value, users, <metric>: {value, low, high}}.

    The groups are of the ranked users, in their order.
    """
    made = []
    for named, within in _slices(divided, "users"):
        theirs = {name: values[within] for name, values in ranked.metrics.items()}
        made.append(named if "reason" in named else named | means(theirs, config, seed))
    return made


def items(
    ranked: Ranked, cases: Cases, divided: Iterable[Groups], config: EvaluateConfig, k: int, seed: int = 0
) -> list[Any]:
    """Recall of every slice of items: the share of (user, held-out item) pairs found in the first `k`.

    A list of {by, value, pairs, recall@k: {value, low, high}}; intervals take pairs as independent.
    """
    hit = _found_pairs(ranked.top[:, :k], cases)
    of_pairs = (groups.take(cases.relevant.indices) for groups in divided)
    made = []
    for named, within in _slices(of_pairs, "pairs"):
        made.append(named if "reason" in named else named | means({f"recall@{k}": hit[within]}, config, seed))
    return made


def _slices(divided: Iterable[Groups], what: str) -> Iterator[tuple[dict[str, Any], Array]]:
    """Yield {by, value, <what>: count} of every slice that is not empty, with a `reason` if small, and its places."""
    for groups in divided:
        for place, value in enumerate(groups.values):
            within = groups.group == place
            count = int(within.sum())
            if count and value != _NOBODY:
                named: dict[str, Any] = {"by": groups.by, "value": value, what: count}
                yield named | ({"reason": f"fewer than {FEWEST} {what}"} if count < FEWEST else {}), within


def _found_pairs(top: Array, cases: Cases) -> Array:
    """Which pairs of `cases.relevant`, in its order, are at the top; float64 [pairs]."""
    codes = len(cases.candidates)
    hits = found(top, cases)
    shown = np.sort((np.arange(len(cases))[:, None] * codes + top)[hits])
    asked = np.repeat(np.arange(len(cases)), cases.sizes) * codes + cases.relevant.indices
    return np.isin(asked, shown).astype("float64")
