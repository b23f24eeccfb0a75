"""The primitives: what every operator is lowered to, and what every target spells.

An Expr is one column made from others of the same rows; it never changes which rows there are, so it can be served.
What holds for all of them, in every target:

- **Nulls.** A float has no null, only NaN (as in pandas). Every other type may be null; `Type.nullable` says whether.
  A raw value that equals its type's null in a request (etl/dtypes.py) is null in batch and fit as well.
- **Lists.** A primitive of lists works on their elements; `Slice` and `Pad` work on the list. A null list is empty.
- **Arithmetic** is done in the type of the expression, one rounding for each primitive, in the order written.

Exprs are compared by identity: one object is computed once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from etl.dtypes import is_float

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Type:
    """What a column holds; `length` is the fixed length of a list, None for a ragged one and for scalars."""

    dtype: str
    is_list: bool = False
    length: int | None = None
    nullable: bool = False


class Refusal(Exception):  # noqa: N818 - it is not an error of the program; compile() makes Problems of them
    """Why a column cannot be compiled, and what to do instead."""

    def __init__(self, reason: str, instead: str = "", columns: tuple[str, ...] = ()) -> None:
        self.reason, self.instead, self.columns = reason, instead, columns
        super().__init__(reason)


class Expr(ABC):
    """One column; see the module's docstring."""

    @property
    @abstractmethod
    def type(self) -> Type:
        """What the column holds."""

    is_local: ClassVar[bool] = True
    """False for an Expr that looks at other rows than its own; only batch has those."""

    @property
    def parts(self) -> tuple[Expr, ...]:
        """The Exprs that this one is made from."""
        return tuple(value for value in vars(self).values() if isinstance(value, Expr))

    @cached_property
    def extent(self) -> tuple[int, int]:
        """How many primitives it is when it is written out, without sharing, and how deep they are nested."""
        below = [part.extent for part in self.parts]
        return 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)


MOST_PRIMITIVES = 50_000
"""Of one column, written out: Polars is given a tree, which doubles with every use of the same value twice."""
DEEPEST = 300


def bounded(x: Expr) -> Expr:
    """Return `x`; Refusal for one that no target can be given."""
    size, depth = x.extent
    if size > MOST_PRIMITIVES or depth > DEEPEST:
        reason = f"its column is {size} primitives, {depth} deep; {MOST_PRIMITIVES} and {DEEPEST} are the most."
        raise Refusal(reason, "Write what is computed in between as a file of its own.")
    return x


class Elementwise(Expr):
    """An Expr whose every value (every element of a list) depends on the same place of its parts only."""


@dataclass(frozen=True, eq=False)
class Col(Expr):
    """The raw column `name`; with `rows`, a column that the operator `rows` made when it changed the rows."""

    name: str
    of: Type
    rows: str = ""

    @property
    def type(self) -> Type:
        """As declared; floats are not nullable, for their null is NaN."""
        return replace(self.of, nullable=not is_float(self.of.dtype))


@dataclass(frozen=True, eq=False)
class Const(Elementwise):
    """The same value in every row; has no rows of its own."""

    value: Scalar
    dtype: str

    @property
    def type(self) -> Type:
        """A scalar that is not null."""
        return Type(self.dtype)


@dataclass(frozen=True, eq=False)
class _Unary(Elementwise):
    x: Expr

    @property
    def type(self) -> Type:
        """That of `x`."""
        return self.x.type


@dataclass(frozen=True, eq=False)
class Cast(_Unary):
    """`x` as another type of number; a null integer becomes NaN in a float. Floats are never cast to integers."""

    dtype: str

    @property
    def type(self) -> Type:
        """That of `x` with another dtype."""
        return replace(self.x.type, dtype=self.dtype, nullable=self.x.type.nullable and not is_float(self.dtype))


@dataclass(frozen=True, eq=False)
class Sub(_Unary):
    """`x` - `y`, both of the same dtype and not null."""

    y: Expr


@dataclass(frozen=True, eq=False)
class Div(_Unary):
    """`x` / `y`, floats of the same dtype; x/0 is inf or NaN."""

    y: Expr


