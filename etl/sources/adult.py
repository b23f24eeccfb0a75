"""UCI Adult: does a person earn more than 50,000 dollars a year. Rows have no time, so they are split at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl.config import DataConfig
from etl.errors import DataError
from etl.progress import Progress, silent
from etl.sources.dataset import DataColumn, Dataset, overridden
from etl.sources.lines import csv_columns, scan_csv, streamed
from etl.sources.parts import PartWriter, new_folder

_TEXT = ("workclass", "education", "marital", "occupation", "relationship", "race", "sex", "country")
_NUMBERS = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
_ORDER = """
    age workclass fnlwgt education education_num marital occupation relationship race sex capital_gain capital_loss
    hours_per_week country income
"""
ORDER = tuple(_ORDER.split())
FACTS = {
    "licence": "CC BY 4.0",
    "citation": "Becker, Kohavi (1996). Adult. UCI Machine Learning Repository, doi:10.24432/C5XW20",
    "split": "random",
}
COLUMNS = (
    *(DataColumn(name, "string", role="categorical") for name in _TEXT),
    *(DataColumn(name, "float32", role="numeric", minimum=0.0) for name in _NUMBERS),
    DataColumn("fnlwgt", "float32"),
    DataColumn("label", "int8", role="label", nullable=False),
)


@dataclass(frozen=True)
class Adult:
    """`adult.data`, with or without header, gzipped or not; `fnlwgt` is a census weight, no feature (role ignore)."""

    config: DataConfig

    def prepare(self, out: Path, progress: Progress = silent) -> Dataset:
        """Write the rows in file order; `?` becomes null."""
        path = adult_file(self.config.path)
        columns = overridden(COLUMNS, self.config.columns)
        with new_folder(out) as folder:
            writer = PartWriter(folder)
            for batch in self._rows(path):
                writer.write(batch)
                progress("read", writer.rows, self.config.limit, "rows")
            empty = pl.DataFrame(schema={column.name: column.polars_type for column in COLUMNS})
            Dataset("adult", columns, writer.close(empty), writer.rows, FACTS).save(folder)
        return Dataset.load(out)

    def _rows(self, path: Path) -> Iterator[pl.DataFrame]:
        header = csv_columns(path)
        if len(header) != len(ORDER):
            raise DataError(f"{path}", expected=f"{len(ORDER)} columns: {', '.join(ORDER)}", received=f"{len(header)}")
        named = not header[0].strip().isdigit()
        rows = scan_csv(path) if named else scan_csv(path, names=ORDER)
        cells = pl.all().str.strip_chars().replace("?", None)
        renamed = rows.rename(dict(zip(header, ORDER, strict=True))) if named else rows
        income = pl.col("income").str.strip_suffix(".")
        label = income.replace_strict({">50K": 1, "<=50K": 0}, default=None, return_dtype=pl.Int8).alias("label")
        kept = (
            renamed.select(cells)
            .filter(~pl.all_horizontal(pl.all().is_null()))
            .select(*_TEXT, *_NUMBERS, "fnlwgt", label)
        )
        yield from streamed(kept if self.config.limit is None else kept.head(self.config.limit), path)


def adult_file(path: Path | None) -> Path:
    """The data file at `path` or in the folder `path`."""
    found = path if path and path.is_file() else next(iter(sorted((path or Path()).glob("adult.data*"))), None)
    if path is None or found is None:
        raise DataError(f"{path}", expected="adult.data, adult.data.gz or a folder with one", received="no such file")
    return found
