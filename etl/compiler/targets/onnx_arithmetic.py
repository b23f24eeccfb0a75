"""Arithmetic, comparisons and dates as ONNX nodes.

ONNX Runtime computes with int32, int64, float and double only: smaller integers are computed as int64 and cut to their
own bits again, which is how NumPy wraps them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from etl.compiler import arithmetic as a
from etl.compiler.expr import Const, Expr, Refusal
from etl.compiler.targets.onnx_builder import Builder
from etl.compiler.targets.onnx_rules import RULES, _labels, _null_of
from etl.compiler.targets.onnx_value import Value, cast, wide
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float

_COMPUTED = ("int32", "int64", "float32", "float64")


def _computed(b: Builder, x: Value) -> Value:
    """Return `x` in a type that ONNX Runtime computes with."""
    return x if x.dtype in _COMPUTED else cast(b, x, "int64")


def _pair(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """Return both in one type; `y` may have been widened and `x` not."""
    x, y = _computed(b, x), _computed(b, y)
    return (x, y) if x.dtype == y.dtype else (cast(b, x, "int64"), cast(b, y, "int64"))


def _is_null(b: Builder, expr: Expr, x: Value) -> str | None:
    """Return where `x` is the value that means null; None where none is."""
    null = _null_of(expr)
    if null is None or isinstance(expr, Const):
        return None
    if x.dtype == "string":
        return b.node("Cast", _labels(b, x, [""], [1], 0), to=dtype_named("bool").onnx)
    return b.node("Equal", x.name, b.constant(null, x.dtype))


def _any_null(b: Builder, *parts: tuple[Expr, Value]) -> str | None:
    found = [null for expr, x in parts if (null := _is_null(b, expr, x)) is not None]
    return b.node("Or", *found) if len(found) == 2 else next(iter(found), None)


def _finish(b: Builder, expr: Expr, made: str, dtype: str, lengths: str | None, null: str | None) -> Value:
    """Return what was computed in `dtype` cut to the expression's own type, and null where `null` holds."""
    own = expr.type.dtype
    if own not in _COMPUTED and own not in ("bool", "datetime"):
        made = cast(b, cast(b, Value(made, dtype), own), dtype).name
    if null is not None:
        made = b.node("Where", null, b.constant(dtype_named(own).null, dtype), made)
    return Value(made, dtype, lengths)


def _binary(op: str) -> Any:
    def rule(b: Builder, expr: a.Binary, x: Value, y: Value) -> Value:
        x, y = _pair(b, x, y)
        null = _any_null(b, (expr.x, x), (expr.y, y))
        return _finish(b, expr, b.node(op, x.name, y.name), x.dtype, x.lengths or y.lengths, null)

    return rule


for _primitive, _op in ((a.Add, "Add"), (a.Difference, "Sub"), (a.Mul, "Mul"), (a.Pow, "Pow")):
    RULES.register(_primitive)(_binary(_op))


@RULES.register(a.FloorDiv)
def _floor_div(b: Builder, expr: a.FloorDiv, x: Value, y: Value) -> Value:
    x, y = _pair(b, x, y)
    null = _any_null(b, (expr.x, x), (expr.y, y))
    # Div goes towards zero: one too high where the remainder has the other sign than the divisor.
    towards_zero = b.node("Div", x.name, y.name)
    rest = b.node("Sub", x.name, b.node("Mul", towards_zero, y.name))
    over = Value(b.node("Not", b.node("Equal", rest, b.node("Mod", x.name, y.name))), "bool")
    made = b.node("Sub", towards_zero, cast(b, over, x.dtype).name)
    return _finish(b, expr, made, x.dtype, x.lengths or y.lengths, null)


@RULES.register(a.Mod)
def _mod(b: Builder, expr: a.Mod, x: Value, y: Value) -> Value:
    x, y = _pair(b, x, y)
    null = _any_null(b, (expr.x, x), (expr.y, y))
    return _finish(b, expr, b.node("Mod", x.name, y.name), x.dtype, x.lengths or y.lengths, null)


@RULES.register(a.And)
def _and(b: Builder, expr: a.And, x: Value, y: Value) -> Value:
    return Value(b.node("And", cast(b, x, "bool").name, cast(b, y, "bool").name), "bool", x.lengths or y.lengths)


@RULES.register(a.Or)
def _or(b: Builder, expr: a.Or, x: Value, y: Value) -> Value:
    return Value(b.node("Or", cast(b, x, "bool").name, cast(b, y, "bool").name), "bool", x.lengths or y.lengths)


@RULES.register(a.Not)
def _not(b: Builder, expr: a.Not, x: Value) -> Value:
    return Value(b.node("Not", cast(b, x, "bool").name), "bool", x.lengths)


_COMPARE = {"eq": "Equal", "ne": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}


