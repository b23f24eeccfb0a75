"""Arithmetic, comparisons, dates and text as Polars expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from etl.compiler import arithmetic as a
from etl.compiler import bridge
from etl.compiler.expr import Const, Expr
from etl.compiler.targets.polars_rules import RULES, literal
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float


@RULES.register(a.Add)
def _add(expr: a.Add, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return _without_null(expr, x + y)


@RULES.register(a.Difference)
def _difference(expr: a.Difference, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return _without_null(expr, x - y)


@RULES.register(a.Mul)
def _mul(expr: a.Mul, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return _without_null(expr, x * y)


@RULES.register(a.FloorDiv)
def _floor_div(expr: a.FloorDiv, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x // y


@RULES.register(a.Mod)
def _mod(expr: a.Mod, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x % y


@RULES.register(a.Pow)
def _pow(expr: a.Pow, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return _rounded_once(expr, lambda wide: wide.pow(y.cast(pl.Float64)), x)


@RULES.register(a.And)
def _and(expr: a.And, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x & y


@RULES.register(a.Or)
def _or(expr: a.Or, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x | y


@RULES.register(a.Not)
def _not(expr: a.Not, x: pl.Expr) -> pl.Expr:
    return ~x


_COMPARE: dict[str, Callable[[Any, Any], pl.Expr]] = {
    "eq": lambda x, y: x == y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}


@RULES.register(a.Compare)
def _compare(expr: a.Compare, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    found = _COMPARE["eq" if expr.op == "ne" else expr.op](x, y)
    for part, spelled in ((expr.x, x), (expr.y, y)):
        if is_float(part.type.dtype) and not _is_number(part):
            found = found & spelled.is_not_nan()  # to Polars NaN equals NaN and is larger than every number
    if expr.x.type.nullable or expr.y.type.nullable:
        found = found.fill_null(False)
    return ~found if expr.op == "ne" else found


def _is_number(part: Expr) -> bool:
    return isinstance(part, Const) and part.value == part.value


@RULES.register(a.Where)
def _where(expr: a.Where, condition: pl.Expr, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(x).otherwise(y)


_FUNCTIONS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "abs": lambda x: x.abs(),
    "ceil": lambda x: x.ceil(),
    "cos": lambda x: x.cos(),
    "exp": lambda x: x.exp(),
    "floor": lambda x: x.floor(),
    "log": lambda x: x.log(),
    "rint": lambda x: x.round(0, mode="half_to_even"),
    "sign": lambda x: x.sign(),
    "sin": lambda x: x.sin(),
    "sqrt": lambda x: x.sqrt(),
    "tan": lambda x: x.tan(),
    "tanh": lambda x: x.tanh(),
}


@RULES.register(a.Function)
def _function(expr: a.Function, x: pl.Expr) -> pl.Expr:
    if not is_float(expr.type.dtype):
        return _FUNCTIONS[expr.name](x)
    return _rounded_once(expr, _FUNCTIONS[expr.name], x)


def _rounded_once(expr: Expr, function: Callable[[pl.Expr], pl.Expr], x: pl.Expr) -> pl.Expr:
    """Return the function in float64, rounded to the type of `expr`."""
    if expr.type.dtype == "float64":
        return function(x)
    return function(x.cast(pl.Float64)).cast(dtype_named(expr.type.dtype).polars)


@RULES.register(a.Truncate)
def _truncate(expr: a.Truncate, x: pl.Expr) -> pl.Expr:
    kind = dtype_named(expr.dtype)
    made = x.cast(kind.polars, strict=False)
    return pl.when(made != literal(kind.null, expr.dtype)).then(made)  # the smallest integer means null


@RULES.register(a.Wrap)
def _wrap(expr: a.Wrap, x: pl.Expr) -> pl.Expr:
    return _without_null(expr, x.cast(dtype_named(expr.dtype).polars, wrap_numerical=True))


def _without_null(expr: Expr, made: pl.Expr) -> pl.Expr:
    """Return integers that wrapped around to the value that means null as null."""
    null = dtype_named(expr.type.dtype).null
    if is_float(expr.type.dtype) or null is None or not expr.type.nullable:
        return made
    return pl.when(made != literal(null, expr.type.dtype)).then(made)


@RULES.register(a.Microseconds)
def _microseconds(expr: a.Microseconds, x: pl.Expr) -> pl.Expr:
    return x.cast(pl.Int64)


@RULES.register(a.Moment)
def _moment(expr: a.Moment, x: pl.Expr) -> pl.Expr:
    return x.cast(pl.Datetime("us"))


_DATE_PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": lambda x: x.dt.year(),
    "quarter": lambda x: x.dt.quarter(),
    "month": lambda x: x.dt.month(),
    "day": lambda x: x.dt.day(),
    "dayofyear": lambda x: x.dt.ordinal_day(),
    "weekday": lambda x: x.dt.weekday() - 1,
    "hour": lambda x: x.dt.hour(),
    "minute": lambda x: x.dt.minute(),
    "second": lambda x: x.dt.second(),
    "microsecond": lambda x: x.dt.microsecond(),
    "days_in_month": lambda x: x.dt.days_in_month(),
}


@RULES.register(a.DatePart)
def _date_part(expr: a.DatePart, x: pl.Expr) -> pl.Expr:
    return _DATE_PARTS[expr.part](x).cast(pl.Int32)


_WHITE = " \t\n\r\v\f"
_TEXT: dict[str, Callable[..., pl.Expr]] = {
    "len": lambda x: x.str.len_chars().cast(pl.Int64),
    "lower": lambda x: x.str.to_lowercase(),
    "upper": lambda x: x.str.to_uppercase(),
    "strip": lambda x, characters: x.str.strip_chars(characters),
    "lstrip": lambda x, characters: x.str.strip_chars_start(characters),
    "rstrip": lambda x, characters: x.str.strip_chars_end(characters),
    "startswith": lambda x, prefix: x.str.starts_with(prefix).fill_null(False),
    "endswith": lambda x, suffix: x.str.ends_with(suffix).fill_null(False),
    "contains": lambda x, literal: x.str.contains(literal, literal=True).fill_null(False),
    "replace": lambda x, old, new: x.str.replace_all(old, new, literal=True),
    "concat": lambda x, before, after: pl.concat_str(pl.lit(before), x, pl.lit(after)),
}


@RULES.register(a.Text)
def _text(expr: a.Text, x: pl.Expr) -> pl.Expr:
    if expr.name == "slice":
        return _sliced(x, *expr.arguments)
    made = _TEXT[expr.name](x, *expr.arguments)
    # The empty string means null wherever it comes from.
    return pl.when(made != "").then(made) if expr.dtype == "string" else made


def _sliced(x: pl.Expr, start: Any, stop: Any) -> pl.Expr:
    def cut(values: pl.Series) -> pl.Series:
        kept = [None if value is None else value[start:stop] or None for value in values]
        return pl.Series(values.name, kept, pl.String)

    return x.map_batches(cut, return_dtype=pl.String(), is_elementwise=True)


@RULES.register(a.Null)
def _null(expr: a.Null) -> pl.Expr:
    return pl.lit(None, dtype=dtype_named(expr.dtype).polars)


@RULES.register(a.Python)
def _python(expr: a.Python, *columns: pl.Expr) -> pl.Expr:
    names = [name for name, _ in expr.columns]
    kind = dtype_named(expr.dtype).polars

    def run(parts: Sequence[pl.Series]) -> pl.Series:
        frame = pl.DataFrame([part.alias(name) for name, part in zip(names, parts, strict=True)])
        made = pl.Series(expr.x, bridge.run(expr.key, expr.x, frame), strict=False).cast(kind)
        return made.fill_null(float("nan")) if is_float(expr.dtype) else made

    return pl.map_batches(columns, run, return_dtype=kind)
