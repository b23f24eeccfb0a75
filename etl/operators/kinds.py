"""What an operator's params and state may hold, as facts of the operator: a graph's folder may come from anybody.

A `Kind` is of a JSON value, `Cells` are of a column of a state table, a `Table` is of the table. All bound sizes, so
that what passes can be compiled in memory and time that follow the folder's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from etl.dtypes import DTYPES, is_float, is_integer

LONGEST_NAME = 1_000
LONGEST_TEXT = 10_000
LONGEST_LIST = 100_000
"""The most elements of a list that is padded, and of a list among the params."""
DEEPEST = 10
"""How deep a property may be nested."""
_INT64 = 2**63


@dataclass(frozen=True)
class Kind:
    """What a param is: `expected` in words, `holds` says whether a JSON value is one; it may raise ConfigError."""

    expected: str
    holds: Callable[[Any], bool]
    required: bool = False


def required(kind: Kind) -> Kind:
    """Return `kind` of a param that must be there."""
    return replace(kind, required=True)


def whole(low: int = -_INT64 + 1, high: int = _INT64 - 1) -> Kind:
    """An integer, or a float that is one, from `low` to `high`."""

    def holds(value: Any) -> bool:
        exact = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return exact and not isinstance(value, bool) and low <= value <= high

    return Kind(f"a whole number from {low} to {high}", holds)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == value and (isinstance(value, float) or abs(value) < 2 * _INT64)


def text(longest: int = LONGEST_TEXT) -> Kind:
    """A string of limited length."""
    return Kind(
        f"a text of at most {longest} characters", lambda value: isinstance(value, str) and len(value) <= longest
    )


def one_of(*values: str) -> Kind:
    """One of some strings."""
    return Kind(f"one of {', '.join(values)}", lambda value: isinstance(value, str) and value in values)


def either(*kinds: Kind) -> Kind:
    """A value of one of `kinds`."""
    return Kind(" or ".join(kind.expected for kind in kinds), lambda value: any(kind.holds(value) for kind in kinds))


def optional(kind: Kind) -> Kind:
    """A value of `kind`, or null."""
    return either(kind, Kind("null", lambda value: value is None))


def list_of(kind: Kind, most: int = LONGEST_LIST) -> Kind:
    """A list of values of `kind`."""

    def holds(value: Any) -> bool:
        return isinstance(value, list) and len(value) <= most and all(map(kind.holds, value))

    return Kind(f"a list of at most {most}, each {kind.expected}", holds)


def by_name(kind: Kind) -> Kind:
    """An object whose values are of `kind`."""
    return Kind(
        f"an object of values that are {kind.expected}",
        lambda v: isinstance(v, dict) and all(map(kind.holds, v.values())),
    )


def fields(**kinds: Kind) -> Kind:
    """An object whose values under the names given are of their kinds; others are not looked at."""

    def holds(value: Any) -> bool:
        return isinstance(value, dict) and all(kinds[name].holds(value[name]) for name in kinds if name in value)

    return Kind(f"an object of {', '.join(kinds)}", holds)


def _is_plain(value: Any, depth: int = 0) -> bool:
    if depth > DEEPEST:
        return False
    if isinstance(value, dict):
        return all(_is_plain(each, depth + 1) for each in value.values())
    if isinstance(value, list):
        return all(_is_plain(each, depth + 1) for each in value)
    return value is None or isinstance(value, bool | str | float) or _is_number(value)


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a number of 64 bits, not NaN", _is_number)
TEXT = text()
NAME = text(LONGEST_NAME)
NAMES = list_of(NAME)
NAME_OR_NAMES = either(NAME, NAMES)
SCALAR = either(FLAG, NUMBER, TEXT)
GROUPS = list_of(list_of(NAME, 100), 500)
"""Columns that are taken together."""
PLAIN = Kind(f"JSON values at most {DEEPEST} deep", _is_plain)
LIMIT = optional(either(whole(), by_name(whole())))
"""A number, or one by column."""
_WIDTH = optional(whole(0))
PROPERTIES = Kind(
    f"an object of JSON values at most {DEEPEST} deep, its domain and value_count as Merlin's",
    lambda value: (
        _is_plain(value)
        and fields(
            domain=optional(fields(name=optional(TEXT), min=optional(NUMBER), max=optional(NUMBER))),
            value_count=optional(fields(min=_WIDTH, max=_WIDTH)),
        ).holds(value)
    ),
)
NUMERIC = one_of(*(name for name in DTYPES if is_integer(name) or is_float(name)), "float16")
FLOATS = one_of("float16", "float32", "float64")


@dataclass(frozen=True)
class Cells:
    """What a column of a state table holds: `takes` looks at its type, before it is read, `holds` at its values."""

    expected: str
    takes: Callable[[pl.DataType], bool]
    holds: Callable[[pl.Series], bool] = lambda values: True
    required: bool = True


@dataclass(frozen=True)
class Table:
    """What a state table has: its columns by name, and perhaps `others`; the tuples of `unique` are there once.

    A row that is not `active`, in a table that says so, counts for nothing. `ascending` says that the rows are in the
    order of `unique`.
    """

    columns: Mapping[str, Cells] = field(default_factory=dict)
    others: Cells | None = None
    unique: tuple[str, ...] = ()
    required: bool = True
    ascending: bool = False


_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
_KEYS = (pl.Boolean, pl.String, pl.Datetime, pl.Date, pl.Duration, pl.Time, pl.Null)


def _is_scalar(dtype: pl.DataType) -> bool:
    return _is_numeric(dtype) or isinstance(dtype, _KEYS)


def _is_numeric(dtype: pl.DataType) -> bool:
    return _is_integer(dtype) or dtype in (pl.Float32, pl.Float64)


def integers(low: int, high: int = _INT64 - 1, nulls: bool = True) -> Cells:
    """Whole numbers from `low` to `high`, or null."""

    def holds(values: pl.Series) -> bool:
        known = values.drop_nulls().cast(pl.Int64, strict=False)  # what Int64 does not hold becomes null
        within = bool((known >= low).all() and (known <= high).all()) and not known.null_count()
        return within and (nulls or not values.null_count())

    return Cells(f"integers from {low} to {high}", _is_integer, holds)


def _is_integer(dtype: pl.DataType) -> bool:
    return isinstance(dtype, _INTEGERS)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String)


KEYS = Cells("scalars of a type that a column has", _is_scalar)
NUMBERS = Cells("numbers", _is_numeric)
COUNTS = integers(0)
ANY_INTEGERS = integers(-_INT64)
COLUMNS = Cells("names of columns", _is_text, lambda values: not values.null_count())
TYPES = Cells(f"one of {', '.join(DTYPES)}", _is_text, lambda values: bool(values.is_in(list(DTYPES)).all()))
FLAGS = Cells("true or false", lambda dtype: isinstance(dtype, pl.Boolean), lambda values: not values.null_count())


def by_column(**columns: Cells) -> Table:
    """A table with a row for each column."""
    return Table({"column": COLUMNS, **columns}, unique=("column",))