@RULES.register(a.Compare)
def _compare(b: Builder, expr: a.Compare, x: Value, y: Value) -> Value:
    lengths = x.lengths or y.lengths
    if x.dtype == "string":
        return Value(_compare_strings(b, expr, x, y), "bool", lengths)
    if expr.x.type.dtype == "bool":  # ONNX has an order of numbers only
        x, y = cast(b, cast(b, x, "bool"), "int32"), cast(b, cast(b, y, "bool"), "int32")
    unsigned = expr.x.type.dtype == "uint64"
    x, y = _pair(b, x, y)
    null = _any_null(b, (expr.x, x), (expr.y, y))
    if unsigned:  # the same order, in what int64 holds
        x, y = (each.named(b.node("Add", each.name, b.constant(-(2**63), "int64"))) for each in (x, y))
    found = b.node(_COMPARE[expr.op], x.name, y.name)
    if null is not None:
        found = b.node("And", found, b.node("Not", null))
    return Value(b.node("Not", found) if expr.op == "ne" else found, "bool", lengths)


def _compare_strings(b: Builder, expr: a.Compare, x: Value, y: Value) -> str:
    column, constant = (expr.x, expr.y) if isinstance(expr.y, Const) else (expr.y, expr.x)
    if expr.op not in ("eq", "ne") or not isinstance(constant, Const) or isinstance(column, Const):
        raise Refusal("ONNX compares a string only with a constant, for equality.", "Compute it in batch.")
    if constant.value == "":  # null, which equals nothing
        found = b.constant([[False]], "bool")
        return b.node("Not", found) if expr.op == "ne" else found
    value = x if column is expr.x else y
    matches = b.node("Cast", _labels(b, value, [constant.value], [1], 0), to=dtype_named("bool").onnx)
    return b.node("Not", matches) if expr.op == "ne" else matches


@RULES.register(a.Where)
def _where(b: Builder, expr: a.Where, condition: Value, x: Value, y: Value) -> Value:
    own = expr.type.dtype
    x, y = wide(b, x), wide(b, y)
    if x.dtype != y.dtype:
        x, y = cast(b, x, "int64"), cast(b, y, "int64")
    made = Value(b.node("Where", cast(b, condition, "bool").name, x.name, y.name), x.dtype)
    lengths = x.lengths or y.lengths or condition.lengths
    return Value((cast(b, made, "bool") if own == "bool" else made).name, "bool" if own == "bool" else x.dtype, lengths)


_FUNCTIONS = {
    "abs": "Abs",
    "ceil": "Ceil",
    "cos": "Cos",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "rint": "Round",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}


@RULES.register(a.Function)
def _function(b: Builder, expr: a.Function, x: Value) -> Value:
    x = _computed(b, x)
    if expr.name in ("cos", "tan") and x.dtype == "float64":
        raise Refusal(f"ONNX Runtime has no {expr.name} of float64.", 'Take it of .astype("float32"), or use np.sin.')
    if expr.name == "sign" and is_float(x.dtype):  # ONNX Runtime's Sign of NaN is not NaN
        made = b.node("Where", b.node("IsNaN", x.name), x.name, b.node("Sign", x.name))
        return x.named(made)
    made = _sign(b, x) if expr.name == "sign" else b.node(_FUNCTIONS[expr.name], x.name)
    return _finish(b, expr, made, x.dtype, x.lengths, _is_null(b, expr.x, x))


def _sign(b: Builder, x: Value) -> str:
    """Return the sign of integers; ONNX Runtime's Sign of int64 has the fault of its Clip (see `clamp`)."""
    zero = b.constant(0, x.dtype)
    above, below = (cast(b, Value(b.node(op, x.name, zero), "bool"), x.dtype) for op in ("Greater", "Less"))
    return b.node("Sub", above.name, below.name)


@RULES.register(a.Truncate)
def _truncate(b: Builder, expr: a.Truncate, x: Value) -> Value:
    limits, null = np.iinfo(expr.dtype), dtype_named(expr.dtype).null
    wider = cast(b, x, "float64")
    # As floats: -2**63 and 2**63 are exact, the largest int64 is not.
    above = b.node("Greater", wider.name, b.constant(float(limits.min), "float64"))
    below = b.node("Less", wider.name, b.constant(float(limits.max) + (expr.dtype != "int64"), "float64"))
    held = b.node("And", above, below)
    safe = wider.named(b.node("Where", held, wider.name, b.constant(0, "float64")))
    made = cast(b, safe, "int64")  # towards zero
    return Value(b.node("Where", held, made.name, b.constant(null, "int64")), "int64", x.lengths)


@RULES.register(a.Wrap)
def _wrap(b: Builder, expr: a.Wrap, x: Value) -> Value:
    null = _is_null(b, expr.x, x)
    made = wide(b, cast(b, x, expr.dtype))
    if null is not None and dtype_named(expr.dtype).null is not None:
        made = made.named(b.node("Where", null, b.constant(dtype_named(expr.dtype).null, made.dtype), made.name))
    return made


