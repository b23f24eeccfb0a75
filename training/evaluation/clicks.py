"""How good a model's scores are: AUC, log loss and calibration, with intervals, against two baselines.

Point values are scikit-learn's. Intervals are percentiles over bootstrap resamples of the rows; a resample is a weight
for every row, so that AUC, log loss and calibration of all resamples come from one sort of the scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

from etl.atomic import write_text
from etl.errors import DataError
from etl.names import SCORE
from etl.progress import Progress, silent
from training import data
from training.config import EvaluateConfig
from training.predict import predict, read_features
from training.train import read_training

# Clicks an item must have shown before its own rate counts for more than the average.
_PRIOR_ROWS = 20.0
_CURVE_POINTS = 201
_SMALLEST = 1e-7


def evaluate(
    labels: data.Array,
    scores: data.Array,
    config: EvaluateConfig,
    baselines: dict[str, data.Array] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge `scores` (probabilities, [rows]) by `labels` (0 or 1, [rows]) and return plain JSON values.

    Keys: rows, click_rate; auc, logloss and ece, each with _low and _high (null without bootstrap); confidence,
    bootstrap; `baselines`, the same metrics and `roc` for each given score array; `roc` {fpr, tpr}; `calibration`, a
    list of {predicted, observed, rows}; `histogram` {edges, negatives, positives}. DataError when the arrays differ in
    length, hold NaN, or one class only.
    """
    labels, scores = _checked(labels, scores)
    found: dict[str, Any] = {"rows": len(labels), "click_rate": float(labels.mean())}
    found |= figures(labels, scores, config, seed)
    found["confidence"], found["bootstrap"] = config.confidence, config.bootstrap
    found["baselines"] = {
        name: {**figures(*_checked(labels, values), config, seed), "roc": _roc(labels, values)}
        for name, values in (baselines or {}).items()
    }
    found["roc"] = _roc(labels, scores)
    found["calibration"] = _calibration(labels, scores, config.calibration_bins)
    edges = np.linspace(0, 1, 51)
    counts = {
        name: np.histogram(scores[labels == value], edges)[0].tolist()
        for value, name in enumerate(("negatives", "positives"))
    }
    found["histogram"] = {"edges": edges.tolist(), **counts}
    return found


