"""Data with visits and no users: all of the compared complete the lists of the test rows, made for `next_item`.

A case is a test row: its item is asked for, given those before it in its visit. Metrics are averaged in each visit
first, so that a visit counts once, intervals draw visits again, and a paired test is of visits.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix

from etl.graph import FeatureGraph
from etl.sources.dataset import Dataset
from mews.compare.asked import FIRST, vocabulary
from mews.compare.ground import Ground
from mews.config import PipelineConfig
from training import data
from training.evaluation import interactions
from training.evaluation.interactions import Interactions
from training.evaluation.masked import Completing

Array = npt.NDArray[Any]
FOLDER = "visits"
"""The folder in `<run>/compare/` of the lists that are asked for."""


def has_visits_only(config: PipelineConfig) -> bool:
    """Whether the rows are of visits that nobody is named for."""
    roles = {column.role for column in config.data.columns.values()}
    return config.data.source == "table" and {"session", "item"} <= roles and "user" not in roles


def group_of(config: PipelineConfig) -> list[str]:
    """Return the columns that say which rows make a visit."""
    named = [name for name, column in config.data.columns.items() if column.role == "session"]
    return config.split.group or named[:1]


class Visits(Ground):
    """The test lists; the code of a case is that of its row, from FIRST on. Visits of train have codes above them."""

    has_clicks = False

    @cached_property
    def given(self) -> Array:
        """The item codes of every test list, int64 [rows, length]."""
        history = data.history_of(self.inputs)
        assert history is not None
        return np.concatenate([batch[history.name] for batch in data.batches(self.part("test"), (history,))])

    @cached_property
    def visits(self) -> Array:
        """Whose each test list is, as a number for each visit, int64 [rows]."""
        rows = Dataset.load(self.run.split / "test").scan().select(group_of(self.config)).collect()
        return _numbered(rows)

    @cached_property
    def lists(self) -> csr_matrix:
        """Which items each case is given, [codes of cases, items]."""
        return (self._pairs(self.given.reshape(-1), self.given.shape[1]).matrix > 0).astype("float32")

    @cached_property
    def train(self) -> Interactions:
        """Which visit of the training rows had what."""
        dataset, graph = Dataset.load(self.run.split_rows / "train"), FeatureGraph.load(self.run.graph)
        item, rows = dataset.only("item") or "", dataset.scan()
        if dataset.label is not None:
            rows = rows.filter(pl.col(dataset.label) == 1)
        had = rows.select(*group_of(self.config), item).drop_nulls().collect()
        known = vocabulary(graph, self.inputs.label).alias(item).to_frame().with_row_index("__code", FIRST)
        codes = had.join(known, on=item, how="left", maintain_order="left")["__code"].fill_null(FIRST - 1)
        owners = _numbered(had.select(group_of(self.config))) + FIRST + len(self.visits)
        return Interactions(owners, codes.to_numpy().astype("int64"), int(owners.max()) + 1, self._codes)

    @cached_property
    def cases(self) -> interactions.Cases:
        """Every test row whose item can be answered; DataError when there is none."""
        config = self.config.evaluate
        seen = self._pairs(self.given.reshape(-1), self.given.shape[1])
        held = self._pairs(data.labels(self.part("test"), self.inputs.label, "int64"), 1)
        made = interactions.cases(seen, held, interactions.candidates(self.train), config.exclude_seen)
        return made.sample(config.ranking_users, self.config.seed)

    @cached_property
    def likeness(self) -> Any:
        """A vector for each item code: the training visits that had it."""
        from training.evaluation.beyond_accuracy import item_vectors
        from training.evaluation.recommender import Latest

        return item_vectors((), Latest({}, {}, {}, self.cases.candidates), self.train)[0]

    def asking(self, baseline: Any) -> Completing:
        """Return a fitted baseline as a Recommender of the cases; ConfigError where it cannot read lists."""
        made = Completing(baseline.name, baseline, self.lists)
        made.scores(self.cases.users[:1])
        return made

    def each(self, codes: Array, values: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Return the visits, and the mean of every metric in each."""
        visits, places = np.unique(self.visits[codes - FIRST], return_inverse=True)
        counts = np.bincount(places)
        return visits, {name: np.bincount(places, one) / counts for name, one in values.items()}

    def facts(self) -> dict[str, Any]:
        """What the page says of the data: there are no clicks."""
        return {"rows": {part: data.rows(self.part(part)) for part in ("train", "valid", "test")}, "click_rate": None}

    def ranked_facts(self) -> dict[str, Any]:
        """What the page says of the ranking."""
        visits = len(np.unique(self.visits[self.cases.users - FIRST]))
        says = (
            "There are no users in these data: ranking metrics ask for the item of each test row, given the items "
            "before it in its visit, among all items that the training rows show. A visit counts once, with its mean."
        )
        return super().ranked_facts() | {"users": visits, "asked": "visits", "protocol": says}

    @property
    def _codes(self) -> int:
        history = data.history_of(self.inputs)
        return (history.cardinality or 0) if history else 0

    def _pairs(self, items: Array, width: int) -> Interactions:
        rows = len(self.visits)
        return Interactions(np.repeat(np.arange(rows) + FIRST, width), items, rows + FIRST, self._codes)


def _numbered(rows: pl.DataFrame) -> Array:
    """A number for each different row, int64 [rows]."""
    made: Array = rows.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy().astype("int64") - 1
    return made
