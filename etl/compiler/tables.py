"""Primitives of tables: the row of a value, the value of a row, and the one hash of every target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.compiler.expr import Elementwise, Expr, Type, _Unary
from etl.dtypes import from_polars, is_float
from etl.errors import Problem

HASHES = 2**32
"""A HashCode is one of so many."""


@dataclass(frozen=True, eq=False)
class HashCode(_Unary):
    """MurmurHash3_x86_32(`x`, seed 0) as an int64 from 0 to 2**32 - 1.

    Strings are hashed as UTF-8, every other type as the 8 little-endian bytes of its int64 (floats: of their float64,
    -0.0 as 0.0). A null is hashed as the value that means null in a request (etl/dtypes.py), NaN as one NaN.
    """

    @cached_property
    def type(self) -> Type:
        """int64."""
        return replace(self.x.type, dtype="int64", nullable=False)


@dataclass(frozen=True, eq=False)
class Take(Elementwise):
    """`values[x]`, where the int64 `x` is never null and always a row of `values`."""

    x: Expr
    values: pl.Series

    @cached_property
    def type(self) -> Type:
        """That of the values."""
        dtype, _ = from_polars(self.values.dtype)
        nullable = not is_float(dtype) and self.values.null_count() > 0
        return replace(self.x.type, dtype=dtype, nullable=nullable)


@dataclass(frozen=True, eq=False)
class DrawnFold(Expr):
    """The `x`-th number (from 0) that np.random.RandomState(`seed`) draws of `folds`, int64; only batch has it."""

    x: Expr
    folds: int
    seed: int

    @cached_property
    def type(self) -> Type:
        """int64."""
        return Type("int64")


@dataclass(frozen=True, eq=False)
class Matrix:
    """A sparse matrix by rows: those of row r are at offsets[r] up to offsets[r + 1], their columns ascending."""

    offsets: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def height(self) -> int:
        """How many rows there are."""
        return len(self.offsets) - 1

    @property
    def width(self) -> int:
        """How many values the longest row has."""
        return int(np.diff(self.offsets).max(initial=0))


@dataclass(frozen=True, eq=False)
class RowDot(Expr):
    """The inner product of row `x` of `left` with row `y` of `right`, float64; NaN where one is a matrix's height.

    The int64 `x` and `y` are never null, nor anything but rows or the height.
    """

    x: Expr
    y: Expr
    left: Matrix
    right: Matrix

    @cached_property
    def type(self) -> Type:
        """float64."""
        return Type("float64")


@dataclass(frozen=True, eq=False)
class NotKnown(Expr):
    """A column that cannot be computed; a plan that would need it raises CompileError with `problem`."""

    of: Type
    problem: Problem

    @property
    def type(self) -> Type:
        """As said."""
        return self.of
