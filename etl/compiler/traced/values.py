"""The values of a traced function while it is lowered: columns, spans of time and constants, and their types.

A span is the time between two datetimes: an int64 of microseconds while it is computed with.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from etl.compiler import arithmetic as a
from etl.compiler.expr import Cast, Const, Expr, Refusal, Scalar
from etl.compiler.lowering.promotion import float_of, kind, of_columns, with_constant
from etl.dtypes import is_float

_EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Span:
    """Microseconds between two points in time, an int64 that may be null."""

    x: Expr


@dataclass(frozen=True)
class Fixed:
    """A constant: of no type yet, or a moment or a span in microseconds."""

    value: Scalar | None
    time: str = ""


Found = Expr | Span | Fixed


def fixed(value: Fixed, dtype: str) -> Expr:
    """Return a constant as a column's type."""
    found = value.value
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return Const(math.nan, dtype) if is_float(dtype) else a.Null(dtype)
    if dtype == "datetime":
        return a.Moment(Const(moment(value), "int64"))
    if dtype == "string":
        if not isinstance(found, str):
            raise Refusal(f"it puts {found!r} and strings together.", "Use values of one type.")
        return Const(found, "string")
    if isinstance(found, str) or value.time:
        raise Refusal(f"it computes {dtype} with {found!r}.", "Use values of one type.")
    if is_float(dtype):
        return Const(float(found), dtype)
    if dtype == "bool":
        return Const(bool(found), "bool")
    return Const(int(found), dtype)


def moment(value: Fixed) -> int:
    """Return a constant point in time in microseconds."""
    if value.time == "moment":
        return int(value.value or 0)
    try:
        made = datetime.datetime.fromisoformat(str(value.value))
        return (made - _EPOCH) // datetime.timedelta(microseconds=1)
    except (TypeError, ValueError):
        raise Refusal(f"it compares a datetime with {value.value!r}.", "Use pd.Timestamp(...).") from None


def cast(x: Expr, dtype: str) -> Expr:
    """Return a number as another type of numbers."""
    if x.type.dtype == dtype:
        return x
    if is_float(dtype) or x.type.dtype == "bool":
        return Cast(x, dtype)
    return a.Wrap(x, dtype)


def number(x: Found) -> Expr:
    """Return a column of numbers; Refusal for anything else."""
    if not isinstance(x, Expr):
        raise Refusal("it computes with constants, or a time between two, alone.", "Compute with a column.")
    kind(x.type.dtype)
    return x


def joint_type(x: Found, y: Found) -> str:
    """Return the type of two numbers, one of which is a column."""
    if isinstance(x, Fixed):
        x, y = y, x
    if isinstance(x, Span) or isinstance(y, Span):
        raise Refusal("it computes a time between two with a number.", "Take .dt.total_seconds() first.")
    if not isinstance(x, Expr):
        raise Refusal("it computes with constants only.", "Compute with a column.")
    if isinstance(y, Expr):
        return of_columns(x.type.dtype, y.type.dtype)
    if y.value is None:
        return float_of(x.type.dtype) if kind(x.type.dtype) == 2 else "float64"
    if isinstance(y.value, str) or y.time:
        raise Refusal(f"it computes {x.type.dtype} with {y.value!r}.", "Use values of one type.")
    return with_constant(x.type.dtype, y.value)


def as_type(x: Found, dtype: str) -> Expr:
    """Return a column or a constant as a type."""
    if isinstance(x, Fixed):
        return fixed(x, dtype)
    if isinstance(x, Span):
        raise Refusal("it computes a time between two with a number.", "Take .dt.total_seconds() first.")
    return cast(x, dtype)


def both(x: Found, y: Found, dtype: str | None = None) -> tuple[Expr, Expr]:
    """Return two values as the type that they have together."""
    dtype = joint_type(x, y) if dtype is None else dtype
    return as_type(x, dtype), as_type(y, dtype)


def is_date(x: Found) -> bool:
    """True for a column of datetimes."""
    return isinstance(x, Expr) and x.type.dtype == "datetime"


def is_text(x: Found) -> bool:
    """True for a column of strings."""
    return isinstance(x, Expr) and x.type.dtype == "string"


def ticks(x: Found) -> Expr | None:
    """Return a datetime, a span or a constant time as microseconds; None for anything else."""
    if isinstance(x, Span):
        return x.x
    if isinstance(x, Fixed):
        return Const(int(x.value or 0), "int64") if x.time else None
    return a.Microseconds(x) if x.type.dtype == "datetime" else None


def time_kind(x: Found) -> str:
    """Return "moment", "span", or "" for what is neither."""
    if isinstance(x, Span):
        return "span"
    return x.time if isinstance(x, Fixed) else "moment" if is_date(x) else ""


def truth(x: Found) -> Expr:
    """Return a condition; Refusal for anything else."""
    if not isinstance(x, Expr) or x.type.dtype != "bool":
        raise Refusal("&, |, ^, ~ and conditions are of booleans.", "Compare first: (x > 0) & (y > 0).")
    return x
