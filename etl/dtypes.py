"""The one table of types: what a column is called in NumPy, Polars, ONNX and Triton, and how a null is sent.

Triton has no nulls. A request says "null" with the value in the column `null`: NaN for floats, the empty string for
strings, the smallest value of a signed integer. Unsigned integers and booleans cannot be null in a request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from etl.errors import SchemaError


@dataclass(frozen=True)
class DType:
    """One type under its five names; `onnx` is the number in `onnx.TensorProto.DataType`."""

    name: str
    numpy: str
    polars: pl.DataType
    onnx: int
    triton: str
    null: bool | int | float | str | None


_TABLE = (
    # name, numpy, polars, onnx, triton, null in a request
    DType("bool", "bool", pl.Boolean(), 9, "BOOL", None),
    DType("int8", "int8", pl.Int8(), 3, "INT8", -(2**7)),
    DType("int16", "int16", pl.Int16(), 5, "INT16", -(2**15)),
    DType("int32", "int32", pl.Int32(), 6, "INT32", -(2**31)),
    DType("int64", "int64", pl.Int64(), 7, "INT64", -(2**63)),
    DType("uint8", "uint8", pl.UInt8(), 2, "UINT8", None),
    DType("uint16", "uint16", pl.UInt16(), 4, "UINT16", None),
    DType("uint32", "uint32", pl.UInt32(), 12, "UINT32", None),
    DType("uint64", "uint64", pl.UInt64(), 13, "UINT64", None),
    DType("float32", "float32", pl.Float32(), 1, "FP32", math.nan),
    DType("float64", "float64", pl.Float64(), 11, "FP64", math.nan),
    DType("string", "object", pl.String(), 8, "BYTES", ""),
    # A datetime travels as microseconds since 1970-01-01 UTC.
    DType("datetime", "datetime64[us]", pl.Datetime("us"), 7, "INT64", -(2**63)),
)

DTYPES: dict[str, DType] = {dtype.name: dtype for dtype in _TABLE}

FLOAT16 = DType("float16", "float16", pl.Float32(), 10, "FP16", math.nan)
"""A type of requests only: ONNX Runtime computes nothing with it on a CPU, so a column is never one."""

BY_TRITON: dict[str, DType] = {dtype.triton: dtype for dtype in (*_TABLE, FLOAT16) if dtype.name != "datetime"}
"""Types by Triton's name; what says INT64 is an int64, for a server does not know of datetimes."""


EXACT = 2**53
"""Every integer up to here is exact in float64."""


def dtype(name: str) -> DType:
    """Return the type called `name`, a column's or a request's; SchemaError names the known ones."""
    try:
        return FLOAT16 if name == FLOAT16.name else DTYPES[name]
    except KeyError:
        raise SchemaError(f"type {name!r}", expected=f"one of {', '.join(DTYPES)}", received=repr(name)) from None


def from_polars(polars_type: pl.DataType) -> tuple[str, bool]:
    """Return (type name, is a list) for a Polars type; categoricals are strings, dates are datetimes."""
    if isinstance(polars_type, pl.List | pl.Array):
        return from_polars(polars_type.inner)[0], True  # type: ignore[arg-type]
    if isinstance(polars_type, pl.Categorical | pl.Enum):
        return "string", False
    if isinstance(polars_type, pl.Datetime | pl.Date):
        return "datetime", False
    for row in _TABLE:
        if row.polars == polars_type:
            return row.name, False
    raise SchemaError(
        "column type", expected=f"one of {', '.join(DTYPES)}, or a list of one", received=str(polars_type)
    )


def spelled(name: str, is_list: bool) -> str:
    """Return a column's type in words: `int64`, `list of int64`."""
    return f"list of {name}" if is_list else name


def is_float(name: str) -> bool:
    """True for float32 and float64 (and a request's float16)."""
    return name.startswith("float")


def is_integer(name: str) -> bool:
    """True for every signed and unsigned integer, not for booleans or datetimes."""
    return name.startswith(("int", "uint"))
