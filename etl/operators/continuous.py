"""Operators on numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from etl.operators import Operator, add

if TYPE_CHECKING:
    from etl.graph import OpNode


def _bins(node: OpNode, column: str) -> int | None:
    boundaries = node.params["boundaries"]
    return len(boundaries[column] if isinstance(boundaries, Mapping) else boundaries) + 1


add(
    Operator("Bucketize", "The number of the bin between boundaries that a value falls into.", cardinality=_bins),
    Operator("Clip", "Values below or above a bound become the bound."),
    Operator("LogOp", "Natural logarithm of 1 + x."),
    Operator("Normalize", "(x - mean) / standard deviation.", fitted=True),
    Operator("NormalizeMinMax", "(x - min) / (max - min).", fitted=True, strict=True),
)
