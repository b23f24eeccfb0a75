"""Arithmetic and functions of numbers in a traced function, with NumPy's types."""

from __future__ import annotations

import math
from collections.abc import Callable

from etl.compiler import arithmetic as a
from etl.compiler.expr import Cast, Const, Div, Expr, Refusal
from etl.compiler.lowering.promotion import float_of, with_constant
from etl.compiler.traced.values import Fixed, Found, Span, both, cast, is_text, joint_type, number, ticks, time_kind
from etl.dtypes import DTYPES, is_float, is_integer


def add(x: Found, y: Found) -> Found:
    """A sum; of booleans, as in NumPy, `or`."""
    if is_text(x) or is_text(y):
        return _join_text(x, y)
    kinds = {time_kind(x), time_kind(y)} - {""}
    if kinds:
        return _shift_time(a.Add, x, y, moment="moment" in kinds)
    x, y = both(x, y)
    return a.Or(x, y) if x.type.dtype == "bool" else a.Add(x, y)


def sub(x: Found, y: Found) -> Found:
    """A difference."""
    if time_kind(x) or time_kind(y):
        return _shift_time(a.Difference, x, y, moment=time_kind(x) == "moment" and time_kind(y) == "span")
    x, y = both(x, y)
    if x.type.dtype == "bool":
        raise Refusal("NumPy does not subtract booleans.", "Use ^, or .astype('int64') first.")
    return a.Difference(x, y)


def _shift_time(operation: type[a.Binary], x: Found, y: Found, moment: bool) -> Found:
    left, right = ticks(x), ticks(y)
    both_moments = time_kind(x) == time_kind(y) == "moment"
    wrong = (both_moments and operation is a.Add) or (
        (time_kind(x), time_kind(y)) == ("span", "moment") and (operation is a.Difference)
    )
    if left is None or right is None or wrong:
        raise Refusal("it computes with a datetime and a number.", "Use pd.Timestamp and pd.Timedelta.")
    made = operation(left, right)
    return a.Moment(made) if moment else Span(made)


def _join_text(x: Found, y: Found) -> Expr:
    for column, other, before in ((x, y, False), (y, x, True)):
        if isinstance(column, Expr) and isinstance(other, Fixed) and isinstance(other.value, str):
            arguments = (other.value, "") if before else ("", other.value)
            return a.Text(column, "concat", arguments, "string")
    raise Refusal("it joins two columns of text.", "Join them before the features.")


def mul(x: Found, y: Found) -> Expr:
    """A product; of booleans, as in NumPy, `and`."""
    x, y = both(x, y)
    return a.And(x, y) if x.type.dtype == "bool" else a.Mul(x, y)


def div(x: Found, y: Found) -> Expr:
    """A quotient, always a float."""
    if time_kind(x) == time_kind(y) == "span":
        return Div(*(Cast(part, "float64") for part in (ticks(x), ticks(y)) if part is not None))
    dtype = joint_type(x, y)
    x, y = both(x, y, dtype if is_float(dtype) else "float64")
    return Div(x, y)


def whole_division(operation: type[a.Binary], instead: str) -> Callable[[Found, Found], Expr]:
    """Return the rule of // or % by a constant."""

    def rule(x: Found, y: Found) -> Expr:
        x = number(x)
        by = y.value if isinstance(y, Fixed) else None
        whole = isinstance(by, int) and not isinstance(by, bool) and by != 0
        if not whole or not is_integer(x.type.dtype) or not isinstance(by, int):
            raise Refusal("// and % are of integers by a constant that is not 0.", instead)
        dtype = with_constant(x.type.dtype, by)
        if dtype == "uint64" or is_float(dtype):
            raise Refusal("// and % of uint64 are not computed.", instead)
        return operation(cast(x, dtype), Const(by, dtype))

    return rule


def pow(x: Found, y: Found) -> Expr:
    """A power; of an integer by repeated products."""
    if isinstance(x, Expr) and isinstance(y, Fixed) and isinstance(y.value, int) and is_integer(x.type.dtype):
        if not 1 <= y.value <= 16:
            raise Refusal("an integer to this power is not computed.", 'Take it of .astype("float64").')
        dtype = with_constant(x.type.dtype, y.value)
        base = made = cast(x, dtype)
        for _ in range(int(y.value) - 1):
            made = a.Mul(made, base)
        return made
    dtype = joint_type(x, y)
    if not is_float(dtype):
        raise Refusal("an integer to the power of a column is not computed.", 'Take it of .astype("float64").')
    return a.Pow(*both(x, y, dtype))


def neg(x: Found) -> Found:
    """The negative."""
    if isinstance(x, Span):
        return Span(a.Mul(x.x, Const(-1, "int64")))
    x = number(x)
    if x.type.dtype == "bool" or x.type.dtype.startswith("uint"):
        raise Refusal(f"it negates {x.type.dtype}.", 'Take it of .astype("int64"), or use ~.')
    return a.Mul(x, Const(-1 if is_integer(x.type.dtype) else -1.0, x.type.dtype))


