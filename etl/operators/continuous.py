"""Operators on numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from etl.operators import Operator, add, tables
from etl.operators.kinds import COUNTS, FLOATS, NUMBER, NUMBERS, by_column, by_name, either, list_of, optional, required

if TYPE_CHECKING:
    from etl.graph import OpNode

_MOST_BOUNDARIES = 65_536
_BOUNDARIES = list_of(NUMBER, _MOST_BOUNDARIES)


def _bins(node: OpNode, column: str) -> int | None:
    boundaries = node.params["boundaries"]
    found = boundaries.get(column) if isinstance(boundaries, Mapping) else boundaries
    return None if found is None else len(found) + 1


add(
    Operator(
        "Bucketize",
        "The number of the bin between boundaries that a value falls into.",
        cardinality=_bins,
        params={"boundaries": required(either(_BOUNDARIES, by_name(_BOUNDARIES)))},
    ),
    Operator(
        "Clip",
        "Values below or above a bound become the bound.",
        params={"min_value": optional(NUMBER), "max_value": optional(NUMBER)},
    ),
    Operator("LogOp", "Natural logarithm of 1 + x."),
    Operator(
        "Normalize",
        "(x - mean) / standard deviation.",
        fitted=True,
        params={"out_dtype": optional(FLOATS)},
        tables=tables(moments=by_column(count=COUNTS, mean=NUMBERS, std=NUMBERS)),
    ),
    Operator(
        "NormalizeMinMax",
        "(x - min) / (max - min).",
        fitted=True,
        strict=True,
        params={"out_dtype": optional(FLOATS)},
        tables=tables(ranges=by_column(min=NUMBERS, max=NUMBERS)),
    ),
)
