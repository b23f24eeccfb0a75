"""FillMissing and FillMedian."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from etl.compiler.expr import Cast, Expr, FillNull, IsNull, Refusal, Scalar
from etl.compiler.lowering import RULES, Refusals
from etl.dtypes import is_float, is_integer
from etl.graph import OpNode


@RULES.register("FillMissing")
def fill_missing(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """Nulls and NaN become `fill_val`; `add_binary_cols` adds `<column>_filled`, true where that was done."""
    lowered: dict[str, Expr] = {}
    refusals = []
    for column, x in inputs.items():
        try:
            lowered[column] = _filled(x, column, node)
            if node.params.get("add_binary_cols"):
                lowered[f"{column}_filled"] = IsNull(x)
        except Refusal as refusal:
            refusal.columns = (column,)
            refusals.append(refusal)
    if refusals:
        raise Refusals(refusals, lowered)
    return lowered


def _filled(x: Expr, column: str, node: OpNode) -> Expr:
    """A null list is an empty one already, and what is null inside a list stays; a dict is by column."""
    value = node.params.get("fill_val", 0)
    if isinstance(value, Mapping):
        if node.params.get("add_binary_cols"):
            raise Refusal("in NVTabular a dict with add_binary_cols is by row number.", "Use one fill_val.")
        return FillNull(x, _value(x, value[column])) if column in value else x
    if x.type.is_list:
        if node.params.get("add_binary_cols"):
            raise Refusal("a list is never filled.", "Leave out add_binary_cols for lists.")
        return x
    return FillNull(x, _value(x, value))


@RULES.register("FillMedian")
def fill_median(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """Nulls and NaN become the column's median; integers become float64, for the median need not be one."""
    lowered: dict[str, Expr] = {}
    refusals = []
    for column, x in inputs.items():
        try:
            number = _number(x)
            lowered[column] = FillNull(number, _median(node, column, number.type.dtype))
            if node.params.get("add_binary_cols"):
                lowered[f"{column}_filled"] = IsNull(x)
        except Refusal as refusal:
            refusal.columns = (column,)
            refusals.append(refusal)
    if refusals:
        raise Refusals(refusals, lowered)
    return lowered


def _number(x: Expr) -> Expr:
    if x.type.is_list or not (is_float(x.type.dtype) or is_integer(x.type.dtype)):
        raise Refusal("it takes numbers.", "Take the column out of the selection.")
    return x if is_float(x.type.dtype) else Cast(x, "float64")


def _median(node: OpNode, column: str, dtype: str) -> float:
    if node.state is None:
        raise Refusal("it is not fitted.", "Fit the graph first.")
    rows = node.state["medians"].filter(pl.col("column") == column)
    if not rows.height:
        raise Refusal("its state does not hold this column.", "Fit the graph again.")
    return float(np.dtype(dtype).type(rows["median"][0]))


def _value(x: Expr, value: Scalar) -> Scalar:
    """Return `value` as x's type has it; Refusal if it cannot."""
    dtype = x.type.dtype
    if is_float(dtype) and isinstance(value, int | float):
        return float(value)
    whole = isinstance(value, int | float) and float(value).is_integer()
    if is_integer(dtype) and whole and np.iinfo(dtype).min <= int(value) <= np.iinfo(dtype).max:
        return int(value)
    if dtype == "string" and isinstance(value, str) and value:
        return value
    raise Refusal(f"fill_val {value!r} is not a value of type {dtype}.", "Give a fill_val of the column's own type.")
