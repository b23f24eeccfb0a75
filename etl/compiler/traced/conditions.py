"""Comparisons and choices in a traced function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from etl.compiler import arithmetic as a
from etl.compiler.expr import Clip, Const, Expr, FillNull, IsNull, Lookup, Refusal
from etl.compiler.traced.values import (
    Fixed,
    Found,
    Span,
    both,
    fixed,
    is_date,
    is_text,
    joint_type,
    number,
    ticks,
    time_kind,
    truth,
)
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float, is_integer


def compare(op: str) -> Callable[[Found, Found], Expr]:
    """Return the rule of a comparison."""

    def rule(x: Found, y: Found) -> Expr:
        if time_kind(x) == "span" or time_kind(y) == "span":
            left, right = ticks(x), ticks(y)
            if left is None or right is None or time_kind(x) != time_kind(y):
                raise Refusal("it compares a time between two with something else.", "Use pd.Timedelta.")
            return a.Compare(op, left, right)
        if is_date(x) or is_date(y):
            return a.Compare(op, _date_ticks(x), _date_ticks(y))
        if is_text(x) or is_text(y):
            if any(isinstance(each, Expr) and not is_text(each) for each in (x, y)):
                raise Refusal("it compares a string with a number.", "Use values of one type.")
            return a.Compare(op, *both(x, y, "string"))
        return a.Compare(op, *both(x, y))

    return rule


def _date_ticks(x: Found) -> Expr:
    if isinstance(x, Fixed):
        return a.Microseconds(fixed(x, "datetime"))
    if not isinstance(x, Expr) or x.type.dtype != "datetime":
        raise Refusal("it compares a datetime with something else.", "Use pd.Timestamp.")
    return a.Microseconds(x)


def xor(x: Found, y: Found) -> Expr:
    """One of two conditions, not both."""
    return a.Compare("ne", truth(x), truth(y))


def is_missing(x: Found) -> Expr:
    """Where a value is missing."""
    if isinstance(x, Span):
        return IsNull(x.x)
    if isinstance(x, Fixed):
        raise Refusal("it asks whether a constant is missing.", "Ask a column.")
    return IsNull(x)


def is_nan(x: Found) -> Expr:
    """Where a number is missing."""
    return IsNull(number(x))


def is_inf(x: Found) -> Expr:
    """Where a number is infinite."""
    x = number(x)
    if not is_float(x.type.dtype):
        return a.And(IsNull(x), a.Not(IsNull(x)))
    return a.Compare("eq", a.Function(x, "abs"), Const(math.inf, x.type.dtype))


def is_in(x: Found, values: list[Any]) -> Expr:
    """Where a value is one of constants."""
    if not isinstance(x, Expr) or not (is_integer(x.type.dtype) or is_float(x.type.dtype) or is_text(x)):
        raise Refusal("isin is of numbers and strings.", "Compare with each value.")
    dtype, known = x.type.dtype, list[Any]()
    if is_float(dtype):
        known = [float(value) for value in values if not isinstance(value, str)]
        known = [value for value in known if dtype == "float64" or float(np.float32(value)) == value]
    elif is_integer(dtype):
        limits = np.iinfo(dtype)
        known = [int(v) for v in values if not isinstance(v, str) and math.isfinite(v) and v == int(v)]
        known = [v for v in known if limits.min <= v <= limits.max and v != dtype_named(dtype).null]
    else:
        known = [value for value in values if isinstance(value, str) and value]
    if any(value != value for value in known) or any(value is None for value in values):
        raise Refusal("isin of a missing value differs between types.", "Use .isna() for it.")
    keys = pl.Series("key", sorted(set(known)), dtype_named(dtype).polars)
    found = Lookup(x, keys, np.ones(keys.len(), np.int64), 0, Const(0, "int64"))
    return a.Compare("eq", found, Const(1, "int64"))


def where(condition: Found, x: Found, y: Found) -> Found:
    """One of two values for each row."""
    if isinstance(x, Span) or isinstance(y, Span):
        left, right = (ticks(each) or a.Null("int64") for each in (x, y))
        return Span(a.Where(truth(condition), left, right))
    return a.Where(truth(condition), *both(x, y, _choice_type(x, y)))


def _choice_type(x: Found, y: Found) -> str:
    """Return the type of two values one of which is taken; two constants have NumPy's own types."""
    columns = [each for each in (x, y) if isinstance(each, Expr)]
    if not columns:
        return _constant_type(x, y)
    dtype = columns[0].type.dtype
    if dtype in ("string", "datetime"):
        if len(columns) == 2 and columns[1].type.dtype != dtype:
            raise Refusal("it puts columns of different types into one.", "Use values of one type.")
        return dtype
    if len(columns) == 2 and columns[1].type.dtype in ("string", "datetime"):
        raise Refusal("it puts columns of different types into one.", "Use values of one type.")
    return joint_type(x, y)


def _constant_type(x: Found, y: Found) -> str:
    values = [each.value for each in (x, y) if isinstance(each, Fixed)]
    if any(isinstance(each, Fixed) and each.time for each in (x, y)):
        return "datetime"
    if any(isinstance(value, str) for value in values):
        return "string"
    if all(isinstance(value, bool) for value in values):
        return "bool"
    return "int64" if all(isinstance(value, int) for value in values) else "float64"


def fill(x: Found, value: Found) -> Found:
    """A value where it is known, else another."""
    if isinstance(x, Span):
        return Span(a.Where(IsNull(x.x), ticks(value) or a.Null("int64"), x.x))
    if not isinstance(x, Expr):
        raise Refusal("it fills a constant.", "Fill a column.")
    dtype = x.type.dtype
    if isinstance(value, Expr) or dtype in ("bool", "datetime"):
        return a.Where(IsNull(x), *both(value, x, dtype)) if dtype != "bool" else x
    found = fixed(value if isinstance(value, Fixed) else Fixed(None), dtype)
    whole = not is_integer(dtype) or (isinstance(value, Fixed) and float(value.value or 0).is_integer())
    if not isinstance(found, Const) or not whole:
        raise Refusal(f"it fills {dtype} with a value of another type.", "Fill with a value of the column's own type.")
    return FillNull(x, found.value)


def clip(x: Found, low: float | None, high: float | None) -> Expr:
    """A number between two bounds."""
    x = number(x)
    if is_integer(x.type.dtype):
        limits = np.iinfo(x.type.dtype)
        for bound in (low, high):
            if bound is not None and not (float(bound).is_integer() and limits.min <= bound <= limits.max):
                raise Refusal(f"the bound {bound!r} is not a value of {x.type.dtype}.", "Use one that is.")
        return Clip(x, None if low is None else int(low), None if high is None else int(high))
    if x.type.dtype == "bool":
        raise Refusal("it clips booleans.", "Take it of .astype('int64').")
    return x if low is None and high is None else Clip(x, low, high)


def extreme(op: str) -> Callable[[Found, Found], Expr]:
    """Return the rule of the smaller ("lt") or larger ("gt") of two numbers; what is missing stays so."""

    def rule(x: Found, y: Found) -> Expr:
        x, y = both(x, y)
        return a.Where(a.Or(a.Compare(op, x, y), IsNull(x)), x, y)  # what is missing stays so

    return rule
