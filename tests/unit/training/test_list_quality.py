"""Beyond accuracy, slices and significance: planted cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import ttest_rel

from etl.errors import DataError
from training.config import EvaluateConfig
from training.evaluation import beyond_accuracy, slices
from training.evaluation.clicks import evaluate
from training.evaluation.interactions import Cases, Interactions
from training.evaluation.ranking import Ranked, found, measures
from training.evaluation.significance import against, holm, paired, paired_auc
from training.inputs import Feature

FEW = EvaluateConfig(bootstrap=60)
# Items 3 to 6: had by 4, 2, 1 and 1 of four users.
TRAIN = Interactions(np.array([3, 4, 5, 6, 3, 4, 5, 6]), np.array([3, 3, 3, 3, 4, 4, 5, 6]), 7, 7)
CANDIDATES = np.arange(7) >= 3


def _ranked(top: list[list[int]]) -> Ranked:
    return Ranked("lists", np.arange(3, 3 + len(top)), {}, np.array(top), {})


def test_lists_of_the_favourite_are_narrow_and_popular() -> None:
    vectors = csr_matrix(np.eye(7))
    made = beyond_accuracy.beyond_accuracy(_ranked([[3, 4]] * 4), TRAIN, CANDIDATES, vectors, FEW, 2)
    assert made["coverage"]["value"] == 0.5
    assert made["gini"]["value"] == pytest.approx(0.5)
    assert made["novelty"]["value"] == pytest.approx((0 + 1) / 2)  # had by all: 0 bits; by half: 1 bit
    assert made["diversity"]["value"] == 1  # nothing in common
    assert made["popularity_rank"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert made["popularity_lift"]["value"] == pytest.approx(3 / ((4 * 4 + 2 * 2 + 1 + 1) / 8) - 1)


def test_diversity_is_one_less_the_mean_cosine_of_pairs() -> None:
    random = np.random.default_rng(0)
    vectors = random.random((7, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    top = np.array([[3, 4, 5], [6, 3, -1], [4, -1, -1]])
    by_hand = [
        1 - np.mean([vectors[a] @ vectors[b] for a, b in ((3, 4), (3, 5), (4, 5))]),
        1 - vectors[6] @ vectors[3],
        0,
    ]
    np.testing.assert_allclose(beyond_accuracy.diversity(top, csr_matrix(vectors)), by_hand)


def test_the_same_items_for_all_or_each_their_own() -> None:
    assert beyond_accuracy.gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert beyond_accuracy.gini(np.array([0, 0, 0, 9])) == pytest.approx(0.75)
    assert beyond_accuracy.gini(np.zeros(3)) == 0
    spread = beyond_accuracy.spread(np.array([[3], [4], [5], [6]]), CANDIDATES, FEW)
    assert spread["coverage"]["value"] == 1
    assert spread["gini"]["value"] == pytest.approx(0)


def test_users_and_items_are_divided_by_their_training_rows() -> None:
    items = np.repeat(np.arange(3, 23), np.arange(20, 0, -1))  # 20 rows of item 3, one of item 22
    train = Interactions(np.r_[[3] * 4, [4] * 5, [5] * (len(items) - 9)], items, 7, 23)
    made = slices.divisions(train, np.arange(23) >= 3)
    warmth = made.users[0]
    assert [warmth.values[group] for group in warmth.group[2:]] == ["new", "cold", "warm", "warm", "cold"]
    warmth, deciles = made.items
    assert [warmth.values[group] for group in warmth.group[[2, 3, 18, 19]]] == ["new", "warm", "warm", "cold"]
    shown = [deciles.values[group] for group in deciles.group[3:23]]
    assert shown == [f"decile {1 + place // 2}" for place in range(20)]


def test_a_slice_has_the_metrics_of_its_rows_alone_or_says_why_not() -> None:
    random = np.random.default_rng(1)
    scores = random.random(600)
    labels = (random.random(600) < scores).astype("int8")
    codes = np.repeat([3, 4, 5, 2], [300, 200, 60, 40])
    labels[500:560] = 1
    divided = [slices.of_column(Feature("country", None, 9), codes, {"country": {3: "PT", 4: "FR", 5: "DE"}})]
    made = {each["value"]: each for each in slices.rows(labels, scores, divided, FEW)}
    whole = evaluate(labels[:300], scores[:300], FEW)
    assert {name: made["PT"][name] for name in ("auc", "auc_low", "ece")} == {
        name: whole[name] for name in ("auc", "auc_low", "ece")
    }
    assert made["DE"]["reason"] == "one class only"
    assert made["(unknown)"]["reason"] == "fewer than 50 rows"
    assert sum(each["rows"] for each in made.values()) == 600


def test_slices_of_users_and_items_add_up_to_the_whole() -> None:
    random, count = np.random.default_rng(2), 400
    relevant = csr_matrix(random.random((count, 30)) < 0.1)
    relevant = relevant[np.diff(relevant.indptr) > 0]
    count = relevant.shape[0]
    asked = Cases(np.arange(count), relevant, csr_matrix((count, 30), dtype=bool), np.zeros(count), np.arange(30) >= 3)
    top = np.argsort(random.random((count, 30)), axis=1)[:, :5]
    ranked = Ranked("any", asked.users, measures(found(top, asked), asked.sizes, (5,)), top, {})
    halves = slices.Groups("half", ("odd", "even"), np.arange(count) % 2)
    made = slices.users(ranked, [halves], FEW)
    total = sum(each["users"] * each["recall@5"]["value"] for each in made)
    assert total / count == pytest.approx(ranked.metrics["recall@5"].mean())
    of_items = slices.items(ranked, asked, [slices.Groups("half", ("a", "b"), np.arange(30) % 2)], FEW, 5)
    hits = sum(each["pairs"] * each["recall@5"]["value"] for each in of_items)
    assert hits == pytest.approx((ranked.metrics["recall@5"] * asked.sizes).sum())


def test_a_paired_test_agrees_with_the_t_test_and_is_no_stranger_to_chance() -> None:
    random = np.random.default_rng(3)
    base = random.normal(size=400)
    better = base + random.normal(0.12, 1, 400)
    made = paired(better, base, FEW)
    assert made["p_value"] == pytest.approx(ttest_rel(better, base).pvalue, abs=0.01)
    assert made["low"] < (better - base).mean() == made["value"] < made["high"]
    false = [paired(random.normal(size=60), random.normal(size=60), FEW)["p_value"] < 0.1 for _ in range(200)]
    assert 6 <= sum(false) <= 37  # 20 expected; four standard deviations
    assert paired(base, base, FEW)["p_value"] == 1
    with pytest.raises(DataError, match="the same users"):
        paired(base, base[:-1], FEW)


def test_several_comparisons_are_adjusted_by_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    random = np.random.default_rng(4)
    base = {"ndcg@10": random.random(200)}
    models = {"same": base, "better": {"ndcg@10": base["ndcg@10"] + 0.1 * random.random(200)}}
    made = against(base, models, ["ndcg@10"], FEW)
    assert made["same"]["ndcg@10"]["p_holm"] == 1
    assert made["better"]["ndcg@10"]["p_holm"] < 0.001


def test_a_better_auc_is_told_from_the_same_one() -> None:
    random = np.random.default_rng(5)
    scores = random.random(1500)
    labels = (random.random(1500) < scores).astype("int8")
    noisy = scores + random.normal(0, 0.3, 1500)
    assert paired_auc(labels, scores, noisy, FEW)["low"] > 0
    assert paired_auc(labels, scores, 2 * scores, FEW)["value"] == 0
