"""The facts of one column: nulls, distinct values, moments, quantiles, histogram, top values, lengths of lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.sources.explore import bins
from etl.sources.explore.sample import ROWS, counts, distinct, sampled
from etl.sources.explore.tables import Column, Table

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP = 10
COUNTED = 1_000_000
"""Up to so many distinct values all are counted to find the top ones; above it, the commonest of a sample."""
_CANDIDATES = 1_000
_FEW = 50


def facts(table: Table, column: Column) -> dict[str, Any]:
    """Return what `column` holds as JSON values; see docs/describe.md for the keys."""
    found: dict[str, Any] = {"name": column.name, "dtype": column.dtype, "kind": column.kind, "role": column.role}
    rows = table.frame.select(pl.col(column.name).alias("v"))
    nulls = int(rows.select(pl.col("v").null_count()).collect(engine="streaming").item())
    found |= {"rows": table.rows, "nulls": nulls, "null_share": nulls / table.rows}
    if column.kind in ("null", "other") or nulls == table.rows:
        return found | {"distinct": 0 if nulls == table.rows else None}
    values = rows
    if column.kind == "list":
        values = rows.drop_nulls().select(pl.col("v").explode(empty_as_null=False)).drop_nulls()
        found["lengths"] = _numbers(table, column)
    many, error = distinct(values, table.rows)
    many = many if column.kind == "list" else min(many, table.rows - nulls)  # an estimate may be above the possible
    found |= {"distinct": many, "distinct_method": "hyperloglog" if error else "exact", "distinct_error": error}
    if column.kind in ("number", "moment"):
        found |= _numbers(table, column)
    if _has_top(table, column, many):
        found |= _top(table, column, values, many)
    if column.kind == "category":
        found["empty"] = _count(rows, pl.col("v") == "")
    return found


def _has_top(table: Table, column: Column, many: int) -> bool:
    """Fractions and moments are listed only when they are few."""
    return bool(many) and (many <= _FEW or column.integer or column.kind in ("category", "boolean", "list"))


def _count(rows: pl.LazyFrame, condition: pl.Expr) -> int:
    return int(rows.select(condition.sum()).collect(engine="streaming").item() or 0)


def _numbers(table: Table, column: Column) -> dict[str, Any]:
    raw = pl.col(column.name)
    values = table.frame.select(bins.number(column.name, column.kind).alias("v"))
    asked = [
        pl.min("v").alias("min"),
        pl.mean("v").alias("mean"),
        pl.max("v").alias("max"),
        pl.std("v").alias("std"),
        (pl.col("v") == 0).sum().alias("zeros"),
        (pl.col("v") < 0).sum().alias("negatives"),
    ]
    summary = values.select(asked).collect(engine="streaming").row(0, named=True)
    is_float = column.kind == "number" and not column.integer
    broken = _count(table.frame, raw.is_not_null() & ~raw.cast(pl.Float64).is_finite()) if is_float else 0
    if summary["min"] is None:
        return {"min": None, "mean": None, "max": None, "std": None, "not_finite": broken, "quantiles": {}}
    sample = sample_of(table, column)
    whole = column.integer or column.kind == "list"
    edges = bins.histogram_edges(sample, summary["min"], summary["max"], whole)
    quantiles = {f"{q:g}": float(found) for q, found in zip(QUANTILES, np.quantile(sample, QUANTILES), strict=True)}
    found = {**summary, "not_finite": broken, "quantiles": quantiles, "histogram": bins.histogram(values, edges)}
    return _as_moments(found) if column.kind == "moment" else {k: _finite(v) for k, v in found.items()}


def sample_of(table: Table, column: Column) -> NDArray[np.float64]:
    """The finite numbers of `column` in a sample of the rows."""
    value = bins.number(column.name, column.kind).alias("v")
    sample = sampled(table.frame.select(column.name), table.rows, ROWS).select(value).drop_nulls()
    return sample.collect(engine="streaming")["v"].to_numpy()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_moments(found: dict[str, Any]) -> dict[str, Any]:
    """Microseconds become texts; sums and squares of times mean nothing and go."""
    return {
        **{key: moment(found[key]) for key in ("min", "mean", "max")},
        "quantiles": {share: moment(value) for share, value in found["quantiles"].items()},
        "histogram": {**found["histogram"], "edges": [moment(edge) for edge in found["histogram"]["edges"]]},
    }


def moment(microseconds: float) -> str:
    """Microseconds since 1970 as a date and a time of day."""
    return str(pl.Series([int(microseconds)]).cast(pl.Datetime("us"))[0].isoformat(sep=" ", timespec="seconds"))


def _top(table: Table, column: Column, values: pl.LazyFrame, many: int) -> dict[str, Any]:
    filled, method = values.drop_nulls(), "exact"
    if many > COUNTED:
        method = f"the {_CANDIDATES:,} commonest values of a sample, counted in all rows"
        rows = sampled(table.frame.select(pl.col(column.name).alias("v")), table.rows, ROWS)
        some = rows.explode("v", empty_as_null=False) if column.kind == "list" else rows
        candidates = commonest(some.drop_nulls(), _CANDIDATES)["v"]
        filled = filled.filter(pl.col("v").is_in(candidates.implode()))
    counted = commonest(filled, TOP)
    total = int(values.select(pl.col("v").count()).collect(engine="streaming").item())
    listed = [
        {"value": json_value(value), "count": count, "share": count / total} for value, count in counted.iter_rows()
    ]
    return {"top": listed, "top_method": method}


def commonest(values: pl.LazyFrame, wanted: int) -> pl.DataFrame:
    """The commonest values of the column `v` with their counts (`len`), equal counts in the order of the values."""
    return counts(values).sort(["len", "v"], descending=[True, False]).head(wanted)


def json_value(value: Any) -> Any:
    """A value of a column as a JSON value: moments as texts, what is not finite as null."""
    return _finite(value) if isinstance(value, int | float | str | bool) or value is None else str(value)
