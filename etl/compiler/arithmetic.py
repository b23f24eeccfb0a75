"""Primitives of arithmetic, comparison, dates and text: what functions over columns are made from.

As expr.py says, floats hold NaN and nothing else is missing in them; every other type may be null. What is made from a
null is null, but for a comparison, which is a bool and so never null: as in pandas only `ne` holds for what is missing.
Integers wrap around, as NumPy's do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from etl.compiler.expr import Elementwise, Expr, Type, _Unary
from etl.dtypes import is_float

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
FUNCTIONS = ("abs", "ceil", "cos", "exp", "floor", "log", "rint", "sign", "sin", "sqrt", "tan", "tanh")
DATE_PARTS = (
    "year",
    "quarter",
    "month",
    "day",
    "dayofyear",
    "weekday",
    "hour",
    "minute",
    "second",
    "microsecond",
    "days_in_month",
)
DAY = 86_400_000_000
"""Microseconds of a day."""


def joined(*parts: Expr) -> Type:
    """Return the type of `parts` together: the first one's dtype; a list or nullable if one of them is."""
    lists = [part.type for part in parts if part.type.is_list]
    shape = lists[0] if lists else parts[0].type
    nullable = any(part.type.nullable for part in parts)
    dtype = parts[0].type.dtype
    return replace(shape, dtype=dtype, nullable=nullable and not is_float(dtype))


@dataclass(frozen=True, eq=False)
class Binary(Elementwise):
    """Of two parts of one dtype, either of which may be a Const; base of what follows."""

    x: Expr
    y: Expr

    @cached_property
    def type(self) -> Type:
        """That of both; null where one is."""
        return joined(self.x, self.y)


class Add(Binary):
    """`x` + `y`."""


class Difference(Binary):
    """`x` - `y`; unlike Sub also of what may be null."""


class Mul(Binary):
    """`x` * `y`."""


class FloorDiv(Binary):
    """The largest integer <= `x` / `y`; integers, `y` a Const that is not 0."""


class Mod(Binary):
    """`x` - y * FloorDiv: has the sign of `y`; integers, `y` a Const that is not 0."""


class Pow(Binary):
    """`x` to the power `y`; floats."""


class And(Binary):
    """Both of two bools."""


class Or(Binary):
    """One of two bools."""


@dataclass(frozen=True, eq=False)
class Not(_Unary):
    """The other of a bool."""


@dataclass(frozen=True, eq=False)
class Compare(Elementwise):
    """`x` `op` `y` of one dtype, `op` one of COMPARISONS; a bool. With something missing only `ne` holds."""

    op: str
    x: Expr
    y: Expr

    @cached_property
    def type(self) -> Type:
        """bool."""
        return replace(joined(self.x, self.y), dtype="bool", nullable=False)


@dataclass(frozen=True, eq=False)
class Where(Elementwise):
    """`x` where the bool `condition` holds, else `y`; both of one dtype."""

    condition: Expr
    x: Expr
    y: Expr

    @cached_property
    def type(self) -> Type:
        """That of both; null if one may be."""
        shape = joined(self.x, self.y, self.condition)
        return replace(shape, nullable=(self.x.type.nullable or self.y.type.nullable) and not is_float(shape.dtype))


@dataclass(frozen=True, eq=False)
class Function(_Unary):
    """The function `name` (one of FUNCTIONS) of a float; `abs` and `sign` also of integers. `rint` rounds to even."""

    name: str


@dataclass(frozen=True, eq=False)
class Truncate(_Unary):
    """A float without its fraction, as the signed integer type `dtype`; null where that cannot hold it."""

    dtype: str

    @cached_property
    def type(self) -> Type:
        """The integer type, nullable."""
        return replace(self.x.type, dtype=self.dtype, nullable=True)


@dataclass(frozen=True, eq=False)
class Wrap(_Unary):
    """An integer or bool as the integer type `dtype`, of which it keeps the low bits."""

    dtype: str

    @cached_property
    def type(self) -> Type:
        """The integer type."""
        return replace(self.x.type, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class Microseconds(_Unary):
    """A datetime as microseconds since 1970, int64."""

    @cached_property
    def type(self) -> Type:
        """int64."""
        return replace(self.x.type, dtype="int64")


@dataclass(frozen=True, eq=False)
class Moment(_Unary):
    """Microseconds since 1970 (int64) as a datetime."""

    @cached_property
    def type(self) -> Type:
        """datetime."""
        return replace(self.x.type, dtype="datetime")


@dataclass(frozen=True, eq=False)
class DatePart(_Unary):
    """The `part` (one of DATE_PARTS) of a datetime in the proleptic Gregorian calendar, int32; Monday is weekday 0."""

    part: str

    @cached_property
    def type(self) -> Type:
        """int32."""
        return replace(self.x.type, dtype="int32")


@dataclass(frozen=True, eq=False)
class Text(_Unary):
    """The function `name` of a string with `arguments`: see targets/polars_arithmetic.py. Only batch has it."""

    name: str
    arguments: tuple[str | int | bool | None, ...]
    dtype: str

    @cached_property
    def type(self) -> Type:
        """`dtype`; a bool is false where the string is null."""
        return replace(self.x.type, dtype=self.dtype, nullable=self.x.type.nullable and self.dtype != "bool")


@dataclass(frozen=True, eq=False)
class Null(Elementwise):
    """Null in every row, of a type that is not a float; has no rows of its own."""

    dtype: str

    @property
    def type(self) -> Type:
        """A scalar that is null."""
        return Type(self.dtype, nullable=True)


@dataclass(frozen=True, eq=False)
class Python(Expr):
    """What a Python function makes of the column `x` and a pandas frame of `columns`. Only batch has it.

    It may look at other rows, so it is computed over all of them at once.
    """

    x: str
    columns: tuple[tuple[str, Expr], ...]
    key: str
    dtype: str
    is_local = False

    @property
    def parts(self) -> tuple[Expr, ...]:
        """The columns of the frame."""
        return tuple(expr for _, expr in self.columns)

    @cached_property
    def type(self) -> Type:
        """`dtype`, nullable unless a float."""
        return Type(self.dtype, nullable=not is_float(self.dtype))
