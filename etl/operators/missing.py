"""Operators on missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.operators import Operator, add

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref


def filled_from(node: OpNode, output: str) -> tuple[Ref, ...]:
    """Return the input of a filled column, or of the column that says where it was filled."""
    return tuple(ref for ref in node.inputs if output in (ref.column, f"{ref.column}_filled"))


add(
    Operator("FillMedian", "Nulls and NaN become the median.", fitted=True, sources=filled_from),
    Operator("FillMissing", "Nulls and NaN become a constant.", sources=filled_from),
)
