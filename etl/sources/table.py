"""Any CSV or Parquet, described by the config.

Parquet is read in place. CSV is kept as strings in Parquet parts, so that cells that do not parse can be told from
empty ones. A list in a CSV is one cell with `|` between its values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl import dtypes
from etl.config import ColumnConfig, DataConfig
from etl.errors import ConfigError, DataError, SchemaError
from etl.progress import Progress, silent
from etl.sources.cells import typed
from etl.sources.dataset import DataColumn, Dataset, check_roles, closest
from etl.sources.lines import csv_columns, scan_csv, streamed
from etl.sources.parts import PartWriter, batches, new_folder, parquet_rows, parquet_schema

CSV, PARQUET = (".csv", ".tsv", ".csv.gz", ".tsv.gz"), (".parquet", ".pq")
SAMPLE = 10_000
GUESSED = 0.95
"""A CSV column is a number or a time when so large a share of its first cells is."""


@dataclass(frozen=True)
class Table:
    """A file, a folder or a glob of CSV or Parquet files with the same columns."""

    config: DataConfig

    def prepare(self, out: Path, progress: Progress = silent) -> Dataset:
        """Write dataset.json, and for CSV or with a limit the rows, to `out`.

        ConfigError without path or columns; SchemaError for a declared column that is not in the file; DataError if
        unreadable.
        """
        files = found_files(self.config.path)
        is_csv = files[0].name.endswith(CSV)
        known = csv_columns(files[0], _separator(files[0])) if is_csv else parquet_schema(files[0]).names()
        columns = self._columns(files[0], known, is_csv)
        with new_folder(out) as folder:
            if is_csv or self.config.limit:
                stored, rows = self._copy(files, folder, is_csv, progress)
            else:
                stored, rows = tuple(files), sum(map(parquet_rows, files))
            facts = {"citation": f"{self.config.path}", "licence": "unknown to Mews"}
            Dataset(files[0].name, columns, stored, rows, facts).save(folder)
        return Dataset.load(out)

    def _columns(self, path: Path, known: Sequence[str], is_csv: bool) -> tuple[DataColumn, ...]:
        if not self.config.columns:
            raise ConfigError(
                "data.columns", expected="a role for each column of the table", hint=f"It has: {', '.join(known)}."
            )
        for name in self.config.columns:
            if name not in known:
                raise SchemaError(f"column {name!r}", expected=f"a column of {path.name}", hint=closest(name, known))
        sample = scan_csv(path, _separator(path)).head(SAMPLE).collect() if is_csv else pl.read_parquet(path, n_rows=0)
        columns = tuple(_declared(name, wanted, sample[name]) for name, wanted in self.config.columns.items())
        check_roles(columns)
        return columns

    def _copy(
        self, files: Sequence[Path], folder: Path, is_csv: bool, progress: Progress
    ) -> tuple[tuple[Path, ...], int]:
        writer = PartWriter(folder)
        left = self.config.limit
        empty = None
        for path in files:
            read = streamed(scan_csv(path, _separator(path)), path) if is_csv else batches([path])
            for batch in read:
                kept = batch if left is None else batch.head(left - writer.rows)
                empty = kept if empty is None else empty
                writer.write(kept)
                progress("read", writer.rows, left, "rows")
                if left is not None and writer.rows >= left:
                    return writer.close(), writer.rows
        if empty is None:
            empty = (
                scan_csv(files[0], _separator(files[0])).head(0).collect()
                if is_csv
                else pl.read_parquet(files[0], n_rows=0)
            )
        return writer.close(empty), writer.rows


def found_files(path: Path | None) -> list[Path]:
    """The files that a path, a folder or a glob stands for, in the order of their names; all CSV or all Parquet."""
    if path is None:
        raise ConfigError("data.path", expected="a file, a folder or a glob", received="nothing")
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(CSV + PARQUET))
    else:
        top = Path(path.anchor) if path.is_absolute() else Path()
        files = sorted(file for file in top.glob(str(path.relative_to(path.anchor))) if file.is_file())
    if not files:
        raise DataError(
            f"{path}", expected=f"a file, a folder or a glob of {', '.join(CSV + PARQUET)}", received="no file"
        )
    kinds = {
        "csv" if file.name.endswith(CSV) else "parquet" if file.name.endswith(PARQUET) else file.suffix
        for file in files
    }
    if kinds not in ({"csv"}, {"parquet"}):
        raise DataError(f"{path}", expected="CSV or Parquet files, not both", received=", ".join(sorted(kinds)))
    return files


def _separator(path: Path) -> str:
    return "\t" if ".tsv" in path.name else ","


def _declared(name: str, wanted: ColumnConfig, sample: pl.Series) -> DataColumn:
    if sample.dtype == pl.Null() and wanted.dtype is None:
        raise SchemaError(
            f"column {name!r}",
            expected="values, or a type declared for it",
            received="nothing but nulls",
            hint=f"Set data.columns.{name}.dtype, or leave the column out.",
        )
    kind, is_list = dtypes.from_polars(sample.dtype) if sample.dtype != pl.Null() else ("string", False)
    guessed = kind if sample.dtype != pl.String() or wanted.role == "tags" else guess(sample, wanted)
    return DataColumn(
        name,
        dtypes.dtype(wanted.dtype or guessed).name,
        is_list or wanted.role == "tags",
        wanted.role,
        wanted.nullable and wanted.role not in ("label", "timestamp"),
        wanted.minimum,
        wanted.maximum,
        wanted.side,
    )


def guess(sample: pl.Series, wanted: ColumnConfig) -> str:
    """The type that most of these cells have: int64, float64, datetime (for a timestamp) or string."""
    filled = sample.drop_nulls()
    fixed: Mapping[str, str] = {"label": "int8", "numeric": "float64"}
    tried = ("int64", "datetime") if wanted.role == "timestamp" else ("int64", "float64")
    for name in tried:
        parsed = pl.DataFrame({"cell": filled}).select(typed(pl.col("cell"), pl.String(), DataColumn("cell", name)))
        if len(filled) and parsed["cell"].is_not_null().mean() >= GUESSED:  # type: ignore[operator]
            return "int8" if wanted.role == "label" else name
    return fixed.get(wanted.role, "datetime" if wanted.role == "timestamp" else "string")
