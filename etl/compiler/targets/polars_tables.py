"""What the primitives of tables.py become in Polars."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.compiler import tables as t
from etl.compiler.murmur import hash_series
from etl.compiler.targets.polars_rules import RULES
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float
from etl.errors import CompileError


@RULES.register(t.HashCode)
def _hash_code(expr: t.HashCode, x: pl.Expr) -> pl.Expr:
    kind = expr.x.type.dtype
    null = dtype_named(kind).null

    def hashed(values: pl.Series) -> pl.Series:
        if is_float(kind):
            numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
            values = pl.Series(np.where(np.isnan(numbers), np.nan, numbers + 0.0))  # one NaN, and no -0.0
        elif kind == "bool":
            values = values.fill_null(False)
        else:
            values = values.to_physical().fill_null(0 if null is None else null)
        return pl.Series(hash_series(values), dtype=pl.Int64)

    return x.map_batches(hashed, return_dtype=pl.Int64(), is_elementwise=True)


@RULES.register(t.Take)
def _take(expr: t.Take, x: pl.Expr) -> pl.Expr:
    values = expr.values
    if is_float(expr.type.dtype):
        values = values.fill_null(float("nan"))

    def taken(rows: pl.Series) -> pl.Series:
        return values.gather(rows).alias(rows.name)

    return x.map_batches(taken, return_dtype=values.dtype, is_elementwise=True)


@RULES.register(t.DrawnFold)
def _drawn_fold(expr: t.DrawnFold, x: pl.Expr) -> pl.Expr:
    def drawn(rows: pl.Series) -> pl.Series:
        last = rows.max()
        if last is None:
            return pl.Series([], dtype=pl.Int64)
        draws = _draws(expr.seed, expr.folds, _rounded_up(int(str(last)) + 1))
        return pl.Series(draws[rows.to_numpy()], dtype=pl.Int64)

    return x.map_batches(drawn, return_dtype=pl.Int64(), is_elementwise=True)


def _rounded_up(rows: int) -> int:
    """Return a power of two: the parts of a data set then share a few draws."""
    return 1 << max(10, (rows - 1).bit_length())


@lru_cache(maxsize=4)
def _draws(seed: int, folds: int, rows: int) -> NDArray[np.int64]:
    """Return what NVTabular draws for the first `rows` rows of a partition; the first of more rows are the same."""
    choices = np.arange(folds, dtype=np.min_scalar_type(folds * 2))
    return np.random.RandomState(seed).choice(choices, rows).astype(np.int64)


@RULES.register(t.NotKnown)
def _not_known(expr: t.NotKnown) -> pl.Expr:
    raise CompileError([expr.problem])


@RULES.register(t.RowDot)
def _row_dot(expr: t.RowDot, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    def dot(pair: pl.Series) -> pl.Series:
        rows = pair.struct.unnest()
        return pl.Series(_dots(expr.left, expr.right, rows["x"].to_numpy(), rows["y"].to_numpy()), dtype=pl.Float64)

    return pl.struct(x=x, y=y).map_batches(dot, return_dtype=pl.Float64(), is_elementwise=True)


def _dots(left: t.Matrix, right: t.Matrix, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the inner products of rows; each is added up in the order of the columns."""
    known = (x < left.height) & (y < right.height)
    a, b = np.where(known, x, 0), np.where(known, y, 0)
    lengths = np.where(known, left.offsets[a + 1] - left.offsets[a], 0) if known.any() else np.zeros(len(x), np.int64)
    pair = np.repeat(np.arange(len(x)), lengths)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    place = left.offsets[a[pair]] + inside
    span = int(max(left.columns.max(initial=0), right.columns.max(initial=0))) + 1
    keys = np.repeat(np.arange(right.height), np.diff(right.offsets)) * span + right.columns  # ascending
    wanted = b[pair] * span + left.columns[place]
    found = np.searchsorted(keys, wanted)
    hit = found < len(keys)
    hit[hit] = keys[found[hit]] == wanted[hit]
    products = left.values[place[hit]] * right.values[found[hit]]
    return np.where(known, np.bincount(pair[hit], products, minlength=len(x)), np.nan)
