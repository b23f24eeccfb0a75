"""Reading and writing rows part by part, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from etl.atomic import atomic_folder
from etl.errors import DataError, MewsError

ROWS_PER_PART = 250_000


class PartWriter:
    """Collects frames and writes them as `part_00000.parquet`, `part_00001.parquet` … of `rows_per_part` rows each."""

    def __init__(self, folder: Path, rows_per_part: int = ROWS_PER_PART) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rows_per_part = folder, rows_per_part
        self.files: list[Path] = []
        self.rows = 0
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        """Append the rows of `frame`."""
        if frame.height:
            self._held.append(frame)
            self._held_rows += frame.height
            self.rows += frame.height
        if self._held_rows >= self.rows_per_part:
            self._flush(self._held_rows - self._held_rows % self.rows_per_part)

    def close(self, empty: pl.DataFrame | None = None) -> tuple[Path, ...]:
        """Write what is left and return all files; with no rows at all, one file with the schema of `empty`."""
        self._flush(self._held_rows)
        if not self.files and empty is not None:
            self._write_file(empty.clear())
        return tuple(self.files)

    def _flush(self, rows: int) -> None:
        if not rows:
            return
        held = pl.concat(self._held, how="diagonal")
        for start in range(0, rows, self.rows_per_part):
            self._write_file(held.slice(start, min(self.rows_per_part, rows - start)))
        rest = held.slice(rows)
        self._held, self._held_rows = ([rest] if rest.height else []), rest.height

    def _write_file(self, frame: pl.DataFrame) -> None:
        path = self.folder / f"part_{len(self.files):05d}.parquet"
        frame.rechunk().write_parquet(path)
        self.files.append(path)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all; a full disk or a forbidden path becomes a MewsError naming it."""
    try:
        with atomic_folder(target) as folder:
            yield folder
    except (OSError, pl.exceptions.ComputeError) as error:
        raise MewsError(
            f"writing {target}", received=str(error), hint="Nothing was written; is the disk full or read-only?"
        ) from error


def batches(
    files: Sequence[Path], columns: Sequence[str] | None = None, rows: int = ROWS_PER_PART
) -> Iterator[pl.DataFrame]:
    """The rows of Parquet `files` in order, about `rows` at a time; DataError names a file that cannot be read."""
    for path in files:
        with readable(path):
            scanned = pl.scan_parquet(path)
            chosen = scanned if columns is None else scanned.select(columns)
            yield from chosen.collect_batches(chunk_size=rows, lazy=True, engine="streaming")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what Polars says of a damaged file into a DataError that names it."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path}", expected="a readable file", received=first, hint="Is it whole? Copy it again."
        ) from error


def parquet_rows(path: Path) -> int:
    """The number of rows of a Parquet file, from its footer; DataError if there is none."""
    with readable(path):
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def parquet_schema(path: Path) -> pl.Schema:
    """The columns and types of a Parquet file, from its footer; DataError if there is none."""
    with readable(path):
        return pl.scan_parquet(path).collect_schema()
