"""Fit a FeatureGraph: `fit` in engine.py, one FitRule per fitted operator in a module for each family."""

from etl.fit import categorical, continuous, joins, missing, passing
from etl.fit.engine import ROWS_PER_SLICE, fit, fit_statistics
from etl.fit.rule import RULES, FitRule

__all__ = [
    "ROWS_PER_SLICE",
    "RULES",
    "FitRule",
    "categorical",
    "continuous",
    "fit",
    "fit_statistics",
    "joins",
    "missing",
    "passing",
]
