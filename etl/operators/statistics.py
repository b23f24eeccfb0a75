"""Operators that pass values on and learn something of them: ranges, lengths, cardinalities."""

from __future__ import annotations

from etl.operators import Operator, add, tables
from etl.operators.kinds import ANY_INTEGERS, COUNTS, FLOATS, NUMBERS, TYPES, by_column, optional, whole

_MEASURES = dict.fromkeys(("min", "max", "mean", "std", "per_nan"), NUMBERS)

add(
    Operator(
        "DataStats",
        "Values as they are; their statistics go to the schema.",
        fitted=True,
        passes_through=True,
        tables=tables(stats=by_column(cardinality=COUNTS, **_MEASURES)),
    ),
    Operator(
        "DropLowCardinality",
        "Without the categorical columns of few values.",
        passes_through=True,
        params={"min_cardinality": whole()},
    ),
    Operator(
        "ReduceDtypeSize",
        "Integers in the smallest type that holds them; float32.",
        fitted=True,
        passes_through=True,
        params={"float_dtype": optional(FLOATS)},
        tables=tables(sizes=by_column(dtype=TYPES, min=ANY_INTEGERS, max=ANY_INTEGERS)),
    ),
    Operator(
        "ValueCount",
        "Values as they are; lengths of lists go to the schema.",
        fitted=True,
        passes_through=True,
        tables=tables(lengths=by_column(min=COUNTS, max=COUNTS)),
    ),
)
