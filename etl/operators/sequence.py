"""Operators on lists."""

from __future__ import annotations

from etl.operators import Operator, add
from etl.operators.kinds import FLAG, LONGEST_LIST, SCALAR, optional, required, whole

add(
    Operator(
        "ListSlice",
        "A slice of each list, padded to a fixed length if asked for.",
        passes_through=True,
        strict=True,
        params={
            "start": required(whole(-LONGEST_LIST)),
            "end": optional(whole()),
            "pad": FLAG,
            "pad_value": SCALAR,
        },
    )
)
