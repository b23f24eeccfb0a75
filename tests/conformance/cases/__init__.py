"""The cases, one module per family of operators."""

from tests.conformance.cases import (
    categorical,
    continuous,
    joins,
    missing,
    rows,
    sequence,
    statistics,
    structural,
    traced,
)

CASES = [
    case
    for module in (categorical, continuous, joins, missing, rows, sequence, statistics, structural, traced)
    for case in module.CASES
]
