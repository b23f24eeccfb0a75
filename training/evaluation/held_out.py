"""A trained model judged on the held-out rows as a recommender, and in slices: what `mews evaluate` adds to AUC.

    ranking          protocol, users, items, left_out; metrics {name: {value, low, high}}; `baselines`, the same metrics
                     of each; `against`, the paired differences from each baseline; `sampled`, the protocol with drawn
                     negatives, if asked for; `shown`, each user's own test rows ranked
    beyond_accuracy  what the lists are like (beyond_accuracy.py)
    slices           `rows` by AUC, log loss and ECE; `users` by ranking metrics; `items` by recall

A model of clicks knows how likely a click is once an item is shown, not which items are shown: where the data are
impressions, the held-out positives depend on both, so popularity may lead the full ranking and follow in `shown`.

Where features have no user and item, or nobody can be asked, `ranking` holds a `reason` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from etl.errors import ConfigError, DataError
from etl.progress import Progress, silent
from training import baselines, data
from training.config import EvaluateConfig
from training.data import Array, Feature
from training.evaluation import interactions, slices
from training.evaluation.beyond_accuracy import beyond_accuracy, item_vectors
from training.evaluation.intervals import means
from training.evaluation.ranking import Ranked, rank, rank_shown
from training.evaluation.recommender import Latest, Recommender, open_model
from training.evaluation.significance import against
from training.predict import read_features
from training.train import read_training

_SLICED_CODES = 100
"""Columns with more codes are not slices unless asked for."""


@dataclass(frozen=True)
class Judged:
    """`found` are the three keys above; `per_user` the metrics of every ranked user, and `users` their codes."""

    found: dict[str, Any]
    per_user: dict[str, Array]


@dataclass
class HeldOut:
    """The splits of one folder of features as a question to recommenders."""

    features: Path
    columns: tuple[Feature, ...]
    label: str
    config: EvaluateConfig
    seed: int

    @cached_property
    def pair(self) -> interactions.Ids:
        """The features with users and items; ConfigError when there are none."""
        return interactions.ids(self.columns)

    @cached_property
    def shown(self) -> interactions.Interactions:
        """Every pair of the training rows."""
        return self.read("train", every=True)

    @cached_property
    def train(self) -> interactions.Interactions:
        """The positives of the training rows, which baselines learn from."""
        return self.read("train")

    @cached_property
    def cases(self) -> interactions.Cases:
        """Every user with a held-out positive; DataError when there is none."""
        ranked = interactions.candidates(self.shown)
        seen = self.train + self.read("valid")
        return interactions.cases(seen, self.read("test"), ranked, self.config.exclude_seen)

    def read(self, part: str, every: bool = False) -> interactions.Interactions:
        """The positives of train, valid or test, or every pair."""
        label = None if every or self.config.positives == "rows" else self.label
        return interactions.read([self.features / part], self.pair, label)


def judge(
    model: Path,
    features: Path,
    scores: Array,
    config: EvaluateConfig,
    names: slices.Names | None = None,
    progress: Progress = silent,
) -> Judged:
    """Judge a model folder of rows on `features/test`; `scores` are those of the test rows, in order.

    `names` says what codes stand for. DataError for scores that are NaN, ArtifactError for features of another graph.
    """
    facts = read_training(model)
    held = HeldOut(features, read_features(facts), facts["label"], config, facts["seed"])
    try:
        _ = held.pair
    except ConfigError as error:
        return Judged({"ranking": {"reason": str(error)}, "slices": {"rows": _rows(held, scores, names or {})}}, {})
    found: dict[str, Any] = {"slices": {"rows": _rows(held, scores, names or {})}}
    try:
        cases = held.cases.sample(config.ranking_users, held.seed)
    except DataError as error:
        return Judged({"ranking": {"reason": str(error)}, **found}, {})
    if not len(cases):
        return Judged({"ranking": {"reason": "evaluate.ranking_users is 0"}, **found}, {})
    return _ranked(model, held, cases, scores, found, names or {}, progress)


def _ranked(
    model: Path,
    held: HeldOut,
    cases: interactions.Cases,
    scores: Array,
    found: dict[str, Any],
    names: slices.Names,
    progress: Progress,
) -> Judged:
    """Add what rankings say to `found`, which holds the slices of rows."""
    config, seed = held.config, held.seed
    recommender = open_model(model, [held.features / "train", held.features / "valid"])
    asked: list[Recommender] = [recommender, *(baselines.fit(name, held.train, seed) for name in config.baselines)]
    ranked, *others = (rank(each, cases, config.cutoffs, config.negatives, seed, progress) for each in asked)
    found["ranking"] = _ranking(held, cases, ranked, others, list(recommender.table.context))
    found["ranking"]["shown"] = _shown(held, scores)
    vectors, described = item_vectors(held.columns, recommender.table, held.train)
    made = beyond_accuracy(ranked, held.train, cases.candidates, vectors, config, config.cutoffs[0], seed)
    found["beyond_accuracy"] = {"diversity_by": described, **made}
    found["slices"] |= _of_ranked(held, cases, ranked, recommender.table, names)
    return Judged(found, {"users": ranked.users, **ranked.metrics})


def _ranking(
    held: HeldOut, cases: interactions.Cases, ranked: Ranked, others: list[Ranked], context: list[str]
) -> dict[str, Any]:
    config, seed, items = held.config, held.seed, int(cases.candidates.sum())
    left = ", without those the user had in train or valid" if config.exclude_seen else ""
    made: dict[str, Any] = {
        "protocol": f"full ranking of {items:,} items{left}",
        "positives": "label 1" if config.positives == "label" else "every row",
        "users": len(cases),
        "users_held_out": len(held.cases),
        "items": items,
        "left_out": cases.left_out,
        "constant": context,
        "metrics": means(ranked.metrics, config, seed),
        "baselines": {other.name: means(other.metrics, config, seed) for other in others},
    }
    heading = [f"{name}@{config.cutoffs[0]}" for name in ("hit_rate", "ndcg", "recall")]
    made["against"] = {
        other.name: against(other.metrics, {"model": ranked.metrics}, heading, config, seed)["model"]
        for other in others
    }
    made["sampled"] = _sampled(held, ranked, others) if config.negatives else None
    return made


def _sampled(held: HeldOut, ranked: Ranked, others: list[Ranked]) -> dict[str, Any]:
    config, seed = held.config, held.seed
    return {
        "protocol": f"each user's last item among {config.negatives} items drawn from those they never had; "
        "not comparable with the full ranking",
        "negatives": config.negatives,
        "fewest_negatives": ranked.fewest_negatives,
        "metrics": means(ranked.sampled, config, seed),
        "baselines": {other.name: means(other.sampled, config, seed) for other in others},
    }


def _shown(held: HeldOut, scores: Array) -> dict[str, Any] | None:
    """The ranking of each user's own test rows, and that by popularity; None where rows are all positive."""
    test, config = held.read("test", every=True), held.config
    labels = data.labels(held.features / "test", held.label)
    ours = rank_shown(test.users, labels, scores, config.cutoffs)
    theirs = rank_shown(test.users, labels, held.train.popularity[test.items], config.cutoffs)
    users = len(next(iter(ours.values())))
    if not users:
        return None
    return {
        "protocol": "each user's own test rows, ranked by score",
        "users": users,
        "metrics": means(ours, config, held.seed),
        "baselines": {"popularity": means(theirs, config, held.seed)},
    }


