"""Sums that are the same bits for any order and any partition of the rows, because nothing is rounded on the way.

Two ways, one idea (integers add up exactly):

- `Total`: the sum and the sum of squares of one whole column as Python integers, for every finite float64. Numbers are
  cut into digits of 18 bits; sums of digits and of their products are integers that float64 holds exactly.
- `sums` and `squares`: aggregations for tables of groups. Each number goes, by its size, into one of a few Int128
  accumulators, in units of that accumulator's power of two. Integers are exact. Floats are exact over the usual range
  and else rounded one by one to the unit (the tables `_SUMS` and `_SQUARES` say where), which no order or partition
  can change. Every accumulator has room for 2**31 rows. What is 2**128 or larger counts as infinite,
  and the variance of numbers of 2**80 or larger is unknown (NaN). Tables are merged by adding columns.

`total`, `mean` and `variance` make float64 of the accumulators, rounded once.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from etl.dtypes import is_integer

Floats = NDArray[np.float64]

_BITS = 18
"""Bits of a digit: products have 36, and 2**15 of them add up below 2**53."""
_BLOCK = 1 << 15
_REACH = 40
"""Numbers so many powers of two below the largest of their block are summed apart, so that digits stay few."""
_UNIT = -1300
"""Totals are integers in units of 2**-1300, squares in units of 2**-2600: below every bit of a float64."""


@dataclass(frozen=True)
class Total:
    """The exact sum and sum of squares of `count` finite numbers; `positive` and `negative` count the infinite ones."""

    count: int = 0
    sum: int = 0
    squares: int = 0
    positive: int = 0
    negative: int = 0

    @staticmethod
    def of(numbers: Floats) -> Total:
        """Sum float64 numbers that hold no NaN."""
        finite = np.isfinite(numbers)
        if finite.all():
            return Total(len(numbers), *_exact_sums(numbers))
        positive = int(np.count_nonzero(numbers == np.inf))
        kept = numbers[finite]
        return Total(len(kept), *_exact_sums(kept), positive, len(numbers) - len(kept) - positive)

    def __add__(self, other: Total) -> Total:
        mine, theirs = self.__dict__.values(), other.__dict__.values()
        return Total(*(a + b for a, b in zip(mine, theirs, strict=True)))

    @property
    def known(self) -> int:
        """How many numbers were added, with the infinite ones."""
        return self.count + self.positive + self.negative

    @property
    def mean(self) -> float:
        """The mean, rounded once; NaN of nothing, and with infinite numbers what float arithmetic makes of them."""
        if self.positive or self.negative or not self.count:
            return _infinite(self.positive, self.negative)
        return _divide(self.sum, self.count, _UNIT)

    def variance(self, ddof: int = 1) -> float:
        """The variance, rounded once; NaN for too few numbers or infinite ones."""
        if self.positive or self.negative or self.count <= ddof:
            return math.nan
        spread = self.count * self.squares - self.sum**2
        return _divide(spread, self.count * (self.count - ddof), 2 * _UNIT)


_MOST_ZEROS = 10_000
"""More bits than a sum of squares of doubles has, in units of the least one's square."""


def spell(number: int) -> str:
    """Return a whole number as text that is short for multiples of a power of two: `-0x5p1200`."""
    zeros = (number & -number).bit_length() - 1 if number else 0
    return f"{number >> zeros:#x}p{zeros}"


def unspell(text: str) -> int:
    """Return the number that `spell` wrote; ValueError for other text."""
    digits, _, zeros = text.partition("p")
    if len(text) > _MOST_ZEROS or not 0 <= int(zeros) <= _MOST_ZEROS:
        raise ValueError(f"{text[:40]!r} is no sum of doubles")
    return int(digits, 16) << int(zeros)


