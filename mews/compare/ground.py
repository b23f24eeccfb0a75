"""What all of the compared are judged on: the test rows, and the users who are asked for their held-out items."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.errors import DataError
from mews.config import PipelineConfig
from mews.run import PARTS, Run
from training import data
from training.evaluation import interactions, ranking
from training.evaluation.held_out import HeldOut

Array = npt.NDArray[Any]
CUTOFFS = (1, 2, 5, 10, 20, 50, 100)
"""Lengths of the lists at which recall is drawn."""


class Ground:
    """The split of a run, read when first needed and then kept, so that everybody is judged on the same cases."""

    has_clicks = True
    """Whether test rows have a label, by which scores of rows are judged."""

    def __init__(self, run: Run, config: PipelineConfig) -> None:
        self.run, self.config = run, config

    def part(self, name: str) -> Path:
        """The features of train, valid or test."""
        return self.run.features(name)

    @cached_property
    def inputs(self) -> data.Inputs:
        """The features and the label."""
        return data.read_inputs(self.part("train"))

    @cached_property
    def held(self) -> HeldOut:
        """The splits as a question to recommenders, as `mews evaluate` asks it."""
        made = self.inputs
        return HeldOut(self.part("train").parent, made.features, made.label, self.config.evaluate, self.config.seed)

    @cached_property
    def labels(self) -> Array:
        """The first label of every test row, int8 [rows]."""
        return data.labels(self.part("test"), self.inputs.label)

    @property
    def train(self) -> interactions.Interactions:
        """The positives of the training rows, what baselines learn from."""
        return self.held.train

    @cached_property
    def test(self) -> interactions.Interactions:
        """The users and items of all test rows."""
        return interactions.read([self.part("test")], self.held.pair)

    @cached_property
    def cases(self) -> interactions.Cases:
        """The users who are asked; ConfigError for features without ids, DataError when there is nobody to ask."""
        if not self.config.evaluate.ranking_users:
            raise DataError("evaluate.ranking_users", expected="users to ask", received="0")
        return self.held.cases.sample(self.config.evaluate.ranking_users, self.config.seed)

    @cached_property
    def likeness(self) -> Any:
        """A vector for each item code, by which lists are judged as diverse."""
        from training.evaluation.beyond_accuracy import item_vectors
        from training.evaluation.recommender import latest

        table = latest([self.part("train"), self.part("valid")], self.inputs.features)
        return item_vectors(self.inputs.features, table, self.train)[0]

    def asking(self, baseline: Any) -> Any:
        """Return a fitted baseline as a Recommender of the cases."""
        return baseline

    def each(self, codes: Array, values: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return who is drawn again in intervals and tests, and their metrics, of the metrics of the cases `codes`."""
        return codes, dict(values)

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """CUTOFFS, as far as there are items."""
        items = int(self.cases.candidates.sum())
        return tuple(k for k in CUTOFFS if k <= max(20, items))

    def facts(self) -> dict[str, Any]:
        """What the page says of the data."""
        return {
            "rows": {part: data.rows(self.part(part)) for part in PARTS},
            "click_rate": float(self.labels.mean()) if len(self.labels) else None,
        }

    def ranked_facts(self) -> dict[str, Any]:
        """What the page says of the ranking."""
        cases = self.cases
        return {
            "users": len(cases),
            "items": int(cases.candidates.sum()),
            "left_out": cases.left_out,
            "protocol": _protocol(self.config.evaluate),
        }

    def pair_scores(self, recommender: Any, size: int = 512) -> Array:
        """Return a recommender's score for the user and the item of every test row, float64 [rows].

        The smallest finite score stands where it has none.
        """
        users, places = np.unique(self.test.users, return_inverse=True)
        order = np.argsort(places, kind="stable")
        made, starts = np.empty(len(order)), np.searchsorted(places[order], np.arange(0, len(users) + size, size))
        for number, (first, last) in enumerate(pairwise(starts)):
            asked = users[number * size : (number + 1) * size]
            if len(asked):
                rows = order[first:last]
                scores = recommender.scores(asked)
                made[rows] = scores[places[rows] - number * size, self.test.items[rows]]
        finite = made[np.isfinite(made)]
        return np.where(np.isfinite(made), made, finite.min() if len(finite) else 0.0)


def _protocol(config: Any) -> str:
    wanted = "positives" if config.positives == "label" else "items"
    left = " but those the user had before" if config.exclude_seen else ""
    sampled = (
        f" Those called sampled ask for each user's last item among {config.negatives} drawn ones: they are far higher,"
        " and no measure of the full ranking."
    )
    return (
        f"Ranking metrics ask each of these users for their {wanted} in the test rows, among all items that the "
        f"training rows show{left} (full ranking).{sampled if config.negatives else ''}"
    )


def rank(recommender: Any, ground: Ground, progress: Any) -> ranking.Ranked:
    """Rank every case of `ground`."""
    negatives, seed = ground.config.evaluate.negatives, ground.config.seed
    return ranking.rank(recommender, ground.cases, ground.cutoffs, negatives, seed, progress)
