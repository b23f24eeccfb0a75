"""How high a recommender ranks the items that users went on to have.

All candidates are ranked (full ranking), without those the user had before. Ties are broken by a fixed order that
has nothing to do with popularity or code, so equal scores are worth no more than chance. For a user with `r` relevant
items:

    recall@k     found / r                      hit_rate@k   1 if any is found
    ndcg@k       binary gain, the ideal being min(k, r) items at the top
    mrr@k        1 / rank of the first found, 0 below k
    map@k        mean over min(k, r) of the precision at each found item

The sampled protocol (He et al. 2017, arXiv:1708.05031) ranks a user's last item among items drawn at random from those
they never had. Its figures are far higher, and may order models differently (Krichene and Rendle 2020,
doi:10.1145/3394486.3403226): they bear the number of negatives in their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etl.errors import DataError
from etl.progress import Progress, silent
from etl.sources.split import uniform
from training.data import Array
from training.evaluation.interactions import FIRST, Cases
from training.evaluation.recommender import Recommender

CUTOFFS = (10, 20)
_CELLS = 8_000_000
"""Scores held at once, float32."""
_ORDER_SEED = 41


@dataclass(frozen=True)
class Ranked:
    """Every user's metrics: {name: float64 [cases]}, and the items at the top, int64 [cases, k], -1 where none is left.

    `sampled` holds the metrics among sampled negatives; `fewest_negatives` is how many the worst served user had.
    """

    name: str
    users: Array
    metrics: dict[str, Array]
    top: Array
    sampled: dict[str, Array]
    fewest_negatives: int | None = None


def rank(
    recommender: Recommender,
    cases: Cases,
    cutoffs: Sequence[int] = CUTOFFS,
    negatives: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Ranked:
    """Judge a recommender by every case, a bounded number of scores at a time.

    With `negatives` the sampled protocol is computed from the same scores. DataError when scores are NaN, or not one
    for every item code.
    """
    codes, deepest = len(cases.candidates), max(cutoffs)
    order = tie_order(cases.candidates)
    size = max(1, _CELLS // codes)
    tops, founds, places, drawn = [], [], [], []
    for start in range(0, len(cases), size):
        part = cases.take(np.arange(start, min(start + size, len(cases))))
        scores = _scores(recommender, part)
        top = best(scores, deepest, order)
        tops.append(top)
        founds.append(found(top, part))
        if negatives:
            place, least = _sampled_places(scores, part, order, negatives, seed)
            places.append(place)
            drawn.append(least)
        progress(f"rank {recommender.name}", start + len(part), len(cases), "users")
    metrics = measures(np.concatenate(founds), cases.sizes, cutoffs)
    sampled = at_places(np.concatenate(places), cutoffs) if negatives else {}
    return Ranked(
        recommender.name, cases.users, metrics, np.concatenate(tops), sampled, min(drawn) if negatives else None
    )


def tie_order(candidates: Array) -> Array:
    """The candidates' codes in the order in which equal scores rank, int64."""
    codes = np.flatnonzero(candidates)
    return codes[np.argsort(uniform(codes.astype("uint64"), _ORDER_SEED), kind="stable")]


def best(scores: Array, k: int, order: Array) -> Array:
    """The `k` codes with the highest scores of each row, best first, int64 [rows, k].

    -inf is never chosen: -1 stands where fewer than `k` are left. Equal scores come in the order of `order`.
    """
    chosen = np.full((len(scores), k), -1, "int64")
    k = min(k, len(order))
    ordered = scores[:, order]
    if not k or not len(scores):
        return chosen
    edge = np.partition(ordered, len(order) - k, axis=1)[:, len(order) - k][:, None]
    above, level = ordered > edge, ordered == edge
    room = k - above.sum(1, keepdims=True)
    kept = above | (level & (np.cumsum(level, axis=1, dtype="int32") <= room))
    columns = np.nonzero(kept)[1].reshape(len(scores), k)
    values = np.take_along_axis(ordered, columns, 1)
    by_score = np.argsort(-values, axis=1, kind="stable")
    codes = order[np.take_along_axis(columns, by_score, 1)]
    chosen[:, :k] = np.where(np.isneginf(np.take_along_axis(values, by_score, 1)), -1, codes)
    return chosen


def found(top: Array, cases: Cases) -> Array:
    """Which of the items at the top are relevant, bool [cases, k]."""
    codes = len(cases.candidates)
    rows = np.repeat(np.arange(len(cases)), cases.sizes)
    wanted = np.sort(rows * codes + cases.relevant.indices)
    asked = np.where(top >= 0, np.arange(len(cases))[:, None] * codes + top, -1)
    place = np.minimum(np.searchsorted(wanted, asked), max(len(wanted) - 1, 0))
    made: Array = wanted[place] == asked if len(wanted) else np.zeros(top.shape, bool)
    return made


