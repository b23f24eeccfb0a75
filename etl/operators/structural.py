"""Operators that keep values as they are: names, tags and properties."""

from __future__ import annotations

from etl.operators import TAGGING, Operator, add

add(
    Operator("Rename", "The column under another name.", passes_through=True),
    *(Operator(name, summary, passes_through=True) for name, summary in TAGGING.items()),
)
