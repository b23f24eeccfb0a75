"""Operators on missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.operators import Operator, add, tables
from etl.operators.kinds import FLAG, NUMBERS, SCALAR, by_column, by_name, either

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref


def filled_from(node: OpNode, output: str) -> tuple[Ref, ...]:
    """Return the input of a filled column, or of the column that says where it was filled."""
    return tuple(ref for ref in node.inputs if output in (ref.column, f"{ref.column}_filled"))


add(
    Operator(
        "FillMedian",
        "Nulls and NaN become the median.",
        fitted=True,
        sources=filled_from,
        params={"add_binary_cols": FLAG},
        tables=tables(medians=by_column(median=NUMBERS)),
    ),
    Operator(
        "FillMissing",
        "Nulls and NaN become a constant.",
        sources=filled_from,
        params={"fill_val": either(SCALAR, by_name(SCALAR)), "add_binary_cols": FLAG},
    ),
)
