"""FillMissing."""

from __future__ import annotations

from collections.abc import Mapping

from etl.compiler.expr import Expr, FillNull, IsNull, Refusal, Scalar
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
            lowered[column] = FillNull(x, _value(x, node.params.get("fill_val", 0)))
            if node.params.get("add_binary_cols"):
                lowered[f"{column}_filled"] = IsNull(x)
        except Refusal as refusal:
            refusal.columns = (column,)
            refusals.append(refusal)
    if refusals:
        raise Refusals(refusals, lowered)
    return lowered


def _value(x: Expr, value: Scalar) -> Scalar:
    """Return `value` as x's type has it; Refusal if it cannot."""
    dtype = x.type.dtype
    if x.type.is_list:
        raise Refusal("NVTabular fills a null list with a scalar.", "Fill the column before it becomes a list.")
    if is_float(dtype) and isinstance(value, int | float):
        return float(value)
    if is_integer(dtype) and isinstance(value, int | float) and float(value).is_integer():
        return int(value)
    if dtype == "string" and isinstance(value, str) and value:
        return value
    raise Refusal(f"fill_val {value!r} is not a value of type {dtype}.", "Give a fill_val of the column's own type.")
