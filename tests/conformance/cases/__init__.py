"""The cases, one module per family of operators."""

from tests.conformance.cases import categorical, continuous, missing, sequence, structural

CASES = [case for module in (categorical, continuous, missing, sequence, structural) for case in module.CASES]
