"""What a dataset looks like, as JSON for the report."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from etl.dtypes import is_float, is_integer
from etl.sources.dataset import DataColumn, Dataset
from etl.sources.split import Splits

EXACT = 5_000_000
"""Up to so many rows distinct values are counted exactly, above it by HyperLogLog (about 1 % off)."""
SAMPLE = 1_000_000
"""Quantiles and histograms come from at most so many rows, taken evenly."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 30
TOP = 10


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return {name, rows, facts, columns: [...], label: {rate, by_day} or None}; all values are JSON values.

    Each column has name, dtype, list, role, rows, nulls, distinct and, by its type, min, mean, max, quantiles and
    histogram, top values with counts, or the lengths of its lists.
    """
    columns = [_column(dataset, column) for column in dataset.columns]
    return {
        "name": dataset.name,
        "rows": dataset.rows,
        "facts": dict(dataset.facts),
        "columns": columns,
        "label": _label(dataset) if dataset.label and dataset.rows else None,
    }


def cold_start(splits: Splits) -> dict[str, dict[str, float]]:
    """Per role (user, item) and split (valid, test): the share of rows whose id does not occur in train. Null ids do
    not count.
    """
    found: dict[str, dict[str, float]] = {}
    for role in ("user", "item"):
        name = splits.train.only(role)
        if name is None:
            continue
        known = splits.train.scan().select(name).unique()
        found[role] = {
            part: _unknown_share(dataset, known, name) for part, dataset in splits.parts.items() if part != "train"
        }
    return found


def _unknown_share(dataset: Dataset, known: pl.LazyFrame, name: str) -> float:
    ids = dataset.scan().select(name).drop_nulls()
    new = ids.join(known, on=name, how="anti").select(pl.len()).collect(engine="streaming").item()
    total = ids.select(pl.len()).collect(engine="streaming").item()
    return float(new / total) if total else 0.0


def _column(dataset: Dataset, column: DataColumn) -> dict[str, Any]:
    rows = dataset.scan().select(pl.col(column.name).alias("v"))
    values = rows.drop_nulls().select(pl.col("v").explode(empty_as_null=False)) if column.is_list else rows
    distinct = pl.col("v").n_unique() if dataset.rows <= EXACT else pl.col("v").approx_n_unique()
    nulls = rows.select(pl.col("v").null_count()).collect(engine="streaming").item()
    found = {
        "name": column.name,
        "dtype": column.dtype,
        "list": column.is_list,
        "role": column.role,
        "rows": dataset.rows,
        "nulls": int(nulls),
        "distinct": int(values.drop_nulls().select(distinct).collect(engine="streaming").item()),
    }
    if column.is_list:
        found["lengths"] = _numbers(rows.select(pl.col("v").list.len().cast(pl.Float64)), dataset.rows)
    if is_float(column.dtype) or is_integer(column.dtype) or column.dtype == "datetime":
        is_id = column.role in ("user", "item", "categorical", "tags")
        found |= {} if is_id else _numbers(values, dataset.rows, column.dtype == "datetime")
    if column.role != "timestamp" and not is_float(column.dtype):
        found["top"] = _top(values)
    return found


def _numbers(values: pl.LazyFrame, rows: int, is_time: bool = False) -> dict[str, Any]:
    number = pl.col("v").to_physical().cast(pl.Float64)
    finite = values.select(number).filter(pl.col("v").is_finite())
    limits = finite.select(
        pl.min("v").alias("min"), pl.mean("v").alias("mean"), pl.max("v").alias("max"), pl.std("v").alias("std")
    )
    summary = limits.collect(engine="streaming").row(0, named=True)
    if summary["min"] is None:
        return {"min": None, "mean": None, "max": None, "std": None, "quantiles": {}, "histogram": None}
    sample = finite.gather_every(max(1, rows // SAMPLE)).collect(engine="streaming")["v"].to_numpy()
    counts, edges = np.histogram(sample, bins=BINS)
    shown = _moment if is_time else float
    return {
        **{
            key: None if value is None else shown(value)
            for key, value in summary.items()
            if not (is_time and key == "std")
        },
        "quantiles": {f"{q:g}": shown(float(np.quantile(sample, q))) for q in QUANTILES},
        "histogram": {"edges": [shown(float(edge)) for edge in edges], "counts": counts.tolist()},
    }


def _moment(microseconds: float) -> str:
    return str(pl.Series([int(microseconds)]).cast(pl.Datetime("us"))[0].isoformat(sep=" ", timespec="seconds"))


def _top(values: pl.LazyFrame) -> list[dict[str, Any]]:
    counted = values.drop_nulls().group_by("v").len().sort(["len", "v"], descending=[True, False]).head(TOP)
    return [{"value": _json(value), "count": count} for value, count in counted.collect(engine="streaming").iter_rows()]


def _json(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _label(dataset: Dataset) -> dict[str, Any]:
    label, time = dataset.label or "", dataset.only("timestamp")
    rate = dataset.scan().select(pl.col(label).cast(pl.Float64).mean()).collect(engine="streaming").item()
    by_day: list[dict[str, Any]] = []
    if time and any(column.name == time and column.dtype == "datetime" for column in dataset.columns):
        days = dataset.scan().group_by(pl.col(time).dt.date().alias("day"))
        counted = days.agg(pl.len().alias("rows"), pl.col(label).cast(pl.Float64).mean().alias("rate")).sort("day")
        by_day = [
            {"day": str(day), "rows": rows, "rate": share}
            for day, rows, share in counted.drop_nulls("day").collect(engine="streaming").iter_rows()
        ]
    return {"column": label, "rate": None if rate is None else float(rate), "by_day": by_day}
