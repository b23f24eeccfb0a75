"""Whether one recommender is better than another for the same users, or its scores for the same rows.

The test of a mean over users is a permutation test: under the null hypothesis each user's difference is as likely to
have the other sign. p values of several comparisons are adjusted by Holm's method (1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from etl.errors import DataError
from training.config import EvaluateConfig
from training.data import Array
from training.evaluation.clicks import SortedRows
from training.evaluation.intervals import interval, resampled, tails

PERMUTATIONS = 10_000
_AT_ONCE = 2_000_000


def paired(ours: Array, theirs: Array, config: EvaluateConfig, seed: int = 0) -> dict[str, Any]:
    """Compare two arrays [users] of the same users: {value, low, high, p_value} of the mean difference.

    `p_value` is two-sided. DataError when the arrays are not of the same users.
    """
    ours, theirs = np.asarray(ours, "float64"), np.asarray(theirs, "float64")
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise DataError("paired metrics", expected="the same users", received=f"{ours.shape} and {theirs.shape}")
    difference = ours - theirs
    drawn = resampled(difference[:, None], config.bootstrap, seed)
    bounds = np.quantile(drawn[:, 0], tails(config)) if len(drawn) else (np.nan, np.nan)
    return {**interval(difference.mean(), *bounds), "p_value": permutation_test(difference, seed)}


def permutation_test(difference: Array, seed: int = 0, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p value of the mean of paired differences [users], by random signs; never below 1 / permutations."""
    moved = difference[difference != 0]
    if not len(moved):
        return 1.0
    random, extreme, observed = np.random.default_rng(seed), 0, abs(moved.sum())
    step = max(1, _AT_ONCE // len(moved))
    for start in range(0, permutations, step):
        signs = random.integers(0, 2, (min(step, permutations - start), len(moved)), dtype="int8")
        sums = np.abs(2 * (signs @ moved) - moved.sum())
        extreme += int((sums >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (permutations + 1)


def paired_auc(labels: Array, ours: Array, theirs: Array, config: EvaluateConfig, seed: int = 0) -> dict[str, Any]:
    """Compare two score arrays [rows] of the same labels by AUC: {value, low, high, p_value}, by a paired bootstrap.

    `p_value` is two-sided: twice the share of resamples on the other side of 0.
    """
    orders = [np.argsort(scores, kind="stable") for scores in (ours, theirs)]
    rows = [
        SortedRows(labels[order].astype("float64"), np.asarray(scores, "float64")[order])
        for order, scores in zip(orders, (ours, theirs), strict=True)
    ]

    def difference(weights: Array) -> float:
        first, second = (each.auc(weights[order]) for each, order in zip(rows, orders, strict=True))
        return first - second

    random, count = np.random.default_rng(seed), len(labels)
    drawn = np.array(
        [
            difference(np.bincount(random.integers(0, count, count), minlength=count).astype("float64"))
            for _ in range(config.bootstrap)
        ]
    )
    value = difference(np.ones(count))
    if not len(drawn):
        return {**interval(value, np.nan, np.nan), "p_value": None}
    other_side = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p_value = min(1.0, 2 * (int(other_side) + 1) / (len(drawn) + 1))
    return {**interval(value, *np.quantile(drawn, tails(config))), "p_value": p_value}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the order given: the chance of a single false finding among all is kept below each."""
    given = np.asarray(p_values, "float64")
    order = np.argsort(given, kind="stable")
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def against(
    baseline: Mapping[str, Array],
    models: Mapping[str, Mapping[str, Array]],
    metrics: Sequence[str],
    config: EvaluateConfig,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare every model with the baseline by every metric: {model: {metric: {value, low, high, p_value, p_holm}}}.

    Holm's adjustment covers all comparisons of the call.
    """
    pairs = [(model, metric) for model in models for metric in metrics]
    found = [paired(models[model][metric], baseline[metric], config, seed) for model, metric in pairs]
    made: dict[str, dict[str, dict[str, Any]]] = {model: {} for model in models}
    for (model, metric), each, adjusted in zip(pairs, found, holm([each["p_value"] for each in found]), strict=True):
        made[model][metric] = {**each, "p_holm": adjusted}
    return made
