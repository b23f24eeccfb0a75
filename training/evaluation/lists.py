"""A model of item lists judged on the held-out lists, every item ranked, beside baselines that read the same lists.

A case is a held-out row, and its item is what has to be answered. Items of the list are left out of every ranking where
the model leaves them out. An item that the training rows do not have cannot be answered: it is a miss for all.
Intervals draw users again, or sessions where there are no users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from etl.errors import ConfigError
from etl.names import ITEM, KNOWN, SCORE
from etl.progress import Progress, silent
from training import baselines, data
from training.config import EvaluateConfig
from training.data import Array, Feature
from training.evaluation.interactions import FIRST, Interactions
from training.evaluation.intervals import interval, tails
from training.evaluation.ranking import at_places
from training.predict import load_answers, read_features
from training.tensorflow import tensorflow
from training.train import read_training

_ROWS = 1024


@dataclass(frozen=True)
class Judged:
    """`found` is plain JSON; `answers` are the model's on the test rows: `item` codes, `score`, `known`."""

    found: dict[str, Any]
    answers: dict[str, Array]


@dataclass(frozen=True)
class _Split:
    """The lists of a split [rows, length], their items [rows], and whose they are [rows]."""

    lists: Array
    targets: Array
    users: Array
    """User codes, or the numbers of the rows where there are none."""

    def part(self, start: int, stop: int) -> _Split:
        return _Split(self.lists[start:stop], self.targets[start:stop], self.users[start:stop])


def evaluate_lists(
    model: Path,
    features: Path,
    config: EvaluateConfig,
    progress: Progress = silent,
    owners: Array | None = None,
) -> Judged:
    """Judge the model folder on `features/test`, with baselines of `features/train`.

    `owners` [rows] says whose each test row is; without them it is told by the user's code, which all unknown users
    share.
    `found` has rows, items, k, known_targets and empty_lists (shares of the test rows whose item the vocabulary holds,
    and whose list has no known item), coverage (share of all items that are among the first ten of any answer), and
    `ranking`: users, protocol, metrics {name: {value, low, high}} and `baselines`, the same of each.
    """
    facts = read_training(model)
    columns, label = read_features(facts), facts["label"]
    history = next(feature for feature in columns if feature.name == facts["history"])
    answers = _answers(model, columns, features / "test", progress)
    test = _read(features / "test", columns, history, label)
    if owners is not None and len(owners) == len(test.users):
        test = replace(test, users=np.unique(owners, return_inverse=True)[1])
    places = _places(answers[ITEM], answers[SCORE], test.targets)
    k, excludes = answers[ITEM].shape[1], facts["config"]["exclude_history"]
    cutoffs = [cut for cut in config.cutoffs if cut <= k] or [k]
    ranking: dict[str, Any] = {
        "protocol": "all items ranked, one held-out item a list",
        "users": len(np.unique(test.users)),
        "users_held_out": len(np.unique(test.users)),
        "metrics": _metrics(places, test.users, cutoffs, config, facts["seed"]),
        "baselines": {},
    }
    train = _read(features / "train", columns, history, label)
    for name in config.baselines:
        found_at = _baseline_places(name, train, test, history.cardinality or 0, excludes, facts["seed"])
        if found_at is not None:
            ranking["baselines"][name] = _metrics(found_at, test.users, cutoffs, config, facts["seed"])
    items = (history.cardinality or 0) - FIRST
    found = {
        "rows": len(test.targets),
        "items": items,
        "k": k,
        "known_targets": float((test.targets >= FIRST).mean()),
        "empty_lists": float((answers[KNOWN] == 0).mean()),
        "coverage": len(np.unique(answers[ITEM][:, : min(10, k)])) / max(items, 1),
        "ranking": ranking,
    }
    return Judged(found | {"confidence": config.confidence, "bootstrap": config.bootstrap}, answers)


