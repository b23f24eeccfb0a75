"""Parquet, CSV and Arrow IPC files as one lazy table of plain types.

CSV is copied once, with the types its first rows have, to Parquet parts in a folder that the caller owns: what follows
reads single columns many times. A cell that is not of its column's type becomes null there and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl import dtypes
from etl.errors import DataError, SchemaError
from etl.progress import Progress, silent
from etl.sources.cells import typed
from etl.sources.dataset import DataColumn, Dataset
from etl.sources.explore.files import found, separator
from etl.sources.lines import csv_columns, scan_csv, streamed
from etl.sources.parts import PartWriter, readable
from etl.sources.quarantine import EXTRA

GUESSED_FROM = 10_000
"""The types of a CSV's columns are those of so many first rows …"""
GUESSED = 0.95
"""… where so large a share of the filled cells has the type."""
_SHOWN = 5


@dataclass(frozen=True)
class Column:
    """One column: `dtype` is its type in the file; `kind` says how it is described: number, moment, boolean, category,
    list, null (no values at all) or other (a struct, bytes).
    """

    name: str
    dtype: str
    kind: str
    integer: bool = False
    role: str = ""


@dataclass(frozen=True)
class Note:
    """Something met while reading: a warning of this `kind` about a column ('' for the table)."""

    column: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Table:
    """Rows of `files`, read lazily; `frame` has the columns in plain types: numbers, strings, booleans, lists, and
    datetimes in microseconds UTC.
    """

    name: str
    files: tuple[Path, ...]
    bytes: int
    rows: int
    columns: tuple[Column, ...]
    frame: pl.LazyFrame
    notes: tuple[Note, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of this name, None if there is none."""
        return next((column for column in self.columns if column.name == name), None)


def open_table(paths: Sequence[Path], spool: Path, progress: Progress = silent) -> Table:
    """Return the table in `paths` (files or folders, their rows one after the other); CSV is copied to `spool`.

    DataError for what is missing, unreadable, no table or without rows; SchemaError if the files' columns differ.
    """
    files, kind = found(paths)
    size = sum(file.stat().st_size for file in files)
    notes: tuple[Note, ...] = ()
    stored, scan = files, pl.scan_ipc if kind == "arrow" else pl.scan_parquet
    if kind == "csv":
        stored, notes = _spooled(files, spool, progress)
    schema = _one_schema(stored, scan)
    names = schema.names()
    frame = scan(list(stored)).select([_plain(name, schema[name]) for name in names])
    with readable(files[0]):
        rows = int(scan(list(stored)).select(pl.len()).collect(engine="streaming").item())
    if not rows:
        raise DataError(f"{files[0]}", expected="rows", received="a header or a schema and nothing below it")
    columns = tuple(_column(name, schema[name]) for name in names)
    return Table(_name(paths), tuple(files), size, rows, columns, frame, notes)


def dataset_table(dataset: Dataset) -> Table:
    """Return the rows of a run's dataset as a table, roles included; DataError without rows."""
    frame = dataset.scan()
    schema = frame.collect_schema()
    if not dataset.rows:
        raise DataError(f"dataset {dataset.name}", expected="rows", received="none")
    roles: Mapping[str, str] = {column.name: column.role for column in dataset.columns}
    columns = tuple(_column(name, schema[name], roles[name]) for name in schema.names())
    size = sum(file.stat().st_size for file in dataset.files)
    return Table(dataset.name, dataset.files, size, dataset.rows, columns, frame)


def _name(paths: Sequence[Path]) -> str:
    first = paths[0].resolve().name
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def _one_schema(files: Sequence[Path], scan: object) -> pl.Schema:
    """The schema that all files have; SchemaError tells every difference from the first."""
    schemas = []
    for file in files:
        with readable(file):
            schemas.append(scan(file).collect_schema())  # type: ignore[operator]
    first: pl.Schema = schemas[0]
    if not first:
        raise DataError(f"{files[0]}", expected="columns", received="none")
    differences = [
        f"{file.name}: column {name!r} is {_said(schema.get(name))}, not {_said(first.get(name))}"
        for file, schema in zip(files[1:], schemas[1:], strict=True)
        for name in sorted({*first, *schema})
        if first.get(name) != schema.get(name)
    ]
    if differences:
        left = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise SchemaError(
            f"{len(files)} files",
            expected=f"the columns and types of {files[0].name} in all of them",
            received="; ".join(differences[:_SHOWN]) + left,
            hint="Describe files that differ one at a time, or one with the other as --reference.",
        )
    return first


def _said(dtype: pl.DataType | None) -> str:
    return "absent" if dtype is None else _spelled(dtype)


def _spelled(dtype: pl.DataType) -> str:
    try:
        return dtypes.spelled(*dtypes.from_polars(dtype))
    except SchemaError:
        return str(dtype).lower()


def _column(name: str, dtype: pl.DataType, role: str = "") -> Column:
    return Column(name, _spelled(dtype), _kind(dtype), dtype.is_integer(), role)


def _kind(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List | pl.Array):
        return "list" if _kind(dtype.inner) in ("number", "category", "boolean", "moment") else "other"  # type: ignore[arg-type]
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.String):
        return "category"
    if isinstance(dtype, pl.Date | pl.Datetime):
        return "moment"
    if dtype.is_numeric() or isinstance(dtype, pl.Duration):
        return "number"
    return {pl.Boolean(): "boolean", pl.Null(): "null"}.get(dtype, "other")


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Array):
        return column.arr.to_list()
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).dt.cast_time_unit("us")
    if isinstance(dtype, pl.Date | pl.Datetime):
        return column.cast(pl.Datetime("us"))
    if isinstance(dtype, pl.Duration):
        return column.dt.total_microseconds() / 1e6
    wide = dtype.is_decimal() or dtype in (pl.Int128(), pl.UInt128(), pl.Float16())
    return column.cast(pl.Float64) if wide else column