def function(name: str) -> Callable[[Found], Expr]:
    """Return the rule of a function of floats."""

    def rule(x: Found) -> Expr:
        x = number(x)
        return a.Function(cast(x, float_of(x.type.dtype)), name)

    return rule


def of_any_number(name: str) -> Callable[[Found], Found]:
    """A function that keeps integers as they are: abs and sign compute, floor, ceil and rint need not."""

    def rule(x: Found) -> Found:
        if isinstance(x, Span) and name == "abs":
            return Span(a.Function(x.x, "abs"))
        x = number(x)
        dtype = x.type.dtype
        if is_float(dtype):
            return a.Function(x, name)
        if dtype == "bool" and name == "sign":
            raise Refusal("NumPy has no sign of booleans.", "Leave it out.")
        if name in ("abs", "sign") and not dtype.startswith("uint") and dtype != "bool":
            return a.Function(x, name)
        if name == "sign":
            return a.Where(a.Compare("gt", x, Const(0, dtype)), Const(1, dtype), x)
        return x if name == "abs" else cast(x, float_of(dtype))

    return rule


def log1p(x: Found) -> Expr:
    """W. Kahan's log(1 + x): exact also where 1 + x is 1."""
    x = number(x)
    dtype = float_of(x.type.dtype)
    wide = cast(cast(x, dtype), "float64")
    one = Const(1.0, "float64")
    above = a.Add(wide, one)
    scaled = a.Mul(a.Function(above, "log"), Div(wide, a.Difference(above, one)))
    plain = a.Or(a.Compare("eq", above, one), a.Compare("eq", wide, Const(math.inf, "float64")))
    return cast(a.Where(plain, wide, scaled), dtype)


def expm1(x: Found) -> Expr:
    """W. Kahan's exp(x) - 1: exact also where exp(x) is 1."""
    x = number(x)
    dtype = float_of(x.type.dtype)
    wide = cast(cast(x, dtype), "float64")
    one = Const(1.0, "float64")
    power = a.Function(wide, "exp")
    less = a.Difference(power, one)
    scaled = Div(a.Mul(less, wide), a.Function(power, "log"))
    plain = a.Or(a.Compare("gt", power, Const(1e300, "float64")), a.Compare("eq", less, Const(-1.0, "float64")))
    return cast(a.Where(a.Compare("eq", power, one), wide, a.Where(plain, less, scaled)), dtype)


def log_of(base: float) -> Callable[[Found], Expr]:
    """Return the rule of the logarithm to a base."""

    def rule(x: Found) -> Expr:
        x = number(x)
        dtype = float_of(x.type.dtype)
        wide = a.Function(cast(cast(x, dtype), "float64"), "log")
        return cast(Div(wide, Const(math.log(base), "float64")), dtype)

    return rule


def square(x: Found) -> Expr:
    """The square."""
    x = number(x)
    return a.Mul(x, x)


def round(x: Found, decimals: int) -> Expr:
    """Rounded to even at so many decimals."""
    x = number(x)
    if not is_float(x.type.dtype):
        if decimals < 0:
            raise Refusal("it rounds integers to tens.", 'Take it of .astype("float64").')
        return x
    if decimals == 0:
        return a.Function(x, "rint")
    if abs(decimals) > 22:
        raise Refusal(f"it rounds to {decimals} decimals.", "Use 22 at most.")
    power = Const(float(10 ** abs(decimals)), x.type.dtype)
    if decimals > 0:
        return Div(a.Function(a.Mul(x, power), "rint"), power)
    return a.Mul(a.Function(Div(x, power), "rint"), power)


def astype(x: Found, dtype: str) -> Expr:
    """As another type; null stays null."""
    dtype = {"float": "float64", "int": "int64", "str": "string", "object": "string", "boolean": "bool"}.get(
        dtype, dtype
    )
    if not isinstance(x, Expr):
        raise Refusal("it converts a constant or a time between two.", "Take .dt.total_seconds() first.")
    own = x.type.dtype
    if own == dtype:
        return x
    if dtype not in DTYPES or dtype in ("string", "datetime") or own in ("string", "datetime"):
        raise Refusal(f"{own} is not converted to {dtype}.", "Convert the column before the features.")
    if dtype == "bool":
        return a.Compare("ne", x, Const(0.0 if is_float(own) else 0, own))
    if is_float(dtype):
        return Cast(x, dtype)
    if dtype.startswith("uint") and own != "bool":
        if is_float(own) or x.type.nullable:
            raise Refusal(f"{dtype} holds no null.", "Fill the column first, or use a signed type.")
        return a.Wrap(x, dtype)
    return a.Truncate(x, dtype) if is_float(own) else cast(x, dtype)