def _answers(model: Path, columns: tuple[Feature, ...], split: Path, progress: Progress) -> dict[str, Array]:
    tf, served = tensorflow(), load_answers(model, columns)
    made: list[dict[str, Array]] = []
    total = data.rows(split)
    for batch in data.batches(split, columns, _ROWS):
        found = served.call({name: tf.constant(values) for name, values in batch.items()})
        made.append({name: values.numpy() for name, values in found.items()})
        progress("predict", min(len(made) * _ROWS, total), total, "rows")
    return {name: np.concatenate([one[name] for one in made]) for name in made[0]}


def _read(split: Path, columns: tuple[Feature, ...], history: Feature, label: str) -> _Split:
    user = data.tagged(columns, "user_id")
    wanted = (history, *([user] if user else []))
    batches = list(data.batches(split, wanted))
    lists = np.concatenate([batch[history.name] for batch in batches])
    users = np.concatenate([batch[user.name][:, 0] for batch in batches]) if user else np.arange(len(lists))
    return _Split(lists, data.labels(split, label, "int64"), users)


def _places(items: Array, scores: Array, targets: Array) -> Array:
    """The place of each target among the answers, from 1; infinity where it is not there."""
    hit = (items == targets[:, None]) & (scores > 0)
    return np.where(hit.any(1), hit.argmax(1) + 1.0, np.inf)


def _metrics(places: Array, users: Array, cutoffs: list[int], config: EvaluateConfig, seed: int) -> dict[str, Any]:
    """Means over the rows; the intervals are of resampled users, each with all of its rows."""
    values = at_places(places, cutoffs)
    _, numbers = np.unique(users, return_inverse=True)
    counts = np.bincount(numbers).astype("float64")
    sums = np.column_stack([np.bincount(numbers, one) for one in values.values()])
    random, drawn = np.random.default_rng(seed), np.empty((config.bootstrap, len(values)))
    for row in drawn:
        weights = np.bincount(random.integers(0, len(counts), len(counts)), minlength=len(counts))
        row[:] = weights @ sums / (weights @ counts)
    none = np.full((2, len(values)), np.nan)
    bounds = np.quantile(drawn, tails(config), axis=0) if len(drawn) else none
    return {name: interval(one.mean(), *bounds[:, at]) for at, (name, one) in enumerate(values.items())}


def _baseline_places(name: str, train: _Split, test: _Split, codes: int, excludes: bool, seed: int) -> Array | None:
    """The places of the test rows' items; None for a baseline that cannot read lists."""
    fitted = baselines.fit(name, _interactions(train, codes), seed)
    places = []
    for start in range(0, len(test.targets), _ROWS):
        part = test.part(start, start + _ROWS)
        lists = _matrix(part.lists, codes)
        try:
            scores = fitted.complete(lists)
        except ConfigError:
            return None
        if excludes:
            scores[lists.nonzero()] = -np.inf
        places.append(_rank(scores, part.targets))
    return np.concatenate(places)


def _interactions(train: _Split, codes: int) -> Interactions:
    """Who had what: a user's items, or those of each list and its target."""
    owners = np.unique(train.users, return_inverse=True)[1] + FIRST
    users = np.r_[owners, np.repeat(owners, train.lists.shape[1])]
    return Interactions(users, np.r_[train.targets, train.lists.reshape(-1)], int(users.max()) + 1, codes)


def _matrix(lists: Array, codes: int) -> csr_matrix:
    rows, columns = np.nonzero(lists >= FIRST)
    made = csr_matrix((np.ones(len(rows), "float32"), (rows, lists[rows, columns])), shape=(len(lists), codes))
    made.sum_duplicates()
    made.data[:] = 1
    return made


def _rank(scores: Array, targets: Array) -> Array:
    """The target's place among all scores [rows, codes]; equal scores take the places behind and before it evenly."""
    own = scores[np.arange(len(targets)), targets][:, None]
    place = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) // 2
    return np.where(np.isfinite(own[:, 0]) & (targets >= FIRST), place, np.inf)
