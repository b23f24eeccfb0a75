"""Text files with one record a line, read as strings: nothing is lost, and validation finds what does not parse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from etl.sources.parts import ROWS_PER_PART, readable
from etl.sources.quarantine import EXTRA


def csv_columns(path: Path, separator: str = ",") -> list[str]:
    """The names in the header of a CSV; DataError if the file is empty."""
    with readable(path):
        return pl.scan_csv(path, separator=separator, n_rows=0, infer_schema=False).collect_schema().names()


def scan_csv(path: Path, separator: str = ",", names: Sequence[str] | None = None) -> pl.LazyFrame:
    """Every column as strings, an empty cell as null; `names` for a file without header.

    Cells beyond the last column are kept (the first of them) in a column of their own, so that such lines can be
    refused.
    """
    columns = list(names) if names else csv_columns(path, separator)
    schema = {name: pl.String() for name in [*columns, EXTRA]}
    return pl.scan_csv(
        path,
        separator=separator,
        has_header=names is None,
        schema=schema,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )


def scan_separated(path: Path, separator: str, names: Sequence[str]) -> pl.LazyFrame:
    """Lines whose cells are divided by `separator` of any length (the `::` of MovieLens), as strings, no header,
    Latin-1 safe.
    """
    lines = pl.scan_csv(
        path,
        separator="\x01",
        quote_char=None,
        has_header=False,
        schema={"line": pl.String()},
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )
    cells = pl.col("line").str.split(separator)
    return lines.select([cells.list.get(i, null_on_oob=True).alias(name) for i, name in enumerate(names)])


def read_latin1(path: Path, separator: str, names: Sequence[str]) -> pl.DataFrame:
    """A small Latin-1 file as strings; cells beyond `names` are dropped, missing ones are null."""
    rows = [line.split(separator) for line in path.read_text(encoding="latin-1").splitlines() if line]
    cells = [[row[i] if i < len(row) and row[i] else None for i in range(len(names))] for row in rows]
    return pl.DataFrame(cells, schema={name: pl.String() for name in names}, orient="row")


def streamed(frame: pl.LazyFrame, path: Path, rows: int = ROWS_PER_PART) -> Iterator[pl.DataFrame]:
    """The rows of `frame` in order, about `rows` at a time; DataError names `path` if it cannot be read."""
    with readable(path):
        yield from frame.collect_batches(chunk_size=rows, lazy=True, engine="streaming")
