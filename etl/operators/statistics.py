"""Operators that pass values on and learn something of them: ranges, lengths, cardinalities."""

from __future__ import annotations

from etl.operators import Operator, add

add(
    Operator("DataStats", "Values as they are; their statistics go to the schema.", fitted=True, passes_through=True),
    Operator("DropLowCardinality", "Without the categorical columns of few values.", passes_through=True),
    Operator(
        "ReduceDtypeSize",
        "Integers in the smallest type that holds them; float32.",
        fitted=True,
        passes_through=True,
    ),
    Operator("ValueCount", "Values as they are; lengths of lists go to the schema.", fitted=True, passes_through=True),
)
