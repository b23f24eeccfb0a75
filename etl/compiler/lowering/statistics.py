"""DataStats, DropLowCardinality, ValueCount: values stay as they are; ReduceDtypeSize: they get smaller types."""

from __future__ import annotations

import polars as pl

from etl.compiler.arithmetic import Wrap
from etl.compiler.expr import Cast, Expr, Refusal
from etl.compiler.lowering import RULES, per_column
from etl.dtypes import is_float, is_integer
from etl.graph import OpNode


@RULES.register("DataStats", "DropLowCardinality", "ValueCount")
@per_column
def keep(node: OpNode, column: str, x: Expr) -> Expr:
    """The column as it is."""
    return x


@RULES.register("ReduceDtypeSize")
@per_column
def reduce_size(node: OpNode, column: str, x: Expr) -> Expr:
    """The column as the type that fit found; an integer that is too large for it wraps around, as in NumPy."""
    if x.type.is_list:
        raise Refusal("it does not take lists.", "Take the column out of the selection.")
    if node.state is None:
        raise Refusal("it is not fitted.", "Fit the graph first.")
    rows = node.state["sizes"].filter(pl.col("column") == column)
    if not rows.height:
        raise Refusal("its state does not hold this column.", "Fit the graph again.")
    dtype = rows["dtype"][0]
    if dtype == x.type.dtype:
        return x
    if is_float(x.type.dtype):
        if dtype not in ("float32", "float64"):
            raise Refusal(f"float_dtype {dtype} is not supported.", 'Use "float32" or "float64".')
        return Cast(x, dtype)
    if not (is_integer(x.type.dtype) and is_integer(dtype)):
        raise Refusal(f"its state makes {dtype} of {x.type.dtype}.", "Fit the graph again.")
    return Wrap(x, dtype)
