"""Ranking metrics against scikit-learn, implicit and the definitions; cases, ties, sampled negatives, masks, errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import average_precision_score, ndcg_score

from etl.errors import ConfigError, DataError
from training import baselines
from training.config import EvaluateConfig
from training.evaluation import masked
from training.evaluation.interactions import FIRST, Cases, Interactions, candidates, cases
from training.evaluation.intervals import means
from training.evaluation.ranking import rank, rank_shown

USERS, ITEMS = 203, 63


class Fixed:
    """A recommender of given scores [users, items]."""

    name = "fixed"

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def scores(self, users: np.ndarray) -> np.ndarray:
        return self.table[users]


def clusters(pairs: int = 3000, seed: int = 0, users: int = USERS, items: int = ITEMS) -> Interactions:
    """Users of four kinds, each of which likes its own quarter of the items; some items are liked more."""
    random = np.random.default_rng(seed)
    user = random.integers(FIRST, users, pairs)
    quarter = (items - FIRST) // 4
    item = FIRST + (user % 4) * quarter + (quarter * random.random(pairs) ** 2).astype("int64")
    wrong = random.random(pairs) < 0.2
    item[wrong] = random.integers(FIRST, items, wrong.sum())
    return Interactions(user, item, users, items)


@pytest.fixture(scope="module")
def train() -> Interactions:
    return clusters()


@pytest.fixture(scope="module")
def asked(train: Interactions) -> Cases:
    return cases(train, clusters(900, seed=1), candidates(train))


def _full(asked: Cases, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((USERS, ITEMS)).astype("float32")


def test_full_ndcg_and_average_precision_are_those_of_sklearn(asked: Cases) -> None:
    table = _full(asked)
    ranked = rank(Fixed(table), asked, cutoffs=(5, 10, ITEMS))
    for row, user in enumerate(asked.users):
        open_items = asked.candidates & ~asked.seen[row].toarray()[0]
        relevant, scores = asked.relevant[row].toarray()[0][open_items], table[user][open_items]
        for k in (5, 10):
            assert ranked.metrics[f"ndcg@{k}"][row] == pytest.approx(ndcg_score([relevant], [scores], k=k))
        whole = average_precision_score(relevant, scores)
        assert ranked.metrics[f"map@{ITEMS}"][row] == pytest.approx(whole)


def test_metrics_of_als_are_those_of_implicit(train: Interactions, asked: Cases) -> None:
    from implicit.evaluation import ranking_metrics_at_k

    als = baselines.fit("als", train, seed=5)
    ranked = rank(als, asked, cutoffs=(10,))
    held = csr_matrix((USERS, ITEMS), dtype="float32").tolil()
    held[asked.users] = asked.relevant.astype("float32")
    # Codes below FIRST are no items for us; for implicit they are items nobody had, with factors near zero.
    theirs = ranking_metrics_at_k(
        als.library, (train.matrix > 0).astype("float32").tocsr(), held.tocsr(), K=10, show_progress=False
    )
    assert ranked.metrics["ndcg@10"].mean() == pytest.approx(theirs["ndcg"], abs=0.01)
    assert ranked.metrics["map@10"].mean() == pytest.approx(theirs["map"], abs=0.01)


def test_metrics_by_hand() -> None:
    relevant = csr_matrix(np.array([[0, 0, 0, 1, 0, 1, 1]], bool))
    seen = csr_matrix(np.array([[0, 0, 0, 0, 1, 0, 0]], bool))
    asked = Cases(np.array([0]), relevant, seen, np.array([6]), np.arange(7) >= FIRST)
    scores = np.array([[9, 9, 9, 3.0, 8, 1, 2]])  # order: 3, 6, 5; code 4 was seen, 0 to 2 are no items
    found = {name: value[0] for name, value in rank(Fixed(scores), asked, cutoffs=(2, 5)).metrics.items()}
    assert found["recall@2"] == pytest.approx(2 / 3)
    assert found["map@2"] == found["mrr@2"] == found["ndcg@2"] == found["hit_rate@2"] == 1
    assert found["recall@5"] == 1
    last = Cases(np.array([0]), csr_matrix(np.eye(7, dtype=bool)[[5]]), seen, np.array([5]), asked.candidates)
    found = {name: value[0] for name, value in rank(Fixed(scores), last, cutoffs=(2, 5)).metrics.items()}
    assert found["hit_rate@2"] == found["ndcg@2"] == 0
    assert found["mrr@5"] == found["map@5"] == pytest.approx(1 / 3)
    assert found["ndcg@5"] == pytest.approx(1 / np.log2(4))


def test_equal_scores_are_worth_chance_and_always_the_same(train: Interactions, asked: Cases) -> None:
    flat = Fixed(np.zeros((USERS, ITEMS)))
    first, second = rank(flat, asked), rank(flat, asked)
    assert (first.top == second.top).all()
    popular = rank(baselines.fit("popularity", train), asked).metrics["hit_rate@10"].mean()
    shown = np.unique(first.top[:, :10])
    assert len(shown) < ITEMS - FIRST  # one order for everybody, and not the order of the codes
    assert first.metrics["recall@10"].mean() < 0.35  # ten of about fifty open items
    assert first.metrics["hit_rate@10"].mean() < popular


def test_seen_items_and_unknown_ones_are_never_shown(asked: Cases) -> None:
    top = rank(Fixed(_full(asked)), asked, cutoffs=(ITEMS,)).top
    for row, shown in enumerate(top):
        listed = shown[shown >= 0]
        assert len(set(listed)) == len(listed) == asked.candidates.sum() - asked.seen[row].nnz
        assert not asked.seen[row].toarray()[0][listed].any()
        assert asked.candidates[listed].all()


def test_the_size_of_a_batch_changes_nothing(asked: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = Fixed(_full(asked))
    whole = rank(fixed, asked, negatives=20, seed=4)
    monkeypatch.setattr("training.evaluation.ranking._CELLS", ITEMS * 7)
    parts = rank(fixed, asked, negatives=20, seed=4)
    assert (whole.top == parts.top).all()
    for name, values in whole.sampled.items():
        assert (values == parts.sampled[name]).all()


def test_sampled_negatives_rank_the_last_item_among_what_was_never_had(asked: Cases) -> None:
    perfect = np.zeros((USERS, ITEMS))
    perfect[asked.users, asked.last] = 1
    assert rank(Fixed(perfect), asked, negatives=20).sampled["hit_rate@10"].mean() == 1
    assert rank(Fixed(-perfect), asked, negatives=20).sampled["ndcg@20"].mean() == 0
    random = rank(Fixed(_full(asked)), asked, cutoffs=(10,), negatives=30, seed=1)
    assert random.fewest_negatives == 30
    assert random.sampled["hit_rate@10"].mean() == pytest.approx(10 / 31, abs=0.1)  # n is about 190: 3 sd
    # With every other item as a negative, ties and all, the rank is that among all items the user never had.
    every = rank(Fixed(_full(asked)), asked, cutoffs=(10,), negatives=10 * ITEMS)
    assert every.fewest_negatives == min(
        asked.candidates.sum() - asked.seen[row].nnz - size for row, size in enumerate(asked.sizes)
    )


def test_what_is_left_out_of_the_cases_is_told() -> None:
    seen = Interactions(np.array([3, 3, 4]), np.array([3, 4, 5]), 6, 7)
    held = Interactions(np.array([2, 3, 3, 3, 4, 4, 5]), np.array([3, 3, 5, 6, 2, 5, 4]), 6, 7)
    made = cases(seen, held, candidates(seen))
    assert made.users.tolist() == [3, 5]
    assert [made.relevant[row].indices.tolist() for row in range(2)] == [[5], [4]]
    assert made.left_out == {"unknown_user": 1, "unknown_item": 2, "seen_before": 2, "users_without_positives": 1}
    again = cases(seen, held, candidates(seen), exclude_seen=False)
    assert again.relevant[0].indices.tolist() == [3, 5]
    assert again.seen.nnz == 0


def test_the_last_row_of_a_user_is_the_one_that_is_sampled_against() -> None:
    seen = Interactions(np.array([3] * 4), np.array([3, 4, 5, 6]), 5, 9)
    held = Interactions(np.array([4, 4, 4]), np.array([5, 3, 4]), 5, 9)
    assert cases(seen, held, candidates(seen)).last.tolist() == [4]


def test_nobody_to_ask_is_an_error() -> None:
    seen = Interactions(np.array([3, 3]), np.array([3, 4]), 5, 6)
    with pytest.raises(DataError, match="seen before 1"):
        cases(seen, Interactions(np.array([3]), np.array([3]), 5, 6), candidates(seen))
    with pytest.raises(DataError, match="received none"):
        cases(seen, Interactions(np.empty(0, "int64"), np.empty(0, "int64"), 5, 6), candidates(seen))


def test_codes_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(DataError, match="codes of items; expected 0 to 5"):
        Interactions(np.array([3]), np.array([6]), 5, 6)


@pytest.mark.parametrize(("scores", "said"), [(np.nan, "1 NaN of"), (None, "shape")])
def test_scores_that_are_none_are_refused(asked: Cases, scores: float | None, said: str) -> None:
    table = np.zeros((USERS, ITEMS)) if scores is not None else np.zeros((USERS, 5))
    table[asked.users[0], 4] = scores or 0
    with pytest.raises(DataError, match=said):
        rank(Fixed(table), asked)


def test_rows_shown_to_a_user_are_ranked_among_themselves() -> None:
    users = np.array([3, 3, 3, 4, 4, 5, 2])
    labels = np.array([0, 1, 0, 1, 1, 0, 1])
    found = rank_shown(users, labels, np.array([0.9, 0.5, 0.1, 0.3, 0.2, 0.4, 0.9]), (1, 2))
    assert found["hit_rate@1"].tolist() == [0]  # users 4 and 5 have one label only, 2 is nobody
    assert found["mrr@2"].tolist() == [0.5]
    assert not len(rank_shown(users[:0], labels[:0], np.empty(0))["ndcg@10"])


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    random, held = np.random.default_rng(2), 0
    for _ in range(100):
        found = means({"x": random.exponential(size=300)}, EvaluateConfig(bootstrap=100, confidence=0.8))["x"]
        held += found["low"] <= 1 <= found["high"]
    assert 66 <= held <= 92
    assert means({"x": np.ones(3)}, EvaluateConfig(bootstrap=0))["x"] == {"value": 1.0, "low": None, "high": None}


@pytest.mark.parametrize("name", ["item_knn", "als", "bpr"])
def test_baselines_find_the_kinds_of_users_and_repeat_themselves(name: str, train: Interactions, asked: Cases) -> None:
    popular = rank(baselines.fit("popularity", train), asked).metrics["ndcg@10"].mean()
    ranked = rank(baselines.fit(name, train, seed=1), asked)
    assert ranked.metrics["ndcg@10"].mean() > 1.5 * popular
    assert (ranked.top == rank(baselines.fit(name, train, seed=1), asked).top).all()


def test_item_neighbours_are_cosines_of_the_users(train: Interactions) -> None:
    found = baselines.fit("item_knn", train)
    had = (train.matrix > 0).toarray().astype("float64")
    lengths = np.maximum(np.sqrt((had**2).sum(0)), 1e-9)
    cosine = had.T @ had / lengths / lengths[:, None]
    np.fill_diagonal(cosine, 0)
    np.testing.assert_allclose(found.scores(np.arange(3, 20))[:, 3:], (had @ cosine)[3:20, 3:], rtol=1e-4, atol=1e-5)


def test_a_baseline_refuses_what_it_cannot_do(train: Interactions) -> None:
    nobody = Interactions(np.array([2]), np.array([3]), USERS, ITEMS)
    with pytest.raises(DataError, match="positives of known users"):
        baselines.fit("als", nobody)
    with pytest.raises(ConfigError, match="popularity, item_knn"):
        baselines.fit("oracle", train)
    with pytest.raises(ConfigError, match="sets of items"):
        baselines.fit("bpr", train).complete(train.matrix[3:5])


@pytest.mark.parametrize("name", ["item_knn", "als"])
def test_a_masked_item_is_found_from_the_rest_of_its_set(name: str, train: Interactions) -> None:
    sets = clusters(600, seed=9).matrix
    ranked = masked.rank_masked(baselines.fit(name, train), sets, candidates(train))
    popular = masked.rank_masked(baselines.fit("popularity", train), sets, candidates(train))
    assert ranked.metrics["hit_rate@10"].mean() > 1.3 * popular.metrics["hit_rate@10"].mean()


def test_masks_hide_one_item_of_each_set_of_two(train: Interactions) -> None:
    sets = clusters(300, seed=9).matrix
    made = masked.mask(sets, seed=1)
    whole = (sets > 0)[np.diff(sets.indptr) >= 2]
    hidden = csr_matrix((np.ones(len(made.hidden), bool), (np.arange(len(made.hidden)), made.hidden)), whole.shape)
    assert ((made.rest + hidden) != whole).nnz == 0
    assert made.rest.nnz + len(made.hidden) == whole.nnz
    assert (made.hidden == masked.mask(sets, seed=1).hidden).all()
    assert (made.hidden != masked.mask(sets, seed=2).hidden).any()
    with pytest.raises(DataError, match="two or more"):
        masked.mask(csr_matrix(np.eye(4)))
