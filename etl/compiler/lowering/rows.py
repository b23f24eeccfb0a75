"""DifferenceLag: a row less an earlier one, over all rows in their order; NVTabular begins anew in every partition."""

from __future__ import annotations

from collections.abc import Mapping

from etl.compiler.arithmetic import And, Compare, Difference, Where
from etl.compiler.expr import Cast, Const, Expr, Refusal, Shift
from etl.compiler.lowering import RULES, Refusals
from etl.dtypes import is_float, is_integer
from etl.graph import OpNode
from etl.operators.rows import lags, names


@RULES.register("DifferenceLag")
def difference_lag(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """x less x so many rows before, float32; NaN where the partition columns differ, or one of them is missing."""
    lowered: dict[str, Expr] = {}
    refusals = []
    for column in node.outputs:
        name, by = lags(node)[column.name]
        try:
            lowered[column.name] = _lag(node, inputs, name, by)
        except Refusal as refusal:
            refusal.columns = (name,)
            refusals.append(refusal)
    if refusals:
        raise Refusals(refusals, lowered)
    return lowered


def _lag(node: OpNode, inputs: Mapping[str, Expr], name: str, by: int) -> Expr:
    keys = names(node, "partition_cols")
    if missing := [key for key in keys if key not in inputs]:
        raise Refusal(f"partition_cols names {missing[0]!r}, which it does not get.", "Select that column.")
    x = inputs[name]
    if x.type.is_list or not (is_float(x.type.dtype) or is_integer(x.type.dtype)):
        raise Refusal("it subtracts numbers only.", "Turn a datetime into seconds first (LambdaOp).")
    value = x if is_float(x.type.dtype) else Cast(x, "float64")  # as pandas does, for the first row has none
    same: Expr | None = None
    for key in keys:
        here = Compare("eq", inputs[key], Shift(inputs[key], by))
        same = here if same is None else And(same, here)
    made = Difference(value, Shift(value, by))
    if same is not None:
        made = Where(same, made, Const(float("nan"), made.type.dtype))  # type: ignore[assignment]
    return made if made.type.dtype == "float32" else Cast(made, "float32")