@dataclass(frozen=True, eq=False)
class Log1p(_Unary):
    """log(1 + `x`) of a float, the sum rounded to x's type; NaN below -1, -inf at -1."""


@dataclass(frozen=True, eq=False)
class Clip(_Unary):
    """`x` raised to `low`, then lowered to `high` (either may be None); null and NaN stay."""

    low: int | float | None
    high: int | float | None


@dataclass(frozen=True, eq=False)
class IsNull(_Unary):
    """True where `x` is null or NaN."""

    @cached_property
    def type(self) -> Type:
        """bool."""
        return replace(self.x.type, dtype="bool", nullable=False)


@dataclass(frozen=True, eq=False)
class FillNull(_Unary):
    """`x` with `value` where it is null or NaN."""

    value: Scalar

    @cached_property
    def type(self) -> Type:
        """That of `x`, never null."""
        return replace(self.x.type, nullable=False)


@dataclass(frozen=True, eq=False)
class Hash(_Unary):
    """`first` + MurmurHash3_x86_32(`x`, seed 0) mod `buckets`, int64.

    Strings are hashed as UTF-8, every other type as the 8 little-endian bytes of its int64 (floats: of their float64).
    """

    buckets: int
    first: int

    @cached_property
    def type(self) -> Type:
        """int64."""
        return replace(self.x.type, dtype="int64", nullable=False)


@dataclass(frozen=True, eq=False)
class Lookup(_Unary):
    """The code of `x`: `codes[i]` where it equals `keys[i]`, `null` where it is null or NaN, else `unknown`; int64.

    `keys` has the dtype of x, no null and no value twice.
    """

    keys: pl.Series
    codes: np.ndarray[tuple[int], np.dtype[np.int64]]
    null: int
    unknown: Expr

    @cached_property
    def type(self) -> Type:
        """int64."""
        return replace(self.x.type, dtype="int64", nullable=False)


@dataclass(frozen=True, eq=False)
class Bucket(_Unary):
    """How many of the ascending `boundaries` are <= `x` (a float64, not a list), int32; all of them for NaN."""

    boundaries: tuple[float, ...]

    @cached_property
    def type(self) -> Type:
        """int32."""
        return replace(self.x.type, dtype="int32", nullable=False)


@dataclass(frozen=True, eq=False)
class Slice(Expr):
    """`x[start:end]` of each list, as in Python; None for `end` is the end of the list."""

    x: Expr
    start: int
    end: int | None

    @cached_property
    def type(self) -> Type:
        """That of `x`; of fixed length if x is."""
        length = self.x.type.length
        return replace(self.x.type, length=None if length is None else len(range(length)[self.start : self.end]))


@dataclass(frozen=True, eq=False)
class Pad(Expr):
    """The first `length` elements of each list, followed by `value` up to that length."""

    x: Expr
    length: int
    value: Scalar

    @cached_property
    def type(self) -> Type:
        """That of `x`, of fixed length."""
        return replace(self.x.type, length=self.length)


@dataclass(frozen=True, eq=False)
class RowNumber(Expr):
    """The number of the row in its data set, from 0; int64. Only batch has it."""

    @cached_property
    def type(self) -> Type:
        """int64."""
        return Type("int64")


@dataclass(frozen=True, eq=False)
class Shift(Expr):
    """The value of `x` `by` rows before (after, if negative); null (NaN) where there is no such row. Only batch has it.

    It looks at other rows: what has one in it is computed over all rows at once.
    """

    x: Expr
    by: int
    is_local = False

    @cached_property
    def type(self) -> Type:
        """That of `x`, nullable unless a float."""
        return replace(self.x.type, nullable=not is_float(self.x.type.dtype))


@dataclass(frozen=True, eq=False)
class OutOfFold(Expr):
    """`training` where a plan is made for the rows a model is trained on, else `serving`; both of the same type."""

    training: Expr
    serving: Expr

    @cached_property
    def type(self) -> Type:
        """That of both; nullable if one is."""
        return replace(self.serving.type, nullable=self.serving.type.nullable or self.training.type.nullable)
