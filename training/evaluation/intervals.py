"""Means over users with bootstrap intervals: users are drawn again, not rows, since a user's rows belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from training.config import EvaluateConfig
from training.data import Array


def means(values: Mapping[str, Array], config: EvaluateConfig, seed: int = 0) -> dict[str, dict[str, float | None]]:
    """The mean of each array [users] as {value, low, high}; the last two are null without bootstrap.

    Percentile intervals; every array is resampled by the same users.
    """
    if not values:
        return {}
    table = np.column_stack([np.asarray(each, "float64") for each in values.values()])
    drawn = resampled(table, config.bootstrap, seed)
    bounds = np.quantile(drawn, tails(config), axis=0) if len(drawn) else np.full((2, table.shape[1]), np.nan)
    return {name: interval(table[:, place].mean(), *bounds[:, place]) for place, name in enumerate(values)}


def resampled(table: Array, count: int, seed: int) -> Array:
    """Means of `count` bootstrap resamples of the rows of [users, columns]; float64 [count, columns]."""
    random, users = np.random.default_rng(seed), len(table)
    made = np.empty((count, table.shape[1]))
    for row in made:
        row[:] = np.bincount(random.integers(0, users, users), minlength=users) @ table / users
    return made


def tails(config: EvaluateConfig) -> tuple[float, float]:
    """The two quantiles of an interval."""
    tail = (1 - config.confidence) / 2
    return tail, 1 - tail


def interval(value: float, low: float, high: float) -> dict[str, Any]:
    """A value and its bounds as JSON: NaN becomes null."""
    made = {"value": float(value), "low": float(low), "high": float(high)}
    return {name: None if np.isnan(number) else number for name, number in made.items()}
