"""Rows to examples with lists: the items of a user, a session or a set, and the one that follows or belongs to them.

Only rows with label 1 count where there is a label, and rows without an item or a group in none. Items are in order of
time, then of part and row; rows of one moment so keep the order of the source. An example of a part never holds an item
of a later part, and the order of examples is that of the rows that they are made from.

- next_item: an example for each row. Its history are the rows of the group before it, the most recent last.
- item_set: sets hold each item once. In train every set is one example, with its last item as target; a set that is
  longer than a history is divided evenly. In valid and test every row is an example: its item is hidden, and the others
  of the set that are in its part or an earlier one are given.

Memory holds group, item and time of the rows that count; all else is read and written part by part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from etl.config import Examples, SplitConfig
from etl.errors import ConfigError, DataError
from etl.progress import Progress, silent
from etl.sources.dataset import DataColumn, Dataset, closest
from etl.sources.parts import PartWriter, batches, new_folder
from etl.sources.split import NAMES, Splits

HISTORY = "history"
"""The column of lists."""
_NEVER = np.iinfo(np.int64).max
_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Columns:
    """The columns of the source that examples are made from, and those that they keep."""

    item: DataColumn
    group: tuple[str, ...]
    time: str | None
    label: str | None
    kept: tuple[DataColumn, ...]

    @property
    def made(self) -> tuple[DataColumn, ...]:
        """The columns of the examples: what is kept, the history, and last the item."""
        history = DataColumn(HISTORY, self.item.dtype, is_list=True, role="history", nullable=False)
        return (*self.kept, history, replace(self.item, nullable=False))


@dataclass(frozen=True)
class _Lists:
    """Where the examples of a part are: `rows` of the part, and `length` items from `begin`, without the one at `skip`.

    Sorted by row; all but `items` are [examples].
    """

    items: pl.Series
    rows: _Numbers
    begin: _Numbers
    length: _Numbers
    skip: _Numbers

    def between(self, low: int, high: int) -> _Lists:
        """The examples of the rows from `low` to `high` - 1."""
        part = slice(*np.searchsorted(self.rows, [low, high]))
        return _Lists(self.items, self.rows[part], self.begin[part], self.length[part], self.skip[part])

    def series(self) -> pl.Series:
        """The lists."""
        ends = np.cumsum(self.length)
        place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - self.length, self.length)
        place = place + np.repeat(self.begin, self.length)
        place = place + (place >= np.repeat(self.skip, self.length))
        values = self.items.gather(place).to_arrow()
        made = pa.LargeListArray.from_arrays(np.concatenate([[0], ends]), values)
        return pl.Series(HISTORY, pl.from_arrow(made), dtype=pl.List(self.items.dtype))


def make_examples(
    splits: Splits, config: SplitConfig, kind: Examples, out: Path, progress: Progress = silent
) -> Splits:
    """Write train, valid and test of `splits` as examples of `kind` to `out`, whole or not at all.

    Columns: the user's own and `config.context` as they are in the row, `history` (a list of raw items, at most
    `config.history`), the timestamp, and the item, which is the target. ConfigError without an item column or a column
    that makes groups, or for columns that are not there; DataError when a part would have no example.
    """
    columns = _columns(splits.train, config)
    keys = _keys(splits, columns)
    if keys[columns.item.name].null_count() == keys.height:
        raise DataError(f"rows of {splits.train.name!r}", expected="rows with label 1", received="none")
    with new_folder(out) as folder:
        made = {}
        for code, name in enumerate(NAMES):
            dataset = splits.parts[name]
            lists = _places(keys, columns, code, kind, config)
            if not len(lists.rows):
                hint = "Set split.min_history lower, or split.by: last-per-user."
                raise DataError(
                    f"the {name} part of {dataset.name!r}",
                    expected=f"rows with {config.min_history} items or more before them",
                    received="none",
                    hint=hint,
                )
            made[name] = _write(dataset, columns, lists, folder / name, progress)
        Splits(splits.by, boundaries=splits.boundaries, **made).save(folder)
    return Splits.load(out)


def _columns(dataset: Dataset, config: SplitConfig) -> _Columns:
    items, known = dataset.with_role("item"), {column.name: column for column in dataset.columns}
    if not items or items[0].is_list:
        raise ConfigError("examples of items", expected="a column with the role item", received="none")
    default = dataset.only("session") or dataset.only("user")
    group = tuple(config.group or ([default] if default else []))
    if not group:
        raise ConfigError(
            "examples of items",
            expected="a column with the role session or user",
            received="none",
            hint="Name the columns that make one list in split.group.",
        )
    for key, names in (("group", group), ("context", config.context)):
        for name in names:
            if name not in known:
                raise ConfigError(f"split.{key}: {name}", expected="a column of the data", hint=closest(name, known))
    if HISTORY in known:
        raise ConfigError(f"column {HISTORY!r}", expected="another name: the lists are called so", received="it")
    kept = tuple(
        column
        for column in dataset.columns
        if column.role in ("user", "timestamp", "weight") or column.side == "user" or column.name in config.context
    )
    kept = tuple(column for column in kept if column.role != "ignore" and column.name != items[0].name)
    return _Columns(items[0], group, dataset.only("timestamp"), dataset.label, kept)


def _keys(splits: Splits, columns: _Columns) -> pl.DataFrame:
    """The rows that count, in the order of the lists: group, item, time, `__part` and `__row`."""
    parts = []
    for code, dataset in enumerate(splits.parts.values()):
        rows = dataset.scan().with_row_index("__row").with_columns(__part=pl.lit(code, pl.Int8))
        if columns.label is not None:
            rows = rows.filter(pl.col(columns.label) == 1)
        wanted = dict.fromkeys([*columns.group, columns.item.name, *([columns.time] if columns.time else [])])
        kept = pl.all_horizontal(pl.col(name).is_not_null() for name in (*columns.group, columns.item.name))
        parts.append(rows.filter(kept).select(*wanted, "__part", pl.col("__row").cast(pl.Int64)))
    order = [*columns.group, *([columns.time] if columns.time else []), "__part", "__row"]
    return pl.concat(parts).collect(engine="streaming").sort(order)


def _places(keys: pl.DataFrame, columns: _Columns, part: int, kind: Examples, config: SplitConfig) -> _Lists:
    seen = keys.filter(pl.col("__part") <= part)
    if kind == "item_set":
        seen = seen.unique([*columns.group, columns.item.name], keep="last", maintain_order=True)
    group = seen.select(pl.struct(*columns.group).rle_id()).to_series().to_numpy().astype(np.int64)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(group) else np.empty(0, np.int64)
    first, end = starts[group], np.r_[starts[1:], len(group)][group] if len(group) else group
    mine = seen["__part"].to_numpy() == part
    place: Callable[..., tuple[_Numbers, _Numbers, _Numbers, npt.NDArray[np.bool_]]] = (
        _before if kind == "next_item" else _divided if part == 0 else _others
    )
    begin, length, skip, chosen = place(first, end, config.history)
    at = np.flatnonzero(mine & chosen & (length >= config.min_history))
    rows = seen["__row"].to_numpy()[at]
    at, rows = at[np.argsort(rows, kind="stable")], np.sort(rows)
    return _Lists(seen[columns.item.name], rows, begin[at], length[at], skip[at])


def _before(first: _Numbers, end: _Numbers, longest: int) -> tuple[Any, ...]:
    """The items of the group before each row."""
    place = np.arange(len(first))
    begin = np.maximum(first, place - longest)
    return begin, place - begin, np.full(len(first), _NEVER), np.ones(len(first), bool)


def _others(first: _Numbers, end: _Numbers, longest: int) -> tuple[Any, ...]:
    """The last items of the group but the row's own."""
    place = np.arange(len(first))
    begin = np.maximum(first, end - longest - 1)
    inside = place >= begin
    begin = np.where(inside, begin, end - longest)
    length = end - begin - inside
    return begin, length, np.where(inside, place, _NEVER), np.ones(len(first), bool)


def _divided(first: _Numbers, end: _Numbers, longest: int) -> tuple[Any, ...]:
    """The group in pieces of equal size, chosen at the last row of each, which is left out."""
    size, at = end - first, np.arange(len(first)) - first
    pieces = -(-size // (longest + 1))
    piece = at * pieces // np.maximum(size, 1)
    begin = first - (-piece * size // np.maximum(pieces, 1))
    last = (at + 1) * pieces // np.maximum(size, 1) > piece
    return begin, first + at - begin, np.full(len(first), _NEVER), last


def _write(dataset: Dataset, columns: _Columns, lists: _Lists, folder: Path, progress: Progress) -> Dataset:
    writer, start = PartWriter(folder), 0
    names: Sequence[str] = [column.name for column in (*columns.kept, columns.item)]
    for batch in batches(dataset.files, names):
        found = lists.between(start, start + batch.height)
        rows = batch[found.rows - start].with_columns(found.series())
        writer.write(rows.select(column.name for column in columns.made))
        start += batch.height
        progress("examples", start, dataset.rows, "rows")
    made = Dataset(dataset.name, columns.made, writer.close(), writer.rows, dataset.facts)
    made.save(folder)
    return made
