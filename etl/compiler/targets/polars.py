"""Primitives -> Polars expressions, for batch.

Inside a plan floats hold NaN and never null, as Expr promises; the first thing done to a raw column sees to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from etl.compiler import expr as e
from etl.compiler.lowering import lower
from etl.compiler.murmur import hash_series
from etl.compiler.registry import Registry
from etl.dtypes import dtype as dtype_named
from etl.dtypes import from_polars, is_float, spelled
from etl.errors import CompileError, SchemaError
from etl.graph import Column, FeatureGraph, Ref

RULES: Registry[Callable[..., pl.Expr]] = Registry("primitive")


@dataclass(frozen=True)
class PolarsPlan:
    """A graph as Polars expressions by feature name, over the raw columns `inputs`."""

    inputs: tuple[Column, ...]
    exprs: Mapping[str, pl.Expr]

    def apply(self, frame: pl.LazyFrame, keep: Sequence[str] = ()) -> pl.LazyFrame:
        """Return the features of `frame`, in its row order, after the raw columns `keep`.

        Columns that the plan does not read are ignored. SchemaError lists every column that is missing or mistyped.
        """
        check(frame.collect_schema(), self.inputs)
        if not self.exprs:
            return frame.select(keep)
        return frame.select(*keep, **self.exprs)


def compile(graph: FeatureGraph) -> PolarsPlan:
    """Return the plan of a fitted graph; CompileError with every problem."""
    return plan(graph, {ref.column: ref for ref in graph.outputs})


def plan(graph: FeatureGraph, named: Mapping[str, Ref]) -> PolarsPlan:
    """Return the plan of the columns `named` only; what they do not need may be unfitted."""
    lowered, problems = lower(graph, named.values(), "polars")
    if problems:
        raise CompileError(problems)
    memo: dict[e.Expr, pl.Expr] = {}
    exprs = {name: spell(lowered[ref], memo) for name, ref in named.items()}
    read = {expr.name for expr in memo if isinstance(expr, e.Col)}
    return PolarsPlan(tuple(column for column in graph.inputs if column.name in read), exprs)


def check(schema: Mapping[str, pl.DataType], columns: Sequence[Column]) -> None:
    """Raise SchemaError unless `schema` has every one of `columns` with its type."""
    wrong = []
    for column in columns:
        wanted = (column.dtype, column.is_list)
        if column.name not in schema:
            wrong.append(f"{column.name!r} is missing")
        elif not _is_untyped(schema[column.name]) and from_polars(schema[column.name]) != wanted:
            wrong.append(f"{column.name!r} is {schema[column.name]}, not {spelled(*wanted)}")
    if wrong:
        raise SchemaError("; ".join(wrong), hint=f"The data has: {', '.join(schema)}.")


def spell(expr: e.Expr, memo: dict[e.Expr, pl.Expr]) -> pl.Expr:
    """Return the Polars expression of `expr`; each Expr object is spelled once."""
    if expr not in memo:
        if expr.type.is_list and isinstance(expr, e.Elementwise):
            memo[expr] = _spell_elements(expr, memo)
        else:
            memo[expr] = RULES[type(expr)](expr, *(spell(part, memo) for part in expr.parts))
    return memo[expr]


def _spell_elements(expr: e.Expr, memo: dict[e.Expr, pl.Expr]) -> pl.Expr:
    """Spell a tree of elementwise primitives once over the elements of the one list that it starts from."""
    (leaf,) = set(_list_leaves(expr))
    elements: dict[e.Expr, pl.Expr] = {leaf: pl.element()}

    def inside(part: e.Expr) -> pl.Expr:
        if part not in elements:
            elements[part] = RULES[type(part)](part, *(inside(each) for each in part.parts))
        return elements[part]

    return spell(leaf, memo).list.eval(inside(expr))


def _list_leaves(expr: e.Expr) -> list[e.Expr]:
    if not isinstance(expr, e.Elementwise):
        return [expr]
    return [leaf for part in expr.parts if part.type.is_list for leaf in _list_leaves(part)]


def _is_untyped(found: pl.DataType) -> bool:
    """True for a column of nothing but nulls, which Polars gives the type Null."""
    return found == pl.Null or (isinstance(found, pl.List) and found.inner == pl.Null)


def _literal(value: Any, dtype: str) -> pl.Expr:
    return pl.lit(value, dtype=dtype_named(dtype).polars)


@RULES.register(e.Col)
def _col(expr: e.Col) -> pl.Expr:
    inner = dtype_named(expr.of.dtype).polars
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
    return pl.when(x != _literal(null, dtype)).then(x)


@RULES.register(e.Const)
def _const(expr: e.Const) -> pl.Expr:
    return _literal(expr.value, expr.dtype)


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
    return (x + _literal(1, expr.type.dtype)).cast(pl.Float64).log().cast(dtype_named(expr.type.dtype).polars)


@RULES.register(e.Clip)
def _clip(expr: e.Clip, x: pl.Expr) -> pl.Expr:
    dtype = expr.type.dtype
    if expr.low is not None:
        x = pl.when(x < _literal(expr.low, dtype)).then(_literal(expr.low, dtype)).otherwise(x)
    if expr.high is not None:
        above = x > _literal(expr.high, dtype)
        if is_float(dtype):
            above = above & x.is_not_nan()  # to Polars NaN is larger than every number
        x = pl.when(above).then(_literal(expr.high, dtype)).otherwise(x)
    return x


@RULES.register(e.IsNull)
def _is_null(expr: e.IsNull, x: pl.Expr) -> pl.Expr:
    return x.is_nan() if is_float(expr.x.type.dtype) else x.is_null()


@RULES.register(e.FillNull)
def _fill_null(expr: e.FillNull, x: pl.Expr) -> pl.Expr:
    value = _literal(expr.value, expr.type.dtype)
    return x.fill_nan(value) if is_float(expr.type.dtype) else x.fill_null(value)


@RULES.register(e.Hash)
def _hash(expr: e.Hash, x: pl.Expr) -> pl.Expr:
    def bucket(values: pl.Series) -> pl.Series:
        return pl.Series(hash_series(values) % expr.buckets + expr.first, dtype=pl.Int64)

    return x.map_batches(bucket, return_dtype=pl.Int64(), is_elementwise=True)


@RULES.register(e.Lookup)
def _lookup(expr: e.Lookup, x: pl.Expr, unknown: pl.Expr) -> pl.Expr:
    keys = pl.concat([expr.keys, pl.Series(expr.keys.name, [None], dtype=expr.keys.dtype)])
    codes = pl.Series([*expr.codes, expr.null], dtype=pl.Int64)
    x = x.fill_nan(None) if is_float(expr.x.type.dtype) else x
    return x.replace_strict(keys, codes, default=unknown, return_dtype=pl.Int64())


@RULES.register(e.Bucket)
def _bucket(expr: e.Bucket, x: pl.Expr) -> pl.Expr:
    # NaN >= anything holds in Polars, which is what Bucket asks for.
    reached = [(x >= _literal(edge, "float64")).cast(pl.Int32) for edge in expr.boundaries]
    return pl.sum_horizontal(x.is_null().cast(pl.Int32), *reached)


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
