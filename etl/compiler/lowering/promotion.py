"""Which type two columns, or a column and a constant, have together: as NumPy 1 decides for pandas.

A constant gives way to the column unless it is of a larger kind (bool < integer < float) or does not fit.
"""

from __future__ import annotations

import numpy as np

from etl.compiler.expr import Refusal
from etl.dtypes import is_float, is_integer

Constant = bool | int | float


def kind(dtype: str) -> int:
    """Return 0 for bool, 1 for integers, 2 for floats; Refusal for what is not a number."""
    if dtype == "bool":
        return 0
    if is_integer(dtype):
        return 1
    if is_float(dtype):
        return 2
    raise Refusal(f"it computes with {dtype}.", "Compute with numbers, or with datetimes as NumPy does.")


def of_columns(x: str, y: str) -> str:
    """Return the type of two columns of numbers together."""
    kind(x), kind(y)
    return str(np.promote_types(x, y))


def with_constant(dtype: str, value: Constant) -> str:
    """Return the type of a column of numbers together with a constant."""
    own, other = kind(dtype), 0 if isinstance(value, bool) else 1 if isinstance(value, int) else 2
    if other > own:
        return "float64" if other == 2 else str(np.promote_types(dtype, "int64"))
    if other < own and other == 0:
        return dtype
    if own == 2 and other == 1:  # float32 holds integers of 16 bits exactly
        return dtype if -(2**15) <= value < 2**16 else "float64"
    if own == 0:
        return "bool"
    if own == 2:
        return dtype if dtype == "float64" or not np.isfinite(value) or abs(value) <= 3.4028235e38 else "float64"
    return str(np.promote_types(dtype, _smallest(int(value), dtype)))


def float_of(dtype: str) -> str:
    """Return what NumPy's functions of floats make of a type; Refusal for float16."""
    if is_float(dtype):
        return dtype
    size = 1 if kind(dtype) == 0 else np.dtype(dtype).itemsize
    if size == 1:
        raise Refusal(f"of {dtype} NumPy makes float16.", 'Take it of .astype("float32").')
    return "float32" if size == 2 else "float64"


def _smallest(value: int, dtype: str) -> str:
    """Return the smallest integer type that holds a constant, of the column's own sign where it can be."""
    names = ("int8", "int16", "int32", "int64") if value < 0 or dtype.startswith("int") else ()
    for name in (*names, "uint8", "uint16", "uint32", "uint64"):
        limits = np.iinfo(name)
        if limits.min <= value <= limits.max:
            return str(name)
    raise Refusal(f"the constant {value} is not of 64 bits.", "Use a smaller one.")
