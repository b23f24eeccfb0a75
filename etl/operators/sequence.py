"""Operators on lists."""

from __future__ import annotations

from etl.operators import Operator, add

add(
    Operator(
        "ListSlice", "A slice of each list, padded to a fixed length if asked for.", passes_through=True, strict=True
    )
)
