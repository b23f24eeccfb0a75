"""Items that a user had not had so far, drawn for every one they had: what implicit feedback is told from.

Each of a user's rows is followed by its drawn ones, with the same time and the label 0. What the user has later may be
drawn: leaving it out would tell training rows what is held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.int64]
_ROUNDS = 20
"""How often an item is drawn again that the user had; who had nearly all of them gets fewer."""


@dataclass(frozen=True)
class Unrated:
    """`users` and `items` are sorted ids; `had` the sorted numbers user * items + item of all pairs there are, `since`
    the first row of each.
    """

    users: Array
    items: Array
    had: Array
    since: Array
    random: np.random.Generator

    @classmethod
    def of(cls, rows: pl.LazyFrame, seed: int) -> Unrated:
        """Read all pairs of `user_id` and `item_id` in the order of `timestamp`: 16 bytes a pair stay in memory."""
        ordered = rows.select("user_id", "item_id", "timestamp").sort("timestamp", maintain_order=True)
        frame = ordered.with_row_index("row").drop_nulls(["user_id", "item_id"]).collect()
        users, items = (np.unique(frame[name].to_numpy()) for name in ("user_id", "item_id"))
        numbers = np.searchsorted(users, frame["user_id"].to_numpy()) * len(items)
        had, first = np.unique(numbers + np.searchsorted(items, frame["item_id"].to_numpy()), return_index=True)
        since = frame["row"].to_numpy().astype(np.int64)[first]
        return cls(users, items, had, since, np.random.default_rng([seed, 3]))

    def after(self, rows: pl.DataFrame, start: int, count: int, label: str) -> pl.DataFrame:
        """Return `rows` with label 1, each followed by `count` rows of items drawn evenly, with label 0.

        `start` is how many rows come before, in the order of time. A row without user or item has none.
        """
        place = np.repeat(np.arange(rows.height), count + 1)
        own = np.tile(np.arange(count + 1) == 0, rows.height)
        known = (rows["user_id"].is_not_null() & rows["item_id"].is_not_null()).to_numpy()
        drawn = np.flatnonzero(~own & known[place])
        users = np.searchsorted(self.users, rows["user_id"].fill_null(0).to_numpy())[place[drawn]]
        items, had = self._draw(users, start + place[drawn])
        kept = own.copy()
        kept[drawn[~had]] = True
        item = rows["item_id"].fill_null(0).to_numpy()[place]
        item[drawn] = items
        made = rows[place].with_columns(
            pl.when(pl.Series(own)).then(pl.col("item_id")).otherwise(pl.Series(item)).alias("item_id"),
            pl.Series(label, own.astype(np.int8)),
        )
        return made.filter(pl.Series(kept))

    def _draw(self, users: Array, rows: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return an item for each of `users`, and whether it is one that they had by that row after all."""
        if not len(users):
            return users, np.zeros(0, bool)
        places = self.random.integers(0, len(self.items), len(users))
        had = self._had(users, places, rows)
        for _ in range(_ROUNDS):
            if not had.any():
                break
            places[had] = self.random.integers(0, len(self.items), int(had.sum()))
            had[had] = self._had(users[had], places[had], rows[had])
        return self.items[places], had

    def _had(self, users: Array, items: Array, rows: Array) -> NDArray[np.bool_]:
        numbers = users * len(self.items) + items
        found = np.minimum(np.searchsorted(self.had, numbers), len(self.had) - 1)
        return np.asarray((self.had[found] == numbers) & (self.since[found] <= rows))
