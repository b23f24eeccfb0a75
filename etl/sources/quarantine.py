"""Rows that cannot be used: how they are told from the others, and where they go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl.dtypes import is_float
from etl.sources.cells import typed
from etl.sources.dataset import DataColumn
from etl.sources.parts import PartWriter

EXTRA = "__extra_cells"
"""What a CSV line holds beyond its last column; only in files that were read from CSV."""
_MASK = "__mask_"


@dataclass(frozen=True)
class Rule:
    """A reason to refuse a row; `bad` is true for the rows it applies to."""

    reason: str
    bad: pl.Expr


def rules(columns: Sequence[DataColumn], stored: Mapping[str, pl.DataType]) -> tuple[Rule, ...]:
    """Every reason to refuse a row whose columns are kept in the types `stored`."""
    found = [rule for column in columns for rule in _column_rules(column, stored[column.name])]
    if EXTRA in stored:
        found.append(Rule("more cells than columns", pl.col(EXTRA).is_not_null()))
    return tuple(found)


def _column_rules(column: DataColumn, stored: pl.DataType) -> Iterator[Rule]:
    raw = pl.col(column.name)
    value = typed(raw, stored, column)
    missing = raw.is_null() | ((raw.str.strip_chars() == "") if stored == pl.String() else pl.lit(False))
    if not column.is_list and is_float(column.dtype):
        yield Rule(f"{column.name} is infinite", value.is_infinite())
        missing = missing | value.is_nan().fill_null(False)
    if column.is_list and column.dtype != "string":
        bad_value = value.list.eval(pl.element().is_null()).list.any()
        yield Rule(f"{column.name} holds a value that is not {column.dtype}", bad_value)
    elif not column.is_list and stored != column.polars_type:
        yield Rule(f"{column.name} is not {column.dtype}", value.is_null() & ~missing)
    if not column.nullable or column.role in ("label", "timestamp"):
        yield Rule(f"{column.name} is null", missing)
    if column.role == "label":
        yield Rule(f"{column.name} is not 0 or 1", ~value.cast(pl.Float64).is_in([0.0, 1.0]))
    if not column.is_list and column.dtype not in ("string", "bool", "datetime"):
        yield from _range_rules(column, value)


def _range_rules(column: DataColumn, value: pl.Expr) -> Iterator[Rule]:
    if column.minimum is not None:
        yield Rule(f"{column.name} is below {column.minimum:g}", value < column.minimum)
    if column.maximum is not None:
        yield Rule(f"{column.name} is above {column.maximum:g}", (value > column.maximum) & value.is_finite())


@dataclass(frozen=True)
class Sorted:
    """A batch divided: `good` rows in the declared types, `bad` rows as text with `reason` and `row`."""

    good: pl.DataFrame
    bad: pl.DataFrame
    reasons: Counter[str]


def divide(batch: pl.DataFrame, columns: Sequence[DataColumn], first_row: int) -> Sorted:
    """Divide one batch; `first_row` is the number of its first row in the whole dataset, from 0."""
    stored = dict(batch.schema)
    found = rules(columns, stored)
    masks = batch.select([rule.bad.fill_null(False).alias(f"{_MASK}{i}") for i, rule in enumerate(found)])
    is_bad = (
        masks.select(pl.any_horizontal(pl.all())).to_series() if found else pl.repeat(False, batch.height, eager=True)
    )
    wanted = [typed(pl.col(column.name), stored[column.name], column).alias(column.name) for column in columns]
    good = batch.filter(~is_bad).select(wanted)
    if not is_bad.any():
        return Sorted(good, pl.DataFrame(), Counter())
    names = [rule.reason for rule in found]
    counts = Counter({name: int(masks[:, i].sum()) for i, name in enumerate(names)})
    texts = [pl.when(pl.col(f"{_MASK}{i}")).then(pl.lit(name)) for i, name in enumerate(names)]
    why = masks.filter(is_bad).select(pl.concat_str(texts, separator="; ", ignore_nulls=True).alias("reason"))
    rows = pl.DataFrame({"row": pl.int_range(first_row, first_row + batch.height, eager=True).filter(is_bad)})
    as_text = batch.filter(is_bad).select([_text(name, kind) for name, kind in stored.items()])
    return Sorted(good, rows.hstack(why).hstack(as_text), +counts)


def _text(name: str, stored: pl.DataType) -> pl.Expr:
    if isinstance(stored, pl.List):
        return pl.col(name).list.eval(pl.element().cast(pl.String)).list.join("|", ignore_nulls=True)
    return pl.col(name).cast(pl.String)


def write_quarantine(writer: PartWriter, target: Path) -> Path | None:
    """Join the parts of `writer` in the one file `target`, streaming; None when there are none."""
    files = writer.close()
    if not files:
        return None
    frames = [pl.scan_parquet(path) for path in files]
    pl.concat(frames, how="diagonal").sink_parquet(target)
    for path in files:
        path.unlink()
    return target