def _rows(held: HeldOut, scores: Array, names: slices.Names) -> list[Any]:
    """Slices of the test rows."""
    test = held.features / "test"
    labels = data.labels(test, held.label)
    if len(scores) != len(labels):
        raise DataError("scores", expected=f"one for each of {len(labels)} rows", received=f"{len(scores)}")
    columns = sliced(held.columns, held.config.slices)
    try:
        parts = slices.divisions(held.shown, interactions.candidates(held.shown))
        divided = slices.of_rows(test, held.pair, columns, parts, names)
    except ConfigError:  # no users and items: the columns alone
        divided = slices.of_columns(test, columns, names)
    return slices.rows(labels, scores, divided, held.config, held.seed)


def _of_ranked(
    held: HeldOut, cases: interactions.Cases, ranked: Ranked, table: Latest, names: slices.Names
) -> dict[str, list[Any]]:
    """Slices of the ranked users, and of the items they were to be shown."""
    config, parts = held.config, slices.divisions(held.shown, cases.candidates)
    users = [groups.take(ranked.users) for groups in parts.users]
    for column in sliced(held.columns, config.slices):
        if column.name in table.users:
            users.append(slices.of_column(column, table.users[column.name][ranked.users, 0], names))
    return {
        "users": slices.users(ranked, users, config, held.seed),
        "items": slices.items(ranked, cases, parts.items, config, config.cutoffs[-1], held.seed),
    }


def sliced(features: tuple[Feature, ...], wanted: list[str] | None) -> tuple[Feature, ...]:
    """The features whose values are slices: those named, or the user's categorical ones with few codes.

    ConfigError for a name that is no scalar categorical feature.
    """
    scalar = {each.name: each for each in features if each.categorical and each.length is None}
    if wanted is None:
        few = (each for each in scalar.values() if (each.cardinality or 0) <= _SLICED_CODES)
        return tuple(each for each in few if "user" in each.tags and "id" not in each.tags)
    if unknown := [name for name in wanted if name not in scalar]:
        raise ConfigError("evaluate.slices", expected=f"some of {', '.join(scalar)}", received=", ".join(unknown))
    return tuple(scalar[name] for name in wanted)
