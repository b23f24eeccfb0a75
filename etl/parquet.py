"""Parquet files as they are found: columns and rows from the footer, and a DataError that names a damaged file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from etl.errors import DataError


def read_schema(path: Path) -> Mapping[str, pl.DataType]:
    """Return the columns of a Parquet file; DataError if it is missing, empty, truncated or not Parquet."""
    with _readable(path):
        return pl.read_parquet_schema(path)


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file from its footer; DataError as in `read_schema`."""
    with _readable(path):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def read_through(path: Path) -> None:
    """Read all rows and keep none; DataError if a part of the file is damaged."""
    with _readable(path):
        for _ in pl.scan_parquet(path, glob=False).collect_batches():
            pass


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        found = f"{path.stat().st_size} bytes ({str(error).splitlines()[0]})" if path.exists() else "nothing there"
        raise DataError(f"{path} cannot be read", expected="a whole Parquet file", received=found) from error
