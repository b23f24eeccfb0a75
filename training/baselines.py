"""Recommenders that every model must beat: popularity, item neighbours, ALS and BPR.

They learn from the training interactions (Interactions.matrix) and speak the protocol of
training/evaluation/recommender.py. Names and descriptions stand in training/models/catalog.py. The last three are
those of the library `implicit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from etl.errors import ConfigError, DataError
from training.data import Array
from training.evaluation.interactions import FIRST, Interactions
from training.models.catalog import BASELINES


@dataclass(frozen=True)
class Settings:
    """Sizes of the baselines: neighbours kept of each item; factors, iterations and the rest of ALS and BPR."""

    neighbours: int = 100
    factors: int = 32
    iterations: int = 15
    als_regularization: float = 0.1
    als_alpha: float = 5.0
    bpr_iterations: int = 100
    bpr_rate: float = 0.03
    bpr_regularization: float = 0.02


@dataclass(frozen=True)
class Popularity:
    """How many users had each item, the same for everybody."""

    name: str
    counts: Array

    def scores(self, users: Array) -> Array:
        """Return the counts for each user."""
        return np.tile(self.counts, (len(users), 1))

    def complete(self, sets: csr_matrix) -> Array:
        """Return the counts for each set."""
        return self.scores(np.arange(sets.shape[0]))


@dataclass(frozen=True)
class Neighbours:
    """Sum of an item's cosine similarities to the items of the user."""

    name: str
    matrix: csr_matrix
    similarity: csr_matrix
    none: Array

    def scores(self, users: Array) -> Array:
        """Return the sums over each user's training items."""
        return self.complete(self.matrix[users])

    def complete(self, sets: csr_matrix) -> Array:
        """Return the sums over each set's items."""
        return _masked((sets.astype("float32") @ self.similarity).toarray(), self.none)


@dataclass(frozen=True)
class Factors:
    """Dot products of user and item factors; `library` folds in new sets, where the method can."""

    name: str
    users: Array
    items: Array
    none: Array
    library: Any = None

    def scores(self, users: Array) -> Array:
        """Return the dot products of each user."""
        return _masked(self.users[users] @ self.items.T, self.none)

    def complete(self, sets: csr_matrix) -> Array:
        """Return the dot products of factors computed for each set; ConfigError where the method has none."""
        if self.library is None:
            raise ConfigError(f"baseline {self.name}", expected="users of the training rows", received="sets of items")
        folded = self.library.recalculate_user(np.arange(sets.shape[0]), sets.astype("float32"))
        return _masked(folded @ self.items.T, self.none)


Baseline = Popularity | Neighbours | Factors


def fit(name: str, train: Interactions, seed: int = 0, settings: Settings | None = None) -> Baseline:
    """Return the fitted baseline; the same seed gives the same scores.

    ConfigError for an unknown name, DataError when there are no interactions of known users and items.
    """
    if name not in _FITS:
        raise ConfigError("baseline", expected=f"one of {', '.join(BASELINES)}", received=repr(name))
    if not train.matrix.nnz:
        raise DataError(f"baseline {name}", expected="positives of known users and items", received="none")
    with _one_blas_thread():
        return _FITS[name](name, train, seed, settings or Settings())


def _popularity(name: str, train: Interactions, seed: int, settings: Settings) -> Baseline:
    counts = train.popularity.astype("float32")
    counts[:FIRST] = -np.inf
    return Popularity(name, counts)


def _item_knn(name: str, train: Interactions, seed: int, settings: Settings) -> Baseline:
    from implicit.nearest_neighbours import all_pairs_knn
    from sklearn.preprocessing import normalize

    had = (train.matrix > 0).astype("float64").tocsr()
    # An item is its own nearest neighbour.
    found = all_pairs_knn(normalize(had, axis=0).tocsr(), settings.neighbours + 1, show_progress=False).tocoo()
    others = found.row != found.col
    pairs = (found.data[others].astype("float32"), (found.row[others], found.col[others]))
    return Neighbours(name, had.astype("float32"), csr_matrix(pairs, shape=found.shape), _no_items(train))


def _als(name: str, train: Interactions, seed: int, settings: Settings) -> Baseline:
    from implicit.cpu.als import AlternatingLeastSquares

    library = AlternatingLeastSquares(
        factors=settings.factors,
        regularization=settings.als_regularization,
        alpha=settings.als_alpha,
        iterations=settings.iterations,
        random_state=seed,
    )
    _fit_factors(library, train)
    return Factors(name, library.user_factors, library.item_factors, _no_items(train), library)


def _bpr(name: str, train: Interactions, seed: int, settings: Settings) -> Baseline:
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    library = BayesianPersonalizedRanking(
        factors=settings.factors,
        learning_rate=settings.bpr_rate,
        regularization=settings.bpr_regularization,
        iterations=settings.bpr_iterations,
        random_state=seed,
        num_threads=1,  # with more, threads write over each other's steps and no two runs agree
    )
    _fit_factors(library, train)
    return Factors(name, library.user_factors, library.item_factors, _no_items(train))


def _fit_factors(library: Any, train: Interactions) -> None:
    library.fit((train.matrix > 0).astype("float32").tocsr(), show_progress=False)


def _no_items(train: Interactions) -> Array:
    return np.arange(train.item_codes) < FIRST


def _masked(scores: Array, none: Array) -> Array:
    made = scores.astype("float32", copy=False)
    made[:, none] = -np.inf
    return made


def _one_blas_thread() -> Any:
    """`implicit` runs its own threads, and warns when the linear algebra below them has more than one."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")


_FITS: dict[str, Callable[[str, Interactions, int, Settings], Baseline]] = {
    "popularity": _popularity,
    "item_knn": _item_knn,
    "als": _als,
    "bpr": _bpr,
}
