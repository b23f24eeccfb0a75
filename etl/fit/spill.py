"""Merged tables within a budget of memory: what does not fit goes to disk, split by a hash of its keys.

Rows with equal keys meet in the same bucket, so that buckets are merged one after the other.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import polars as pl

from etl.errors import MewsError
from etl.fit.partial import Tables

Key = tuple[str, str]
Merge = Callable[[Sequence[pl.DataFrame]], pl.DataFrame]

_MERGE_AT = 8
"""Tables of one key that are kept before they are merged: memory against time."""
_BUCKETS = 64
_TABLES = 0.1
"""The part of the limit that waiting tables may take; the rest is for slices, for merging and for the result."""


class Merged:
    """Tables by key, merged as they come; `limit` (bytes) bounds the memory of the whole fit.

    `keys` says by which columns the tables of a key may be split (none: they stay in memory). Temporary files lie in a
    folder of their own in the system's (TMPDIR) and are gone after the block, however it ends.
    """

    def __init__(
        self, merge: Callable[[Key], Merge], keys: Callable[[Key, pl.DataFrame], list[str]], limit: int
    ) -> None:
        self._merge, self._keys = merge, keys
        self._budget = int(limit * _TABLES)
        self._held: dict[Key, list[pl.DataFrame]] = {}
        self._folder: Path | None = None
        self._spilled: dict[Key, Path] = {}
        self._written = 0

    def __enter__(self) -> Merged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def spilled_files(self) -> int:
        """How many files were written."""
        return self._written

    def add(self, tables: Tables) -> None:
        """Take the tables of one slice, which follow those that were added before."""
        for key, table in tables.items():
            held = self._held.setdefault(key, [])
            held.append(table)
            if len(held) >= _MERGE_AT and self._pays(key, held):
                self._held[key] = [self._merge(key)(held)]
        if self._size() > self._budget:
            self._relieve()

    def take(self) -> Tables:
        """Return the merged tables, and forget them."""
        found: Tables = {}
        for key in list(self._held):
            held = self._held.pop(key)
            if key in self._spilled:
                self._spill(key, pl.concat(held), self._keys(key, held[0]))
                found[key] = self._from_buckets(key)
            else:
                found[key] = self._merge(key)(held)
        return found

    def _size(self) -> int:
        return int(sum(table.estimated_size() for held in self._held.values() for table in held))

    def _pays(self, key: Key, held: Sequence[pl.DataFrame]) -> bool:
        """Say if merging is worth it: not again for a few small tables, nor in memory for what goes to the disk."""
        if self._keys(key, held[0]) and sum(table.estimated_size() for table in held) > self._budget // 4:
            return False
        return 2 * sum(each.height for each in held[1:]) >= held[0].height

    def _relieve(self) -> None:
        """Merge what cannot be split; if that is not enough, send the largest tables to the disk."""
        for key, held in self._held.items():
            if len(held) > 1 and not self._keys(key, held[0]):
                self._held[key] = [self._merge(key)(held)]
        for key in sorted(self._held, key=lambda key: -sum(table.estimated_size() for table in self._held[key])):
            if self._size() <= self._budget // 2:
                return
            held = self._held[key]
            if columns := self._keys(key, held[0]):
                self._spill(key, pl.concat(held), columns)
                self._held[key] = [held[0].clear()]

    def _spill(self, key: Key, table: pl.DataFrame, columns: list[str]) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="mews-fit-"))
        folder = self._spilled.setdefault(key, self._folder / str(len(self._spilled)))
        bucket = pl.struct(columns).hash(1, 2, 3, 4) if len(columns) > 1 else pl.col(columns).hash(1, 2, 3, 4)
        parts = table.with_columns((bucket % _BUCKETS).cast(pl.UInt8).alias("\0bucket"))
        try:
            for (number,), part in parts.partition_by("\0bucket", include_key=False, as_dict=True).items():
                (folder / str(number)).mkdir(parents=True, exist_ok=True)
                part.write_parquet(
                    folder / str(number) / f"{self._written:08d}.parquet", compression="lz4", statistics=False
                )
                self._written += 1
        except (OSError, pl.exceptions.PolarsError) as error:
            hint = "Make room, point TMPDIR to another disk, or allow more memory."
            raise MewsError(f"{folder} cannot be written", received=str(error).splitlines()[0], hint=hint) from error

    def _from_buckets(self, key: Key) -> pl.DataFrame:
        """Return the merged table of a key, bucket by bucket."""
        found = []
        for folder in sorted(self._spilled.pop(key).iterdir()):
            found.append(self._merge(key)([pl.read_parquet(path) for path in sorted(folder.iterdir())]))
            shutil.rmtree(folder)
        return pl.concat(found)