def _spooled(files: Sequence[Path], spool: Path, progress: Progress) -> tuple[list[Path], tuple[Note, ...]]:
    """Copy CSV `files` to Parquet; returns the parts, and what did not fit."""
    marks = [separator(file) or ("\t" if ".tsv" in file.name else ",") for file in files]
    headers = [csv_columns(file, mark) for file, mark in zip(files, marks, strict=True)]
    for file, header in zip(files, headers, strict=True):
        if sorted(header) != sorted(headers[0]):
            differing = sorted(set(header) ^ set(headers[0]))
            raise SchemaError(
                f"{file}",
                expected=f"the columns of {files[0].name}",
                received=f"a difference in {', '.join(differing)}",
            )
    with readable(files[0]):
        sample = scan_csv(files[0], marks[0]).head(GUESSED_FROM).collect(engine="streaming")
    columns = [DataColumn(name, _guess(sample[name])) for name in headers[0]]
    casts = [typed(pl.col(column.name), pl.String(), column).alias(column.name) for column in columns]
    lost = _Lost(columns)
    writer = PartWriter(spool)
    for file, mark in zip(files, marks, strict=True):
        for batch in streamed(scan_csv(file, mark), file):
            read = batch.select(casts)
            lost.count(batch, read)
            writer.write(read)
            progress("read", writer.rows, None, "rows")
    return list(writer.close(sample.select(casts))), lost.notes()


class _Lost:
    """Cells of a CSV that are not of their column's type, and lines with more cells than the header."""

    def __init__(self, columns: Sequence[DataColumn]) -> None:
        self._typed = [column for column in columns if column.dtype != "string"]
        self._cells = dict.fromkeys((column.name for column in self._typed), 0)
        self._examples: dict[str, list[str]] = {name: [] for name in self._cells}
        self._long = 0

    def count(self, before: pl.DataFrame, after: pl.DataFrame) -> None:
        """Add what one batch lost."""
        self._long += before.height - before[EXTRA].null_count() if EXTRA in before.columns else 0
        for name in self._cells:
            bad = before[name].filter(before[name].is_not_null() & after[name].is_null())
            self._cells[name] += len(bad)
            if len(bad) and len(self._examples[name]) < 3:
                self._examples[name] = list(
                    dict.fromkeys([*self._examples[name], *bad.head(1000).unique(maintain_order=True).to_list()])
                )[:3]

    def notes(self) -> tuple[Note, ...]:
        """A note for each column with such cells."""
        kinds = {column.name: column.dtype for column in self._typed}
        found = [
            Note(name, "unparsed", f"{count:,} cells are no {kinds[name]}, such as {self._quoted(name)}; taken as null")
            for name, count in self._cells.items()
            if count
        ]
        if self._long:
            found.append(
                Note(
                    "", "long lines", f"lines with more cells than the header: {self._long:,}; the rest of them is cut"
                )
            )
        return tuple(found)

    def _quoted(self, name: str) -> str:
        return ", ".join(repr(example) for example in self._examples[name])


def _guess(sample: pl.Series) -> str:
    """The type that most of these cells have; numbers with leading zeros are codes, so strings."""
    filled = sample.drop_nulls()
    if not len(filled) or filled.str.contains(r"^\s*-?0\d").any():
        return "string"
    for name in ("int64", "float64", "datetime"):
        parsed = pl.DataFrame({"cell": filled}).select(typed(pl.col("cell"), pl.String(), DataColumn("cell", name)))
        if 1 - parsed["cell"].null_count() / len(filled) >= GUESSED:
            return name
    return "string"
