"""What the primitives of tables.py become in ONNX."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etl.compiler import expr as e
from etl.compiler import tables as t
from etl.compiler.targets.onnx_builder import Builder
from etl.compiler.targets.onnx_rules import RULES
from etl.compiler.targets.onnx_value import Value, cast
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float

_MOST_ELEMENTS = 2**26
"""A matrix with rows of equal length may hold so many places in an ONNX graph: 1 GiB with the columns' numbers."""


@RULES.register(t.HashCode)
def _hash_code(b: Builder, expr: t.HashCode, x: Value) -> Value:
    if x.dtype != "string":
        x = _canonical(b, cast(b, x, "float64")) if is_float(x.dtype) else cast(b, x, "int64")
    hashed = Value(b.node("MurmurHash3", x.name, domain="com.microsoft", positive=1, seed=0), "uint32", x.lengths)
    return cast(b, hashed, "int64")


def _canonical(b: Builder, x: Value) -> Value:
    """Return a float64 with one NaN only, and 0.0 for -0.0."""
    zero = b.constant(0.0, "float64")
    known = b.node("Where", b.node("Equal", x.name, zero), zero, x.name)
    return x.named(b.node("Where", b.node("IsNaN", x.name), b.constant(np.nan, "float64"), known))


@RULES.register(t.Take)
def _take(b: Builder, expr: t.Take, x: Value) -> Value:
    kind = dtype_named(expr.type.dtype)
    if expr.type.nullable and kind.null is None:
        raise e.Refusal(f"a table holds nulls of type {kind.name}, which a request cannot say.", "Fill them first.")
    dtype = "int64" if kind.name == "datetime" else kind.name
    values = expr.values.to_physical().fill_null(kind.null) if kind.null is not None else expr.values
    return Value(b.node("Gather", b.constant(values.to_list(), dtype), x.name, axis=0), dtype, x.lengths)


@RULES.register(t.DrawnFold)
def _drawn_fold(b: Builder, expr: t.DrawnFold, *parts: Value) -> Value:
    raise e.Refusal("its folds are drawn by row number.", "Take the column out, or read without strict_nvtabular.")


@RULES.register(t.NotKnown)
def _not_known(b: Builder, expr: t.NotKnown, *parts: Value) -> Value:
    raise e.Refusal(expr.problem.reason, expr.problem.instead)


@RULES.register(t.RowDot)
def _row_dot(b: Builder, expr: t.RowDot, x: Value, y: Value) -> Value:
    sides = ((expr.left, x, -1, (0, 2, 1)), (expr.right, y, -2, (0, 1, 2)))  # [batch, left, 1] and [batch, 1, right]
    columns, values, unknown = [], [], []
    for matrix, row, padding, order in sides:
        if (matrix.height + 1) * max(matrix.width, 1) > _MOST_ELEMENTS:
            reason = f"a matrix of {matrix.height} rows with up to {matrix.width} values is too large for a model."
            raise e.Refusal(reason, "Keep the largest values of each row, or compute the column in batch.")
        padded = _padded(matrix, padding)
        found = [b.node("Gather", b.constant(table, dtype), row.name, axis=0) for table, dtype in padded]
        columns.append(b.node("Transpose", found[0], perm=list(order)))
        values.append(b.node("Transpose", found[1], perm=list(order)))
        unknown.append(b.node("Equal", row.name, b.constant(matrix.height, "int64")))
    products = b.node("Mul", *values)
    same = b.node("Where", b.node("Equal", *columns), products, b.constant(0.0, "float64"))
    added = b.node("ReduceSum", same, b.constant([2], "int64"), keepdims=0)
    added = b.node("ReduceSum", added, b.constant([1], "int64"), keepdims=1)
    nan = b.constant(np.nan, "float64")
    return Value(b.node("Where", b.node("Or", *unknown), nan, added), "float64")


def _padded(matrix: t.Matrix, padding: int) -> list[tuple[NDArray[np.generic], str]]:
    """Return the columns and the values of all rows, and of one more, in rows of equal length."""
    width = max(matrix.width, 1)
    columns = np.full((matrix.height + 1, width), padding, np.int64)
    values = np.zeros((matrix.height + 1, width))
    lengths = np.diff(matrix.offsets)
    rows = np.repeat(np.arange(matrix.height), lengths)
    places = np.arange(len(rows)) - np.repeat(matrix.offsets[:-1], lengths)
    columns[rows, places], values[rows, places] = matrix.columns, matrix.values
    return [(columns, "int64"), (values, "float64")]
