"""What each primitive becomes in Polars.

Inside a plan floats hold NaN and never null, as Expr promises; the first thing done to a raw column sees to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from etl.compiler import expr as e
from etl.compiler.murmur import hash_series
from etl.compiler.registry import Registry
from etl.compiler.targets.lookup_table import LookupTable
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float
from etl.names import ROW

RULES: Registry[Callable[..., pl.Expr]] = Registry("primitive")


def literal(value: Any, dtype: str) -> pl.Expr:
    """Return a constant of the type called `dtype`."""
    return pl.lit(value, dtype=dtype_named(dtype).polars)


@RULES.register(e.Col)
def _col(expr: e.Col) -> pl.Expr:
    inner = dtype_named(expr.of.dtype).polars
    if expr.rows:  # made by an operator, so as Exprs promise already
        return pl.col(expr.name)
    if not expr.of.is_list:
        return _without_sentinel(pl.col(expr.name).cast(inner), expr.of.dtype)
    listed = pl.List(inner)
    found = pl.col(expr.name).cast(listed).fill_null(pl.lit([], dtype=listed))
    if is_float(expr.of.dtype) or dtype_named(expr.of.dtype).null is not None:
        found = found.list.eval(_without_sentinel(pl.element(), expr.of.dtype))
    return found


def _without_sentinel(x: pl.Expr, dtype: str) -> pl.Expr:
    """Return x with the value that means null in a request as null (NaN for floats), as serving reads it."""
    null = dtype_named(dtype).null
    if is_float(dtype):
        return x.fill_null(float("nan"))
    if null is None or dtype == "datetime":
        return x
    return pl.when(x != literal(null, dtype)).then(x)


@RULES.register(e.Const)
def _const(expr: e.Const) -> pl.Expr:
    return literal(expr.value, expr.dtype)


@RULES.register(e.Cast)
def _cast(expr: e.Cast, x: pl.Expr) -> pl.Expr:
    cast = x.cast(dtype_named(expr.dtype).polars)
    return cast.fill_null(float("nan")) if is_float(expr.dtype) and expr.x.type.nullable else cast


@RULES.register(e.Sub)
def _sub(expr: e.Sub, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x - y


@RULES.register(e.Div)
def _div(expr: e.Div, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x / y


@RULES.register(e.Log1p)
def _log1p(expr: e.Log1p, x: pl.Expr) -> pl.Expr:
    # Polars' own float32 logarithm is off by more than one unit of rounding now and then.
    return (x + literal(1, expr.type.dtype)).cast(pl.Float64).log().cast(dtype_named(expr.type.dtype).polars)


@RULES.register(e.Clip)
def _clip(expr: e.Clip, x: pl.Expr) -> pl.Expr:
    dtype = expr.type.dtype
    if expr.low is not None:
        x = pl.when(x < literal(expr.low, dtype)).then(literal(expr.low, dtype)).otherwise(x)
    if expr.high is not None:
        above = x > literal(expr.high, dtype)
        if is_float(dtype):
            above = above & x.is_not_nan()  # to Polars NaN is larger than every number
        x = pl.when(above).then(literal(expr.high, dtype)).otherwise(x)
    return x


@RULES.register(e.IsNull)
def _is_null(expr: e.IsNull, x: pl.Expr) -> pl.Expr:
    return x.is_nan() if is_float(expr.x.type.dtype) else x.is_null()


@RULES.register(e.FillNull)
def _fill_null(expr: e.FillNull, x: pl.Expr) -> pl.Expr:
    value = literal(expr.value, expr.type.dtype)
    return x.fill_nan(value) if is_float(expr.type.dtype) else x.fill_null(value)


@RULES.register(e.Hash)
def _hash(expr: e.Hash, x: pl.Expr) -> pl.Expr:
    def bucket(values: pl.Series) -> pl.Series:
        return pl.Series(hash_series(values) % expr.buckets + expr.first, dtype=pl.Int64)

    return x.map_batches(bucket, return_dtype=pl.Int64(), is_elementwise=True)


@RULES.register(e.Lookup)
def _lookup(expr: e.Lookup, x: pl.Expr, unknown: pl.Expr) -> pl.Expr:
    known = int(expr.unknown.value) if isinstance(expr.unknown, e.Const) else None
    table = LookupTable(expr.keys, expr.codes, expr.null, known)
    codes = x.map_batches(table, return_dtype=pl.Int64(), is_elementwise=True)
    return codes if known is not None else codes.fill_null(unknown)


def _lookup_gpu(expr: e.Lookup, x: pl.Expr, unknown: pl.Expr) -> pl.Expr:
    keys = pl.concat([expr.keys, pl.Series(expr.keys.name, [None], dtype=expr.keys.dtype)])
    codes = pl.Series([*expr.codes, expr.null], dtype=pl.Int64)
    x = x.fill_nan(None) if is_float(expr.x.type.dtype) else x
    return x.replace_strict(keys, codes, default=unknown, return_dtype=pl.Int64())


@RULES.register(e.Bucket)
def _bucket(expr: e.Bucket, x: pl.Expr) -> pl.Expr:
    if len(expr.boundaries) <= _FEW:
        return _bucket_gpu(expr, x)
    edges = np.array(expr.boundaries)

    def reached(values: pl.Series) -> pl.Series:
        # NaN is sorted after every number, which is what Bucket asks for.
        return pl.Series(edges.searchsorted(values.to_numpy(), side="right").astype(np.int32))

    return x.map_batches(reached, return_dtype=pl.Int32(), is_elementwise=True)


def _bucket_gpu(expr: e.Bucket, x: pl.Expr) -> pl.Expr:
    # NaN >= anything holds in Polars, which is what Bucket asks for.
    reached = [(x >= literal(edge, "float64")).cast(pl.Int32) for edge in expr.boundaries]
    return pl.sum_horizontal(x.is_null().cast(pl.Int32), *reached)


_FEW = 8
"""Boundaries up to which comparing with each is the fastest."""

GPU_RULES: dict[type[e.Expr], Callable[..., pl.Expr]] = {e.Lookup: _lookup_gpu, e.Bucket: _bucket_gpu}


@RULES.register(e.Slice)
def _slice(expr: e.Slice, x: pl.Expr) -> pl.Expr:
    start, end = expr.start, expr.end
    if start >= 0 and (end is None or end >= 0):
        return x.list.slice(start, None if end is None else max(end - start, 0))
    if start < 0 and end is None:
        return x.list.tail(-start)
    length = x.list.len().cast(pl.Int64)
    first, stop = _place(start, length), _place(end, length)
    cut = x.list.slice(first, pl.max_horizontal(stop - first, pl.lit(0, pl.Int64)))
    # Without rows Polars makes it a list of nulls, and drops a cast as needless; joining a typed empty list repairs it.
    return pl.concat_list(cut, pl.lit([], dtype=pl.List(dtype_named(expr.type.dtype).polars)))


def _place(place: int | None, length: pl.Expr) -> pl.Expr:
    """Return where a Python slice's `place` falls in a list of `length`, from 0 to its length."""
    if place is None:
        return length
    if place >= 0:
        return pl.min_horizontal(pl.lit(place, pl.Int64), length)
    return pl.max_horizontal(length + place, pl.lit(0, pl.Int64))


@RULES.register(e.Pad)
def _pad(expr: e.Pad, x: pl.Expr) -> pl.Expr:
    inner = dtype_named(expr.type.dtype).polars
    padding = pl.lit(pl.Series([[expr.value] * expr.length], dtype=pl.List(inner)))
    return pl.concat_list(x, padding).list.head(expr.length)


@RULES.register(e.RowNumber)
def _row_number(expr: e.RowNumber) -> pl.Expr:
    return pl.col(ROW).cast(pl.Int64)


@RULES.register(e.Shift)
def _shift(expr: e.Shift, x: pl.Expr) -> pl.Expr:
    missing = float("nan") if is_float(expr.type.dtype) else None
    return x.shift(expr.by, fill_value=missing)