@RULES.register(a.Microseconds, a.Moment)
def _same_number(b: Builder, expr: a.Microseconds | a.Moment, x: Value) -> Value:
    return x


@RULES.register(a.Text)
def _text(b: Builder, expr: a.Text, x: Value) -> Value:
    instead = "Compute it in batch and send the result as a raw column, or encode the string as it is (Categorify)."
    raise Refusal(f"ONNX has no str.{expr.name}.", instead)


class _Whole:
    """Integer arithmetic on int64 tensors, so that a formula reads as one."""

    def __init__(self, b: Builder, name: str) -> None:
        self.b, self.name = b, name

    def _node(self, op: str, other: _Whole | int) -> _Whole:
        name = other.name if isinstance(other, _Whole) else self.b.constant(other, "int64")
        return _Whole(self.b, self.b.node(op, self.name, name))

    def __add__(self, other: _Whole | int) -> _Whole:
        return self._node("Add", other)

    def __sub__(self, other: _Whole | int) -> _Whole:
        return self._node("Sub", other)

    def __mul__(self, other: _Whole | int) -> _Whole:
        return self._node("Mul", other)

    def __mod__(self, other: int) -> _Whole:
        return self._node("Mod", other)

    def __floordiv__(self, other: int) -> _Whole:
        return (self - self % other)._node("Div", other)

    def __ge__(self, other: _Whole | int) -> _Whole:
        """1 where self >= other, else 0."""
        name = other.name if isinstance(other, _Whole) else self.b.constant(other, "int64")
        reached = self.b.node("GreaterOrEqual", self.name, name)
        return _Whole(self.b, self.b.node("Cast", reached, to=dtype_named("int64").onnx))


def _civil(days: _Whole) -> tuple[_Whole, _Whole, _Whole]:
    """Return (year, month, day) of days since 1970-01-01.

    H. Hinnant, "chrono-Compatible Low-Level Date Algorithms": eras of 400 years that begin on the first of March.
    """
    shifted = days + 719_468
    era = shifted // 146_097
    of_era = shifted % 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (year * 365 + year // 4 - year // 100)
    month = (of_year * 5 + 2) // 153  # 0 is March
    day = of_year - (month * 153 + 2) // 5 + 1
    after = month >= 10  # January and February belong to the next year
    return year + era * 400 + after, month + 3 - after * 12, day


def _days(year: _Whole, month: int | _Whole, day: int) -> _Whole:
    """Return the days since 1970-01-01 of a date whose month is a number, or 1 .. 13 in a tensor."""
    if isinstance(month, int):
        earlier = year - int(month <= 2)
        of_year: _Whole | int = (153 * (month + (9 if month <= 2 else -3)) + 2) // 5 + day - 1
    else:
        late = month >= 3
        earlier = year - 1 + late
        of_year = ((month + 9 - late * 12) * 153 + 2) // 5 + (day - 1)
    era, of_era = earlier // 400, earlier % 400
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date_formula(part: str, time: _Whole) -> _Whole:
    days = time // a.DAY
    match part:
        case "hour" | "minute" | "second" | "microsecond":
            size, cycle = {
                "hour": (3_600_000_000, 24),
                "minute": (60_000_000, 60),
                "second": (1_000_000, 60),
                "microsecond": (1, 1_000_000),
            }[part]
            return (time % (size * cycle)) // size if size > 1 else time % cycle
        case "weekday":
            return (days + 3) % 7  # 1970-01-01 was a Thursday
    year, month, day = _civil(days)
    match part:
        case "quarter":
            return (month + 2) // 3
        case "dayofyear":
            return days - _days(year, 1, 1) + 1
        case "days_in_month":
            following = month % 12 + 1
            over = month >= 12
            return _days(year + over, following, 1) - _days(year, month, 1)
        case _:
            return {"year": year, "month": month, "day": day}[part]


@RULES.register(a.DatePart)
def _date_part(b: Builder, expr: a.DatePart, x: Value) -> Value:
    null = _is_null(b, expr.x, x)
    made = _date_formula(expr.part, _Whole(b, x.name)).name
    found = cast(b, Value(made, "int64"), "int32").name
    if null is not None:
        found = b.node("Where", null, b.constant(dtype_named("int32").null, "int32"), found)
    return Value(found, "int32", x.lengths)


@RULES.register(a.Null)
def _null(b: Builder, expr: a.Null) -> Value:
    kind = dtype_named(expr.dtype)
    if kind.null is None:
        raise Refusal(f"{expr.dtype} has no null in a response.", "Give it another value where it has none.")
    dtype = "int64" if expr.dtype == "datetime" else expr.dtype
    return Value(b.constant(kind.null, dtype), dtype)


@RULES.register(a.Python)
def _python(b: Builder, expr: a.Python, *columns: Value) -> Value:
    raise Refusal(
        "it is a Python function, which only batch runs.",
        "Write it so that it can be recorded: see etl/reader/trace.py.",
    )
