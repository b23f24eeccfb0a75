"""Parts of dates and functions of text in a traced function."""

from __future__ import annotations

from typing import Any

from etl.compiler import arithmetic as a
from etl.compiler.expr import Cast, Const, Div, Expr, Refusal
from etl.compiler.traced.values import Found, Span, cast


def date(x: Found, part: str) -> Found:
    """A part of a datetime, or of a span."""
    if part in ("days", "seconds", "total_seconds"):
        return _span_part(x, part)
    if not isinstance(x, Expr) or x.type.dtype != "datetime":
        raise Refusal(f".dt.{part} is of datetimes.", "Store the column as one.")
    if part in a.DATE_PARTS:
        return a.DatePart(x, part)
    steps = {"normalize": a.DAY, "floor_hour": a.DAY // 24, "floor_minute": 60_000_000, "floor_second": 1_000_000}
    if part in steps:
        size = Const(steps[part], "int64")
        return a.Moment(a.Mul(a.FloorDiv(a.Microseconds(x), size), size))
    one = Const(1, "int32")
    if part == "is_month_start":
        return a.Compare("eq", a.DatePart(x, "day"), one)
    if part == "is_month_end":
        return a.Compare("eq", a.DatePart(x, "day"), a.DatePart(x, "days_in_month"))
    if part == "is_leap_year":
        return _is_leap(a.DatePart(x, "year"))
    raise Refusal(f".dt.{part} is not known.", "Compute it before the features.")


def _is_leap(year: Expr) -> Expr:
    def divides(by: int) -> Expr:
        return a.Compare("eq", a.Mod(year, Const(by, "int32")), Const(0, "int32"))

    return a.And(divides(4), a.Or(a.Not(divides(100)), divides(400)))


def _span_part(x: Found, part: str) -> Expr:
    if not isinstance(x, Span):
        raise Refusal(f".dt.{part} is of a time between two datetimes.", "Subtract one from another first.")
    if part == "total_seconds":
        return Div(Cast(x.x, "float64"), Const(1e6, "float64"))
    if part == "days":
        return a.FloorDiv(x.x, Const(a.DAY, "int64"))
    of_day = a.FloorDiv(a.Mod(x.x, Const(a.DAY, "int64")), Const(1_000_000, "int64"))
    return cast(of_day, "int32")


_TEXT_TYPES = {"len": "int64", "startswith": "bool", "endswith": "bool", "contains": "bool"}
_TEXT_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("len", "lower", "upper"), ()),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), (str | None,)),
    **dict.fromkeys(("startswith", "endswith", "contains"), (str,)),
    "slice": (int | None, int | None),
    "replace": (str, str),
}


def text(x: Found, name: str, arguments: list[Any]) -> Expr:
    """A function of a string, which only batch has."""
    if not isinstance(x, Expr) or x.type.dtype != "string":
        raise Refusal(f".str.{name} is of strings.", "Use it on a column of strings.")
    kinds = _TEXT_ARGUMENTS.get(name)
    if kinds is None or len(kinds) != len(arguments):
        raise Refusal(f".str.{name} is not known.", "Compute it before the features.")
    if not all(isinstance(each, kind) for each, kind in zip(arguments, kinds, strict=True)):
        raise Refusal(f".str.{name} does not take {arguments!r}.", "Read the workflow again.")
    return a.Text(x, name, tuple(arguments), _TEXT_TYPES.get(name, "string"))
