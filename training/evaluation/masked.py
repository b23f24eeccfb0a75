"""Masked items: hide one item of each set (a user's, a basket's), show the rest, and see how high the hidden one ranks.

For recommenders that answer sets they have not been fitted on: item lists, item neighbours, factors that fold in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from etl.errors import DataError
from etl.progress import Progress, silent
from etl.sources.split import uniform
from training.data import Array
from training.evaluation.interactions import Cases
from training.evaluation.ranking import CUTOFFS, Ranked, rank
from training.evaluation.recommender import FromItems


@dataclass(frozen=True)
class Masked:
    """Sets with one item hidden: `rest` CSR [sets, items], `hidden` its code, int64 [sets]."""

    rest: csr_matrix
    hidden: Array


def mask(sets: csr_matrix, seed: int = 0) -> Masked:
    """Hide an item, drawn by `seed`, of every set of two or more; smaller sets are left out.

    DataError when every set is smaller.
    """
    kept = sets[np.flatnonzero(np.diff(sets.indptr) >= 2)].astype(bool)
    kept.sort_indices()
    if not kept.shape[0]:
        raise DataError("sets of items", expected="two or more items in one", received=f"{sets.shape[0]} smaller sets")
    rows = np.repeat(np.arange(kept.shape[0]), np.diff(kept.indptr))
    draws = uniform((rows * kept.shape[1] + kept.indices).astype("uint64"), seed)
    place = np.lexsort((draws, rows))[kept.indptr[:-1]]
    hidden = kept.indices[place].astype("int64")
    shown = np.ones(kept.nnz, bool)
    shown[place] = False
    rest = csr_matrix((np.ones(int(shown.sum()), bool), (rows[shown], kept.indices[shown])), shape=kept.shape)
    return Masked(rest, hidden)


def rank_masked(
    recommender: FromItems,
    sets: csr_matrix,
    candidates: Array,
    cutoffs: Sequence[int] = CUTOFFS,
    seed: int = 0,
    progress: Progress = silent,
) -> Ranked:
    """Rank each set's hidden item among all candidates but those shown; a hidden item that is none counts as missed."""
    masked = mask(sets, seed)
    rows = np.arange(len(masked.hidden))
    relevant = csr_matrix((np.ones(len(rows), bool), (rows, masked.hidden)), shape=masked.rest.shape)
    asked = Cases(rows, relevant, masked.rest, masked.hidden, candidates)
    return rank(Completing(recommender.name, recommender, masked.rest), asked, cutoffs, progress=progress)


@dataclass(frozen=True)
class Completing:
    """A recommender of sets as one of users, who are the rows of `sets`."""

    name: str
    recommender: Any
    sets: csr_matrix

    def scores(self, users: Array) -> Array:
        """Return the scores for these rows; ConfigError for a recommender that knows only the users it has learned."""
        made: Array = self.recommender.complete(self.sets[users])
        return made
