"""A vocabulary as a table that is made once and asked for every part of the rows.

Polars' own `replace_strict` and joins make their hash table again for each frame, which costs more than the lookup
when the vocabulary is large. Values here are int64: integers and times as they are, floats as their bits, strings as
Polars' 64-bit hash (a hit is then compared with the string itself).
"""

from __future__ import annotations

import sys
import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

Int64s = npt.NDArray[np.int64]

ABSENT = np.int64(-1)
"""The row of a value that is not among the keys."""

_BLOCK = 65_536
"""Rows that are looked up at once: what is made on the way stays in the processor's caches."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = 4
_SMALL = 65_536
_LOWER = 0 if sys.byteorder == "little" else 1
"""Which half of an int64 in memory holds its lower 32 bits."""
_LOW, _HALF, _FEW = np.int64(2**32 - 1), 2**31, 16_384


class Rows(Protocol):
    """Gives the row of each value among the keys, ABSENT for others."""

    def find(self, values: Int64s) -> Int64s:
        """Return rows for int64 values."""


class Dense:
    """Keys that lie close together: the row is read at `value - lowest`."""

    def __init__(self, keys: Int64s) -> None:
        self._lowest = int(keys.min())
        self._rows = np.full(int(keys.max()) - self._lowest + 2, ABSENT)
        self._rows[keys - self._lowest] = np.arange(len(keys))

    def find(self, values: Int64s) -> Int64s:
        """Return rows; a value outside of the range reads the last place, which is ABSENT."""
        # As unsigned numbers, what is below the lowest key is far above the last place.
        with np.errstate(over="ignore"):
            places = (values - np.int64(self._lowest)).view(np.uint64)
        return self._rows[np.minimum(places, np.uint64(len(self._rows) - 1)).view(np.int64)]


class Hashed:
    """Open addressing in arrays: a value's place is its product's upper bits, then the next one that is free."""

    def __init__(self, keys: Int64s, spread: int = 2) -> None:
        bits = max(4, int((4 if len(keys) < _SMALL else spread) * len(keys)).bit_length())
        self.shift, self._last = np.uint64(64 - bits), np.int64((1 << bits) - 1)
        self.keys = np.full(1 << bits, _value_beside(keys))
        self.rows = np.full(1 << bits, ABSENT)
        self._fill(keys)

    def _fill(self, keys: Int64s) -> None:
        left, places = np.arange(len(keys)), self._place(keys)
        while len(left):
            free = self.rows[places] == ABSENT
            self.rows[places[free]] = left[free]  # of several keys for one place one stays, the others go on
            placed = self.rows[places] == left
            self.keys[places[placed]] = keys[left[placed]]
            left, places = left[~placed], (places[~placed] + 1) & self._last

    def _place(self, values: Int64s) -> Int64s:
        return ((values.view(np.uint64) * _MIX) >> self.shift).view(np.int64)

    def find(self, values: Int64s) -> Int64s:
        """Return rows; a free place holds a value that is no key and the row ABSENT."""
        places = self._place(values)
        rows = self.rows[places]
        (open_,) = np.nonzero((self.keys[places] != values) & (rows != ABSENT))
        wanted, places = values[open_], places[open_]
        while len(open_):
            places = (places + 1) & self._last
            found = self.rows[places]
            going = (self.keys[places] != wanted) & (found != ABSENT)
            rows[open_] = found
            open_, wanted, places = open_[going], wanted[going], places[going]
        return rows


class Packed:
    """As Hashed, for keys and rows of 32 bits: both in one number, so one read from memory gives both."""

    def __init__(self, keys: Int64s) -> None:
        table = Hashed(keys, spread=4)
        self._shift, self._last = table.shift, np.int64(len(table.keys) - 1)
        self._pairs = (table.keys << 32) | (table.rows & _LOW)

    def find(self, values: Int64s) -> Int64s:
        """Return rows, as Hashed does."""
        places = ((values.view(np.uint64) * _MIX) >> self._shift).view(np.int64)
        rows, open_ = self._at(places, values)
        found = rows.astype(np.int64)
        wanted, places = values[open_], places[open_]
        while len(open_):
            places = (places + 1) & self._last
            rows, going = self._at(places, wanted)
            found[open_] = rows
            open_, wanted, places = open_[going], wanted[going], places[going]
        return found

    def _at(self, places: Int64s, values: Int64s) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
        """Return the rows at `places`, and where another key is: there the search goes on."""
        halves = self._pairs[places].view(np.int32).reshape(-1, 2)
        rows, keys = halves[:, _LOWER], halves[:, 1 - _LOWER]
        return rows, np.flatnonzero((keys != values) & (rows != ABSENT))


def _value_beside(keys: Int64s) -> np.int64:
    """Return an int64 that is none of `keys`."""
    tried = np.arange(len(keys) + 1, dtype=np.int64)
    return np.int64(np.setdiff1d(tried, keys, assume_unique=True)[0]) if len(keys) else np.int64(0)


def rows_of(keys: Int64s) -> Rows:
    """Return the table of distinct int64 keys that suits how close together they lie."""
    width = int(keys.max()) - int(keys.min()) if len(keys) else 0
    if len(keys) and width < max(_SMALL, _SPREAD * len(keys)):
        return Dense(keys)
    # In small tables, which the processor's caches hold, the second read costs nothing.
    narrow = _FEW < len(keys) < _HALF and int(keys.min()) >= -_HALF and int(keys.max()) < _HALF
    return Packed(keys) if narrow else Hashed(keys)


class LookupTable:
    """The codes of the values of a series; made at the first call, kept for the next, safe to share between threads.

    `codes[i]` where a value equals `keys[i]`, `null` where it is null (NaN for floats), `unknown` elsewhere, which
    may be None for null.
    """

    def __init__(self, keys: pl.Series, codes: Int64s, null: int, unknown: int | None) -> None:
        self._key_series, self._null, self._unknown = keys, null, unknown
        self._codes = np.append(codes, 0 if unknown is None else unknown)  # ABSENT reads the last one
        # Codes in the order of the keys need no array to be read from.
        self._first = codes[0] if len(codes) and (np.diff(codes) == 1).all() else None
        self._lock = threading.Lock()
        self._rows: Rows | None = None

    def __call__(self, values: pl.Series) -> pl.Series:
        """Return int64 codes, one for each value; `values` has the dtype of the keys."""
        rows = self._find(values)
        codes = self._codes_of(rows)
        missing = values.is_nan().fill_null(True) if values.dtype.is_float() else values.is_null()
        if missing.any():
            codes[missing.to_numpy()] = self._null
        found = pl.Series(values.name, codes)
        return found if self._unknown is not None else found.set(pl.Series(rows == ABSENT) & ~missing, None)

    def _codes_of(self, rows: Int64s) -> Int64s:
        if self._first is None:
            return self._codes[rows]
        codes: Int64s = rows + self._first
        if self._codes[-1] != self._first + ABSENT:
            codes[rows == ABSENT] = self._codes[-1]
        return codes

    def _find(self, values: pl.Series) -> Int64s:
        table, numbers = self._table(), as_int64(values)
        rows = np.empty(len(numbers), np.int64)
        for start in range(0, len(numbers), _BLOCK):
            rows[start : start + _BLOCK] = table.find(numbers[start : start + _BLOCK])
        if values.dtype == pl.String and len(self._key_series):
            same = self._key_series.gather(np.maximum(rows, 0)).eq_missing(values)
            rows[~same.to_numpy()] = ABSENT
        return rows

    def _table(self) -> Rows:
        with self._lock:
            if self._rows is None:
                self._rows = rows_of(as_int64(self._key_series))
            return self._rows


def as_int64(values: pl.Series) -> Int64s:
    """Return one int64 for each value, equal where the values are; nulls and NaN give any number."""
    if values.dtype == pl.String:
        return values.hash().to_numpy().view(np.int64)
    if values.dtype.is_float():
        doubles = values.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0  # -0.0 equals 0.0
        return doubles.view(np.int64)
    physical = values.to_physical()
    if physical.null_count():
        physical = physical.fill_null(strategy="zero")
    if physical.dtype != pl.UInt64:
        physical = physical.cast(pl.Int64)
    return physical.to_numpy().view(np.int64)
