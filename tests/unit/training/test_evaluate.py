"""Metrics against scikit-learn, intervals against what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from etl.errors import DataError
from training.config import EvaluateConfig
from training.evaluation.clicks import SortedRows, evaluate, popularity

from .conftest import write_split


def _scored(count: int, seed: int = 0, decimals: int = 17) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logit = random.normal(-1, 1, count)
    scores = 1 / (1 + np.exp(-logit))
    return (random.random(count) < scores).astype("int8"), np.round(scores, decimals)


@pytest.mark.parametrize("decimals", [17, 2, 1])
def test_point_values_and_weighted_values_are_those_of_sklearn(decimals: int) -> None:
    labels, scores = _scored(2000, decimals=decimals)
    scores = np.clip(scores, 1e-3, 1 - 1e-3)
    found = evaluate(labels, scores, EvaluateConfig(bootstrap=0))
    assert found["auc"] == roc_auc_score(labels, scores)
    assert found["logloss"] == log_loss(labels, scores)
    assert found["auc_low"] is None
    order = np.argsort(scores, kind="stable")
    rows, weights = (
        SortedRows(labels[order].astype(float), scores[order]),
        np.random.default_rng(1).integers(0, 4, 2000).astype(float),
    )
    assert rows.auc(weights) == pytest.approx(roc_auc_score(labels[order], scores[order], sample_weight=weights))
    assert rows.logloss(weights) == pytest.approx(log_loss(labels[order], scores[order], sample_weight=weights))
    repeated = np.repeat(np.arange(2000), weights.astype(int))
    again = SortedRows(labels[order][repeated].astype(float), scores[order][repeated])
    assert rows.ece(weights, 10) == pytest.approx(again.ece(np.ones(len(repeated)), 10))


def test_ece_by_hand() -> None:
    labels = np.array([0, 1, 1, 1])
    scores = np.array([0.1, 0.3, 0.8, 0.6])
    found = evaluate(labels, scores, EvaluateConfig(bootstrap=0, calibration_bins=2))
    assert found["ece"] == pytest.approx((abs(1 - 0.4) + abs(2 - 1.4)) / 4)
    assert [bin["rows"] for bin in found["calibration"]] == [2, 2]
    assert found["calibration"][0] == pytest.approx({"predicted": 0.2, "observed": 0.5, "rows": 2})


def test_rows_of_one_score_share_a_bin() -> None:
    labels = np.array([0, 0, 0, 1] * 100)
    found = evaluate(labels, np.full(400, 0.25), EvaluateConfig(bootstrap=20))
    assert found["ece"] == 0
    assert found["auc"] == 0.5 == found["auc_low"] == found["auc_high"]
    assert len(found["calibration"]) == 1


def test_intervals_hold_the_true_value_as_often_as_they_say() -> None:
    labels, scores = _scored(200_000)
    true_auc, true_loss = roc_auc_score(labels, scores), log_loss(labels, scores)
    hits = np.zeros(2)
    for start in range(0, 100_000, 1000):
        part = slice(start, start + 1000)
        found = evaluate(labels[part], scores[part], EvaluateConfig(bootstrap=100, confidence=0.8))
        hits += (
            found["auc_low"] <= true_auc <= found["auc_high"],
            found["logloss_low"] <= true_loss <= found["logloss_high"],
        )
    assert 66 <= hits[0] <= 92  # 80 expected of 100; four standard deviations
    assert 66 <= hits[1] <= 92


def test_the_same_seed_gives_the_same_intervals() -> None:
    labels, scores = _scored(500)
    assert evaluate(labels, scores, EvaluateConfig(), seed=1) == evaluate(labels, scores, EvaluateConfig(), seed=1)


def test_curves_are_complete() -> None:
    labels, scores = _scored(3000)
    found = evaluate(labels, scores, EvaluateConfig(bootstrap=0), {"constant": np.full(3000, 0.3)})
    fpr, tpr = np.array(found["roc"]["fpr"]), np.array(found["roc"]["tpr"])
    assert (fpr[0], fpr[-1], tpr[-1]) == (0, 1, 1)
    assert np.trapz(tpr, fpr) == pytest.approx(found["auc"], abs=0.01)
    assert sum(found["histogram"]["negatives"]) == (labels == 0).sum()
    assert sum(found["histogram"]["positives"]) == labels.sum()
    assert sum(bin["rows"] for bin in found["calibration"]) == 3000
    assert found["baselines"]["constant"]["auc"] == 0.5


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([0, 1], [0.1], "one for each"),
        ([0, 1], [0.1, np.nan], "NaN"),
        ([1, 1], [0.1, 0.2], "both classes"),
        ([], [], "both classes"),
    ],
)
def test_what_cannot_be_judged_is_refused(labels: list[int], scores: list[float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        evaluate(np.array(labels), np.array(scores), EvaluateConfig())


def test_popularity_is_a_smoothed_rate_and_the_average_for_unseen_items(tmp_path: Path) -> None:
    train = pl.DataFrame({"item": [3] * 60 + [4] * 20, "clicked": [1] * 30 + [0] * 50})
    write_split(tmp_path / "train", {name: train[name].to_numpy() for name in train.columns})
    write_split(tmp_path / "test", {"item": np.array([4, 9, 3]), "clicked": np.array([0, 1, 0])})
    overall = 30 / 80
    expected = [(0 + 20 * overall) / 40, overall, (30 + 20 * overall) / 80]
    np.testing.assert_allclose(popularity(tmp_path / "train", tmp_path / "test", "item", "clicked"), expected)