def measures(hits: Array, sizes: Array, cutoffs: Sequence[int]) -> dict[str, Array]:
    """Every metric of every user from which of the top items were relevant (bool [users, k]) and how many there are."""
    made: dict[str, Array] = {}
    ranks = np.arange(1, hits.shape[1] + 1)
    gains = 1 / np.log2(ranks + 1)
    ideal = np.r_[0, np.cumsum(gains)]
    for k in cutoffs:
        top, within = hits[:, :k], np.minimum(sizes, k)
        precision = np.cumsum(top, axis=1) / ranks[:k]
        made[f"recall@{k}"] = top.sum(1) / np.maximum(sizes, 1)
        made[f"hit_rate@{k}"] = top.any(1).astype("float64")
        made[f"ndcg@{k}"] = (top * gains[:k]).sum(1) / ideal[np.maximum(within, 1)]
        made[f"mrr@{k}"] = (top / ranks[:k]).max(1)
        made[f"map@{k}"] = (top * precision).sum(1) / np.maximum(within, 1)
    return made


def at_places(places: Array, cutoffs: Sequence[int]) -> dict[str, Array]:
    """Hit rate, NDCG and MRR of users with one relevant item each, from its rank (1 is the top)."""
    made: dict[str, Array] = {}
    for k in cutoffs:
        hit = places <= k
        made[f"hit_rate@{k}"] = hit.astype("float64")
        made[f"ndcg@{k}"] = hit / np.log2(places + 1)
        made[f"mrr@{k}"] = hit / places
    return made


def rank_shown(users: Array, labels: Array, scores: Array, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, Array]:
    """Rank each user's own rows by their scores, those with label 1 being relevant: {metric: float64 [users]}.

    Arrays are [rows]. Known users with both labels count, in the order of their codes; equal scores come in an order
    that depends on the row's number alone.
    """
    usable = users >= FIRST
    rows = np.flatnonzero(usable)
    chance = uniform(rows.astype("uint64"), _ORDER_SEED)
    rows = rows[np.lexsort((chance, -scores[rows], users[rows]))]
    _, starts, counts = np.unique(users[rows], return_index=True, return_counts=True)
    positives = np.add.reduceat(labels[rows].astype("int64"), starts) if len(rows) else np.zeros(0, "int64")
    hits = np.zeros((len(starts), max(cutoffs)), bool)
    place = np.arange(len(rows)) - np.repeat(starts, counts)
    near = place < hits.shape[1]
    hits[np.repeat(np.arange(len(starts)), counts)[near], place[near]] = labels[rows][near] == 1
    both = (positives > 0) & (positives < counts)
    return measures(hits[both], positives[both], cutoffs)


def _scores(recommender: Recommender, cases: Cases) -> Array:
    """Scores [cases, items] with -inf for what is not to be ranked."""
    made = np.array(recommender.scores(cases.users), "float32")
    expected = (len(cases), len(cases.candidates))
    if made.shape != expected:
        raise DataError(f"scores of {recommender.name}", expected=f"shape {expected}", received=f"{made.shape}")
    if bad := int(np.isnan(made).sum()):
        raise DataError(f"scores of {recommender.name}", expected="numbers", received=f"{bad} NaN of {made.size}")
    rows, columns = cases.seen.nonzero()
    made[rows, columns] = -np.inf
    return made


def _sampled_places(scores: Array, cases: Cases, order: Array, negatives: int, seed: int) -> tuple[Array, int]:
    """The rank of each user's last item among `negatives` drawn ones, int64 [cases], and the fewest there were.

    What is drawn depends on the seed, the user and the item only.
    """
    codes, rows = len(cases.candidates), np.arange(len(cases))
    draw = uniform((cases.users[:, None] * codes + order).astype("uint64"), seed)
    had = (cases.relevant + cases.seen)[:, order].nonzero()
    draw[had] = np.inf
    count = min(negatives, len(order) - 1)
    picked = np.argpartition(draw, count - 1, axis=1)[:, :count]
    usable = np.isfinite(np.take_along_axis(draw, picked, 1))
    theirs = np.take_along_axis(scores[:, order], picked, 1)
    own = scores[rows, cases.last][:, None]
    position = np.empty(codes, "int64")
    position[order] = np.arange(len(order))
    ahead = (theirs > own) | ((theirs == own) & (picked < position[cases.last][:, None]))
    return 1 + (ahead & usable).sum(1), int(usable.sum(1).min())
