"""How well scores of the test rows tell clicks from the others: metrics with intervals, and curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from training.config import EvaluateConfig

Array = npt.NDArray[Any]
CLICK_METRICS = ("auc", "logloss", "ece")
CURVE_POINTS = 101


def click_metrics(
    labels: Array, scores: Array, config: EvaluateConfig, seed: int
) -> tuple[dict[str, dict[str, float | None]], dict[str, Any]]:
    """Return {metric: {value, low, high}} and the curves of the probabilities `scores` [rows] for `labels` [rows]."""
    from training.evaluation.clicks import evaluate

    found = evaluate(labels, scores, config, seed=seed)
    metrics = {
        name: {"value": found[name], "low": found[f"{name}_low"], "high": found[f"{name}_high"]}
        for name in CLICK_METRICS
    }
    return metrics, {"roc": found["roc"], "calibration": found["calibration"], **curves(labels, scores)}


def curves(labels: Array, scores: Array) -> dict[str, dict[str, list[float]]]:
    """Return precision by recall, and gain and lift by the share of rows taken from the highest score down.

    Rows of one score are taken together: in between, the curves are straight lines.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])  # the last row of every distinct score
    hits, taken = np.cumsum(labels[order].astype("int64"))[last], last + 1.0
    share, gain = np.r_[0.0, taken / len(labels)], np.r_[0.0, hits / max(1, hits[-1])]
    at = np.linspace(0, 1, CURVE_POINTS)
    found = np.interp(at, share, gain)
    recalls, precisions = hits / max(1, hits[-1]), hits / taken
    return {
        "pr": {"recall": at[1:].tolist(), "precision": np.interp(at[1:], recalls, precisions).tolist()},
        "gain": {"share": at.tolist(), "found": found.tolist()},
        "lift": {"share": at[1:].tolist(), "lift": (found[1:] / at[1:]).tolist()},
    }


def ranked_click_metrics(
    labels: Array, scores: Array, config: EvaluateConfig, seed: int
) -> tuple[dict[str, dict[str, float | None]], dict[str, Any]]:
    """Return AUC and the curves of scores that are no probabilities: only their order counts."""
    from scipy.stats import rankdata

    shares = (rankdata(scores, "dense") / (len(np.unique(scores)) + 1)).astype("float64")
    metrics, found = click_metrics(labels, shares, config, seed)
    return {"auc": metrics["auc"]}, {name: found[name] for name in ("roc", "pr", "gain", "lift")}
