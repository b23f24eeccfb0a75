"""Operators that keep values as they are: names, tags and properties."""

from __future__ import annotations

from etl.operators import TAGGING, Operator, add
from etl.operators.kinds import NAME, NAMES, PROPERTIES

add(
    Operator("Rename", "The column under another name.", passes_through=True, params={"postfix": NAME, "name": NAME}),
    *(
        Operator(name, summary, passes_through=True, params={"tags": NAMES, "properties": PROPERTIES})
        for name, summary in TAGGING.items()
    ),
)
