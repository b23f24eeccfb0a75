"""The code of a value, or of a tuple of values, in a table of keys: what Categorify and the joins look up by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.compiler.arithmetic import Add, Mod, Mul
from etl.compiler.expr import Const, Expr, Lookup, Refusal
from etl.compiler.tables import HASHES, HashCode
from etl.dtypes import EXACT, is_float, is_integer
from etl.dtypes import dtype as dtype_named

Codes = NDArray[np.int64]

_LARGEST = 2**62
_FACTOR = 1_000_003


def encode(parts: Sequence[Expr], keys: Sequence[pl.Series], codes: Codes, null: int, unknown: Expr) -> Expr:
    """Return `codes[i]` where `parts` equal row i of `keys`, `null` where all are null, else `unknown`; int64.

    A null in `keys` stands for null, in a float NaN too; a row of nothing but nulls takes the place of `null`. Rows
    that the columns cannot hold are left out. Refusal for keys of another kind, or that mean null in a request.
    """
    typed = [_in_type(values, part.type.dtype) for part, values in zip(parts, keys, strict=True)]
    kept = reduce(lambda a, b: a & b, (held for _, held in typed))
    columns, codes = [values.filter(kept) for values, _ in typed], codes[kept.to_numpy()]
    empty = reduce(lambda a, b: a & b, (values.is_null() for values in columns)).to_numpy()
    if empty.any():
        null = int(codes[empty][0])
    columns, codes = [values.filter(pl.Series(~empty)) for values in columns], codes[~empty]
    if len(parts) == 1:
        return Lookup(parts[0], columns[0], codes, null, unknown)
    code, numbers = _numbered(parts, columns)
    return Lookup(code, pl.Series("value", numbers, dtype=pl.Int64), np.append(codes, null), -1, unknown)


def crossed(parts: Sequence[Expr]) -> Expr:
    """Return one hash of several columns, int64 from 0 to 2**32 - 1: h = (h * 1000003 + HashCode) mod 2**32.

    With one column it is its HashCode. The order of the columns counts.
    """
    hashes: list[Expr] = [HashCode(part) for part in parts]

    def join(whole: Expr, part: Expr) -> Expr:
        return Mod(Add(Mul(whole, _int(_FACTOR)), part), _int(HASHES))  # below 2**53 before the remainder

    return reduce(join, hashes)


def _int(value: int) -> Const:
    return Const(value, "int64")


def _numbered(parts: Sequence[Expr], columns: Sequence[pl.Series]) -> tuple[Expr, Codes]:
    """Return a number for the tuple of `parts`, those of the rows of `columns`, and last that of all nulls.

    A part has the number of its value: 0 for one that no key has, so that it never makes a key's tuple; the last one
    for null. Before the numbers of tuples grow too large they are numbered anew.
    """
    whole, numbers, bound = _part(parts[0], columns[0])
    for part, values in zip(parts[1:], columns[1:], strict=True):
        code, own, width = _part(part, values)
        if bound * width > _LARGEST:
            known, places = np.unique(numbers, return_inverse=True)
            whole = Lookup(whole, pl.Series("value", known), np.arange(1, len(known) + 1), 0, _int(0))
            numbers, bound = places.astype(np.int64) + 1, len(known) + 1
        whole, numbers, bound = Add(Mul(whole, _int(width)), code), numbers * width + own, bound * width
    return whole, numbers


def _part(x: Expr, values: pl.Series) -> tuple[Expr, Codes, int]:
    """Return the number of `x`, those of `values` and of null, and how many there are."""
    distinct = values.drop_nulls().unique(maintain_order=True)
    null = distinct.len() + 1
    numbers = np.arange(1, null, dtype=np.int64)
    if values.len():
        own = values.replace_strict(distinct, pl.Series(numbers), default=None, return_dtype=pl.Int64)
        places = np.append(own.fill_null(null).to_numpy(), null)
    else:
        places = np.array([null], np.int64)
    return Lookup(x, distinct, numbers, null, _int(0)), places, null + 1


def _in_type(values: pl.Series, dtype: str) -> tuple[pl.Series, pl.Series]:
    """Return `values` in a column's own type, nulls kept, and which of them the type can hold."""
    wanted = dtype_named(dtype)
    if values.null_count() == values.len():
        return values.cast(wanted.polars, strict=False), pl.Series([True] * values.len(), dtype=pl.Boolean)
    _refuse_other_kinds(values, dtype)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    # NVTabular fits an integer column with nulls on floats, so its keys may hold 3.0 for 3.
    keys = values.cast(wanted.polars, strict=False)
    held = values.is_null() | keys.cast(values.dtype, strict=False).eq_missing(values)
    if not is_float(dtype) and dtype != "datetime" and wanted.null is not None and (keys == wanted.null).any():
        raise Refusal(
            f"its vocabulary holds {wanted.null!r}, which means null in a request.",
            f"Replace {wanted.null!r} in the data by null, and fit again.",
        )
    return keys, held


def _refuse_other_kinds(values: pl.Series, dtype: str) -> None:
    """Refuse keys of strings for numbers and the reverse, and floats that stand for integers inexactly."""
    if (values.dtype == pl.String) != (dtype == "string"):
        raise Refusal(f"its vocabulary is of {values.dtype}, the column of {dtype}.", "Fit again on this column.")
    if is_integer(dtype) and values.dtype.is_float() and (values.abs() > EXACT).any():
        raise Refusal(
            "its vocabulary holds integers beyond 2**53 as floats, which are not exact.",
            "Fit again with Mews, or on a column without nulls.",
        )