def _exact_sums(numbers: Floats) -> tuple[int, int]:
    """Return the sum and the sum of squares of finite numbers in units of 2**_UNIT and of its square."""
    total = squares = 0
    # Rows: 1, then the digits; one product of matrices gives every sum that is wanted.
    held = np.empty((1 + (_REACH + 53) // _BITS + 2, _BLOCK))
    held[0] = 1
    pending = [numbers[start : start + _BLOCK] for start in range(0, len(numbers), _BLOCK)]
    while pending:
        block = pending.pop()
        size = np.abs(block)
        exponent = math.frexp(float(size.max()))[1] if len(block) else 0
        far = size < math.ldexp(1.0, max(exponent - _REACH, -1074))
        if far.any() and size[far].any():
            pending.append(block[far & (size > 0)])
            block = block[~far]
        found = _add_digits(block, exponent, held)
        total, squares = total + found[0], squares + found[1]
    return total, squares


def _add_digits(block: Floats, exponent: int, held: Floats) -> tuple[int, int]:
    """Return exact sums of numbers below 2**exponent, and not more than 2**_REACH apart."""
    digits, made = held[:, : len(block)], 0
    half = -exponent // 2
    rest = block * math.ldexp(1.0, half) * math.ldexp(1.0, -exponent - half)
    while rest.any():
        made += 1
        np.multiply(rest, 1 << _BITS, out=rest)
        np.rint(rest, out=digits[made])
        np.subtract(rest, digits[made], out=rest)
    products = digits[: made + 1] @ digits[: made + 1].T
    total = squares = 0
    for row in range(1, made + 1):
        place = exponent - _BITS * row - _UNIT
        total += int(products[0, row]) << place
        for other in range(1, made + 1):
            squares += int(products[row, other]) << (place + exponent - _BITS * other - _UNIT)
    return total, squares


def _divide(numerator: int, denominator: int, exponent: int) -> float:
    """Return numerator / denominator * 2**exponent, rounded once (Python divides integers so)."""
    try:
        if exponent < 0:
            return numerator / (denominator << -exponent)
        return (numerator << exponent) / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def _infinite(positive: int, negative: int) -> float:
    if positive and not negative:
        return math.inf
    return -math.inf if negative and not positive else math.nan


# Groups


@dataclass(frozen=True)
class _Lane:
    """An accumulator for numbers of a size below 2**below (and not below the lane before), in units of 2**unit."""

    below: int
    unit: int


_SUMS = (_Lane(-9, -103), _Lane(32, -62), _Lane(73, -21), _Lane(128, 34))
"""float64 is exact from 2**-50 to 2**73; a larger number is rounded to 2**34, a smaller one to 2**-103."""
_SQUARES = (_Lane(-24, -142), _Lane(2, -90), _Lane(28, -38), _Lane(40, -14), _Lane(56, 18), _Lane(80, 66))
"""Bounds are those of x, units those of x**2; a square keeps 42 bits or more from |x| = 2**-50 up."""
_SPLIT = float(2**27 + 1)


def sums(x: pl.Expr, name: str, dtype: str = "float64") -> dict[str, pl.Expr]:
    """Return aggregations of the sum of x (numbers of `dtype`), for select and group_by().agg, named after `name`.

    Null and NaN are left out. Tables of them are merged by adding columns (`columns_of`); `total` and `mean` read them.
    """
    if is_integer(dtype) or dtype == "bool":
        return {f"{name}.count": _whole(x.is_not_null()), f"{name}.sum.0": x.cast(pl.Int128).sum()}
    x = x.cast(pl.Float64).fill_nan(None)
    most = 2.0 ** _SUMS[-1].below
    infinite = {f"{name}.positive": _whole(x >= most), f"{name}.negative": _whole(x <= -most)}
    return {f"{name}.count": _whole(x.is_not_null())} | infinite | _lanes(x, (x,), f"{name}.sum", _SUMS)


def squares(x: pl.Expr, name: str, dtype: str = "float64") -> dict[str, pl.Expr]:
    """Return aggregations of the sum of x**2 as `sums` does; `variance` reads both."""
    if is_integer(dtype) or dtype == "bool":
        x = x.cast(pl.Int128)
        high = x.floordiv(2**32)
        low = x - high * 2**32
        # x**2 = high * (x + low) * 2**32 + low**2
        return {f"{name}.squares.0": (low * low).sum(), f"{name}.squares.32": (high * (x + low)).sum()}
    x = x.cast(pl.Float64).fill_nan(None)
    moved = x * _SPLIT
    high = moved - (moved - x)
    low = x - high
    parts = (x * x,) if dtype == "float32" else (high * high, high * low * 2.0, low * low)
    huge = {f"{name}.huge": _whole(x.abs() >= 2.0 ** _SQUARES[-1].below)}
    return huge | _lanes(x, parts, f"{name}.squares", _SQUARES)


def columns_of(name: str) -> pl.Expr:
    """Select the columns that `sums` and `squares` made for `name`: what is added when tables are merged."""
    return cs.starts_with(f"{name}.")


def total(table: pl.DataFrame, name: str) -> pl.Series:
    """Return the sums in a merged table, float64; 0 where nothing was known."""
    counted = _accumulated(table, name, "sum")
    return _made(table, name, lambda row, count: _divide(counted[row], 1, _lowest(table, name, "sum")), empty=0.0)


def mean(table: pl.DataFrame, name: str) -> pl.Series:
    """Return the means in a merged table, float64; NaN where nothing was known."""
    found, unit = _accumulated(table, name, "sum"), _lowest(table, name, "sum")
    return _made(table, name, lambda row, count: _divide(found[row], count, unit))


def variance(table: pl.DataFrame, name: str, ddof: int = 1) -> pl.Series:
    """Return the variances in a merged table, float64; NaN where no more than `ddof` numbers were known."""
    added, unit = _accumulated(table, name, "sum"), _lowest(table, name, "sum")
    squared, fine = _accumulated(table, name, "squares"), _lowest(table, name, "squares")
    lowest = min(2 * unit, fine)
    column = f"{name}.huge"
    huge = table[column].to_list() if column in table.columns else [0] * table.height

    def one(row: int, count: int) -> float:
        if count <= ddof or huge[row]:
            return math.nan
        spread = (count * squared[row] << (fine - lowest)) - (added[row] ** 2 << (2 * unit - lowest))
        return _divide(max(spread, 0), count * (count - ddof), lowest)

    return pl.Series(name, [one(row, count) for row, count in enumerate(table[f"{name}.count"])], dtype=pl.Float64)


def _whole(condition: pl.Expr) -> pl.Expr:
    return condition.sum().cast(pl.Int64)


def _lanes(x: pl.Expr, parts: Sequence[pl.Expr], prefix: str, lanes: Sequence[_Lane]) -> dict[str, pl.Expr]:
    """Return the sums of `parts`, each in the lane that the size of x says."""
    found, size, above = {}, x.abs(), 0.0
    for lane in lanes:
        inside = (size >= above) & (size < 2.0**lane.below)
        scaled = (
            pl.when(inside).then(part * 2.0**-lane.unit).otherwise(0.0).cast(pl.Int128, wrap_numerical=True).sum()
            for part in parts
        )
        found[f"{prefix}.{lane.unit}"] = functools.reduce(operator.add, scaled)
        above = 2.0**lane.below
    return found


def _units(table: pl.DataFrame, name: str, kind: str) -> dict[str, int]:
    prefix = f"{name}.{kind}."
    return {column: int(column.removeprefix(prefix)) for column in table.columns if column.startswith(prefix)}


def _lowest(table: pl.DataFrame, name: str, kind: str) -> int:
    return min(_units(table, name, kind).values())


def _accumulated(table: pl.DataFrame, name: str, kind: str) -> list[int]:
    """Return each row's accumulators as one integer, in units of the lowest."""
    units, lowest = _units(table, name, kind), _lowest(table, name, kind)
    found = [0] * table.height
    for column, unit in units.items():
        if (table[column] != 0).any():
            shift = unit - lowest
            found = [a + (b << shift) for a, b in zip(found, table[column].to_list(), strict=True)]
    return found


def _infinities(table: pl.DataFrame, name: str) -> tuple[pl.Series, pl.Series]:
    none = pl.zeros(table.height, dtype=pl.Int64, eager=True)
    positive, negative = (f"{name}.{sign}" for sign in ("positive", "negative"))
    return (table[positive], table[negative]) if positive in table.columns else (none, none)


def _made(table: pl.DataFrame, name: str, one: Callable[[int, int], float], empty: float = math.nan) -> pl.Series:
    counts = table[f"{name}.count"].to_list()
    found = [one(row, count) if count else empty for row, count in enumerate(counts)]
    positive, negative = _infinities(table, name)
    for row in ((positive + negative) > 0).arg_true():
        found[row] = _infinite(positive[row], negative[row])
    return pl.Series(name, found, dtype=pl.Float64)
