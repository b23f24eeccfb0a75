"""Who had which item, by code, and the cases a recommender is judged by.

Codes are Categorify's: below FIRST there are no ids (padding, null, unknown). An item can be recommended when a
training row shows it. Matrices are sparse, [users, items] with a row and a column for every code, so memory grows with
the interactions and never with users x items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from etl.errors import ConfigError, DataError
from training import data
from training.data import Array, Feature

FIRST = 3
"""The first code of a known user or item."""


@dataclass(frozen=True)
class Interactions:
    """Pairs of codes in row order, int64 [pairs]; `user_codes` and `item_codes` are how many codes there are."""

    users: Array
    items: Array
    user_codes: int
    item_codes: int

    def __post_init__(self) -> None:
        for what, codes, count in (
            ("users", self.users, self.user_codes),
            ("items", self.items, self.item_codes),
        ):
            if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < count:
                raise DataError(
                    f"codes of {what}",
                    expected=f"0 to {count - 1}, the rows of the vocabulary",
                    received=f"{int(codes.min())} to {int(codes.max())}",
                )

    @property
    def known(self) -> Array:
        """Which pairs have a known user and a known item, bool [pairs]."""
        made: Array = (self.users >= FIRST) & (self.items >= FIRST)
        return made

    @cached_property
    def matrix(self) -> csr_matrix:
        """How often each known user had each known item, float32 [user_codes, item_codes]."""
        users, items = self.users[self.known], self.items[self.known]
        made = csr_matrix((np.ones(len(users), "float32"), (users, items)), shape=(self.user_codes, self.item_codes))
        made.sum_duplicates()
        return made

    @property
    def popularity(self) -> Array:
        """How many known users had each item, int64 [item_codes]."""
        made: Array = np.bincount(self.matrix.indices, minlength=self.item_codes)
        return made

    def sequences(self) -> tuple[Array, Array]:
        """Each known user's items in row order: starts int64 [user_codes + 1], items int64 (CSR without values)."""
        users, items = self.users[self.known], self.items[self.known]
        order = np.argsort(users, kind="stable")
        starts = np.zeros(self.user_codes + 1, "int64")
        np.cumsum(np.bincount(users, minlength=self.user_codes), out=starts[1:])
        return starts, items[order]

    def __add__(self, later: Interactions) -> Interactions:
        """Both, the rows of `later` after one's own."""
        users, items = np.concatenate([self.users, later.users]), np.concatenate([self.items, later.items])
        return Interactions(users, items, self.user_codes, self.item_codes)


@dataclass(frozen=True)
class Ids:
    """The two features that hold the codes of users and of items."""

    user: Feature
    item: Feature


def ids(features: Sequence[Feature]) -> Ids:
    """The features tagged user_id and item_id; ConfigError when a scalar of either is missing."""
    found = {tag: data.tagged(features, tag) for tag in ("user_id", "item_id")}
    for tag, feature in found.items():
        if feature is None or feature.length is not None or not feature.categorical:
            raise ConfigError("ranking", expected=f"a categorical feature tagged {tag}", received="none")
    user, item = found.values()
    assert user is not None
    assert item is not None
    return Ids(user, item)


def read(folders: Iterable[Path], pair: Ids, label: str | None = None) -> Interactions:
    """Read the pairs of these splits in row order, those with label 1 only if `label` is given."""
    names = [pair.user.name, pair.item.name, *([label] if label else [])]
    users, items = [np.empty(0, "int64")], [np.empty(0, "int64")]
    for folder in folders:
        for path in data.parts(folder):
            for batch in pq.ParquetFile(path).iter_batches(columns=names):
                columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
                kept = columns[2] == 1 if label else slice(None)
                users.append(columns[0][kept].astype("int64"))
                items.append(columns[1][kept].astype("int64"))
    sizes = pair.user.cardinality or 0, pair.item.cardinality or 0
    return Interactions(np.concatenate(users), np.concatenate(items), *sizes)


@dataclass(frozen=True)
class Cases:
    """What recommenders are asked: for each of `users` (codes, or rows of another source), int64 [cases].

    `relevant` holds the items to be found and `seen` those left out of the ranking (both bool CSR [cases, items]),
    `last` the last relevant item of each, `candidates` which items are ranked (bool [items]), `left_out` how much of
    the held-out data could not be asked for, and why.
    """

    users: Array
    relevant: csr_matrix
    seen: csr_matrix
    last: Array
    candidates: Array
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    @property
    def sizes(self) -> Array:
        """How many items each case asks for, int64 [cases]."""
        made: Array = np.diff(self.relevant.indptr).astype("int64")
        return made

    def take(self, rows: Array) -> Cases:
        """These cases only."""
        return Cases(
            self.users[rows], self.relevant[rows], self.seen[rows], self.last[rows], self.candidates, self.left_out
        )

    def sample(self, count: int, seed: int) -> Cases:
        """`count` cases drawn by `seed`, in order; all when there are no more."""
        if count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng([seed, len(self)]).choice(len(self), count, replace=False)))


def candidates(train: Interactions) -> Array:
    """Which items a training row shows, bool [item_codes]."""
    made = np.bincount(train.items, minlength=train.item_codes) > 0
    made[:FIRST] = False
    found: Array = made
    return found


def cases(seen: Interactions, held: Interactions, ranked: Array, exclude_seen: bool = True) -> Cases:
    """Ask every known user for their items in `held`.

    Without `exclude_seen`, items that the user had before may be recommended again and count. `left_out` counts pairs
    of unknown users and items, repetitions of seen ones, and `users_without_positives`. DataError when nothing is left.
    """
    usable = held.known & ranked[held.items]
    left_out = {
        "unknown_user": int((held.users < FIRST).sum()),
        "unknown_item": int(((held.users >= FIRST) & ~usable).sum()),
        "seen_before": 0,
    }
    users, items = held.users[usable], held.items[usable]
    if exclude_seen:
        again = _contains(seen.matrix, users, items)
        left_out["seen_before"] = int(again.sum())
        users, items = users[~again], items[~again]
    asked = np.unique(users)
    left_out["users_without_positives"] = len(np.unique(held.users[held.users >= FIRST])) - len(asked)
    if not len(asked):
        told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in left_out.items() if count)
        raise DataError("held-out positives", expected="a known user with a new, known item", received=told or "none")
    row = np.searchsorted(asked, users)
    last = np.zeros(len(asked), "int64")
    last[row] = items  # of a repeated row the last item stays
    size = (len(asked), held.item_codes)
    relevant = _of_pairs(row, items, size)
    shown = seen.matrix[asked].astype(bool) if exclude_seen else csr_matrix(size, dtype=bool)
    return Cases(asked, relevant, shown, last, ranked, left_out)


def _of_pairs(rows: Array, columns: Array, shape: tuple[int, int]) -> csr_matrix:
    made = csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=shape)
    made.sum_duplicates()
    return made


def _contains(matrix: csr_matrix, rows: Array, columns: Array) -> Array:
    """Whether the matrix has an entry at each (row, column), bool [pairs]."""
    if not len(rows):
        return np.zeros(0, bool)
    return np.asarray(matrix[rows, columns]).reshape(-1) > 0
