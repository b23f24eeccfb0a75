"""Fit a FeatureGraph: `fit` in engine.py, one FitRule per fitted operator in a module for each family."""

from etl.fit import categorical, continuous
from etl.fit.engine import ROWS_PER_SLICE, fit
from etl.fit.rule import RULES, FitRule

__all__ = ["ROWS_PER_SLICE", "RULES", "FitRule", "categorical", "continuous", "fit"]