def evaluate_model(
    model: Path, features: Path, config: EvaluateConfig, out: Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Judge the model folder on `features/test`, with baselines counted on `features/train`; writes `out` if given.

    The baselines: `constant`, the training click rate, and `popularity`, the smoothed click rate of the row's item
    (absent when no feature is tagged item_id). A model of several labels is judged by the first one; `labels` has
    {rows, click_rate, auc, logloss and ece with intervals, constant} for each of them.
    """
    facts = read_training(model)
    test, label = features / "test", facts["label"]
    data.check_labels(test, label)
    labels, scores = data.labels(test, label), predict(model, test, progress)
    baselines = {"constant": np.full(len(labels), facts["click_rate"], "float64")}
    item = data.tagged(read_features(facts), "item_id")
    if item is not None and item.length is None:
        baselines["popularity"] = popularity(features / "train", test, item.name, label)
    found = evaluate(labels, scores, config, baselines, facts["seed"])
    if facts.get("others"):
        found["labels"] = _each_label(model, test, facts, config)
    if out is not None:
        write_text(out, json.dumps(found, indent=1))
    return found


def _each_label(model: Path, test: Path, facts: dict[str, Any], config: EvaluateConfig) -> dict[str, Any]:
    """The figures of every label, and as `constant` those of its rate in the training rows."""
    found = {}
    for label in (facts["label"], *facts["others"]):
        labels, scores = _checked(data.labels(test, label), predict(model, test, output=f"{SCORE}_{label}"))
        constant = np.full(len(labels), facts["rates"][label], "float64")
        found[label] = {
            "rows": len(labels),
            "click_rate": float(labels.mean()),
            **figures(labels, scores, config, facts["seed"]),
            "constant": figures(labels, constant, config, facts["seed"]),
        }
    return found


def popularity(train: Path, test: Path, item: str, label: str) -> data.Array:
    """Each test row's item click rate in the training rows, drawn towards the overall rate; float64 [rows]."""
    counted = (
        pl.scan_parquet(data.parts(train)).group_by(item).agg(clicks=pl.col(label).sum(), shown=pl.len()).collect()
    )
    clicks, shown = counted.select(pl.col("clicks").sum(), pl.col("shown").sum()).row(0)
    overall = clicks / shown
    rates = counted.select(item, rate=(pl.col("clicks") + _PRIOR_ROWS * overall) / (pl.col("shown") + _PRIOR_ROWS))
    rows = pl.scan_parquet(data.parts(test)).select(item).collect()
    return rows.join(rates, on=item, how="left", maintain_order="left")["rate"].fill_null(overall).to_numpy()


def _checked(labels: data.Array, scores: data.Array) -> tuple[data.Array, data.Array]:
    labels, scores = np.asarray(labels).astype("int8"), np.asarray(scores, "float64")
    if labels.shape != scores.shape or labels.ndim != 1:
        raise DataError("scores", expected=f"one for each of {len(labels)} labels", received=f"shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise DataError("scores", expected="numbers", received=f"{int((~np.isfinite(scores)).sum())} NaN or infinite")
    if len(set(np.unique(labels).tolist()) & {0, 1}) < 2:
        raise DataError("labels", expected="both classes", received=f"{len(labels)} rows of one class or none")
    return labels, scores


def figures(labels: data.Array, scores: data.Array, config: EvaluateConfig, seed: int) -> dict[str, float | None]:
    """AUC, log loss and ECE of checked arrays, each with _low and _high (null without bootstrap)."""
    order = np.argsort(scores, kind="stable")
    sorted_rows = SortedRows(labels[order].astype("float64"), scores[order])
    points = {
        "auc": float(roc_auc_score(labels, scores)),
        "logloss": float(log_loss(labels, np.clip(scores, _SMALLEST, 1 - _SMALLEST))),
        "ece": sorted_rows.ece(np.ones(len(labels)), config.calibration_bins),
    }
    found: dict[str, float | None] = {}
    samples = _bootstrap(sorted_rows, config, seed)
    if len(samples):
        # Drawing rows twice adds noise to every bin and so raises the calibration error: its spread is kept, its
        # centre is the value itself (bias-corrected percentiles; Efron and Tibshirani 1993, chapter 10).
        samples[:, 2] = np.maximum(samples[:, 2] - np.median(samples[:, 2]) + points["ece"], 0)
    tail = (1 - config.confidence) / 2
    for column, (name, value) in enumerate(points.items()):
        low, high = np.nanquantile(samples[:, column], [tail, 1 - tail]) if len(samples) else (None, None)
        found |= {
            name: value,
            f"{name}_low": low if low is None else float(low),
            f"{name}_high": high if high is None else float(high),
        }
    return found


def _bootstrap(rows: SortedRows, config: EvaluateConfig, seed: int) -> data.Array:
    """[resamples, 3]: AUC, log loss and ECE; NaN for the AUC of a resample of one class."""
    random, count = np.random.default_rng(seed), len(rows.labels)
    samples = np.empty((config.bootstrap, 3))
    for sample in samples:
        weights = np.bincount(random.integers(0, count, count), minlength=count).astype("float64")
        sample[:] = rows.auc(weights), rows.logloss(weights), rows.ece(weights, config.calibration_bins)
    return samples


class SortedRows:
    """Rows in order of their scores; every metric takes how often each row counts (whole numbers as float64)."""

    def __init__(self, labels: data.Array, scores: data.Array) -> None:
        self.labels, self.scores = labels, scores
        self.starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])  # first row of every distinct score
        clipped = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
        self.losses = -np.where(labels > 0, np.log(clipped), np.log1p(-clipped))

    def auc(self, weights: data.Array) -> float:
        """Share of (click, no click) pairs in the right order; a tie counts half."""
        clicks = np.add.reduceat(weights * self.labels, self.starts)
        others = np.add.reduceat(weights * (1 - self.labels), self.starts)
        pairs = clicks.sum() * others.sum()
        below = np.cumsum(others) - others
        return float((clicks * (below + others / 2)).sum() / pairs) if pairs else float("nan")

    def logloss(self, weights: data.Array) -> float:
        """Mean negative log likelihood."""
        return float(weights @ self.losses / weights.sum())

    def bins(self, weights: data.Array, count: int) -> data.Array:
        """First rows of up to `count` bins of equal weight; rows of one score are never divided."""
        below = np.r_[0, np.cumsum(weights)]
        wanted = -(-int(below[-1]) * np.arange(count) // count)
        first = np.searchsorted(below, wanted, side="right") - 1
        groups = np.searchsorted(self.starts, np.minimum(first, len(weights) - 1), side="right") - 1
        starts: data.Array = np.unique(self.starts[groups])
        return starts

    def ece(self, weights: data.Array, count: int) -> float:
        """Mean distance between predicted and observed rate over the bins, by their weight."""
        return float(
            np.abs(np.add.reduceat(weights * (self.labels - self.scores), self.bins(weights, count))).sum()
            / weights.sum()
        )


def _roc(labels: data.Array, scores: data.Array) -> dict[str, list[float]]:
    fpr, tpr, _ = roc_curve(labels, scores)
    at = np.linspace(0, 1, _CURVE_POINTS)
    return {"fpr": at.tolist(), "tpr": np.interp(at, fpr, tpr).tolist()}


def _calibration(labels: data.Array, scores: data.Array, count: int) -> list[dict[str, float]]:
    order = np.argsort(scores, kind="stable")
    rows = SortedRows(labels[order].astype("float64"), scores[order])
    ones = np.ones(len(labels))
    starts = rows.bins(ones, count)
    sizes, clicks, predicted = (np.add.reduceat(values, starts) for values in (ones, rows.labels, rows.scores))
    return [
        {"predicted": float(p / n), "observed": float(c / n), "rows": int(n)}
        for n, c, p in zip(sizes, clicks, predicted, strict=True)
    ]
