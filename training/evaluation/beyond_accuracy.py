"""What lists of recommendations are like, apart from being right, over the items at the top for every user.

coverage         share of the candidates that anybody is shown
gini             inequality of how often candidates are shown: 0 all alike, towards 1 always the same few
novelty          mean of -log2 of the share of training users who had the shown item, in bits (Zhou et al. 2010)
diversity        1 - mean cosine of two items in one list, by `item_vectors`
popularity_rank  mean place of the shown items among candidates by popularity: 0 the least popular, 1 the most
popularity_lift  mean popularity of the shown items over that of the items in the users' histories, less 1
                 (Abdollahpouri et al. 2019, arXiv:1907.13286)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack

from training import data
from training.config import EvaluateConfig
from training.data import Array, Feature
from training.evaluation.interactions import FIRST, Interactions
from training.evaluation.intervals import interval, means, resampled, tails
from training.evaluation.ranking import Ranked
from training.evaluation.recommender import Latest


def beyond_accuracy(
    ranked: Ranked,
    train: Interactions,
    candidates: Array,
    vectors: csr_matrix,
    config: EvaluateConfig,
    k: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Return every measure of the first `k` items as {value, low, high}; `train` holds the training positives.

    Intervals come from resampled users. `vectors` is a row for each item code, of length 1 or empty.
    """
    top = ranked.top[:, :k]
    each = per_user(top, train, candidates, vectors)
    lift = popularity_lift(top, ranked.users, train)
    made = spread(top, candidates, config, seed)
    made |= means(each, config, seed) | {"popularity_lift": _ratio(*lift, config, seed)}
    return {"k": k, **made}


def per_user(top: Array, train: Interactions, candidates: Array, vectors: csr_matrix) -> dict[str, Array]:
    """Novelty, diversity and popularity rank of each user's list; float64 [users] each."""
    users = max(1, len(np.unique(train.users[train.known])))
    counts = train.popularity
    # An item that no user had (shown in training, never chosen) counts as one had by half a user.
    surprise = -np.log2(np.maximum(counts, 0.5) / users)
    place = np.full(len(counts), 0.0)
    codes = np.flatnonzero(candidates)
    order = np.argsort(counts[codes], kind="stable")
    place[codes[order]] = _mid_ranks(counts[codes][order])
    return {
        "novelty": _mean_of(top, surprise),
        "diversity": diversity(top, vectors),
        "popularity_rank": _mean_of(top, place),
    }


def item_vectors(features: Sequence[Feature], table: Latest, train: Interactions) -> tuple[csr_matrix, str]:
    """A vector of length 1 for each item code, and what it is made of.

    The item's own categorical features, one column for each code (brand, genres); where there are none, its users.
    """
    own = [each for each in data.of_side(features, "item") if each.categorical and "id" not in each.tags]
    if own:
        made = hstack([_one_hot(table.items[each.name], each.cardinality or 0) for each in own]).tocsr()
        return _unit(made), ", ".join(each.name for each in own)
    return _unit((train.matrix > 0).astype("float64").T.tocsr()), "users"


def _one_hot(codes: Array, size: int) -> csr_matrix:
    """Codes [items, width] as a row of ones for each item; padding, nulls and unknown values are none."""
    rows = np.repeat(np.arange(len(codes)), codes.shape[1]).reshape(codes.shape)[codes >= FIRST]
    made = csr_matrix((np.ones(len(rows)), (rows, codes[codes >= FIRST])), shape=(len(codes), size))
    return (made > 0).astype("float64")


def _unit(matrix: csr_matrix) -> csr_matrix:
    from sklearn.preprocessing import normalize

    return normalize(matrix)


def diversity(top: Array, vectors: csr_matrix) -> Array:
    """1 - mean cosine over the pairs of each list, float64 [users]; 0 for lists of fewer than two items."""
    lists, length = (top >= 0).sum(1), top.shape[1]
    made = np.zeros(len(top))
    # The sum of all pairs' products is the squared length of the sum, less each vector's own.
    for start in range(0, len(top), 4096):
        part = top[start : start + 4096]
        shown = part >= 0
        rows = np.repeat(np.arange(len(part)), length).reshape(part.shape)[shown]
        picked = csr_matrix((np.ones(len(rows)), (rows, part[shown])), shape=(len(part), vectors.shape[0]))
        sums = picked @ vectors
        whole = np.asarray(sums.multiply(sums).sum(1)).reshape(-1)
        own = np.asarray(vectors.multiply(vectors).sum(1)).reshape(-1)
        selves = np.bincount(rows, weights=own[part[shown]], minlength=len(part))
        count = lists[start : start + len(part)]
        pairs = count * (count - 1)
        made[start : start + len(part)] = np.where(pairs > 0, 1 - (whole - selves) / np.maximum(pairs, 1), 0)
    return made


def spread(top: Array, candidates: Array, config: EvaluateConfig, seed: int = 0) -> dict[str, Any]:
    """Coverage and Gini index of how often each candidate is shown, as {value, low, high}."""
    random, drawn = np.random.default_rng(seed), np.empty((config.bootstrap, 2))
    for row in drawn:
        row[:] = _spread(top[random.integers(0, len(top), len(top))], candidates)
    bounds = np.quantile(drawn, tails(config), axis=0) if len(drawn) else np.full((2, 2), np.nan)
    # Fewer different users are shown fewer items: as for the calibration error, the spread is kept about the value.
    values = _spread(top, candidates)
    shift = values - np.median(drawn, axis=0) if len(drawn) else 0
    return {
        name: interval(values[place], *np.clip(bounds + shift, 0, 1)[:, place])
        for place, name in enumerate(("coverage", "gini"))
    }


def _spread(top: Array, candidates: Array) -> Array:
    shown = np.bincount(top[top >= 0], minlength=len(candidates))[candidates]
    return np.array([(shown > 0).mean(), gini(shown)])


def gini(counts: Array) -> float:
    """The Gini index of counts: 0 when all are equal, 1 - 1/n when one has everything."""
    ordered, number = np.sort(counts).astype("float64"), len(counts)
    if not ordered.sum():
        return 0.0
    return float(2 * (np.arange(1, number + 1) @ ordered) / (number * ordered.sum()) - (number + 1) / number)


def popularity_lift(top: Array, users: Array, train: Interactions) -> tuple[Array, Array]:
    """Mean popularity of each user's list and of their training items, float64 [users] each."""
    counts = train.popularity.astype("float64")
    had = (train.matrix[users] > 0).astype("float64")
    sizes = np.maximum(np.asarray(had.sum(1)).reshape(-1), 1)
    return _mean_of(top, counts), np.asarray(had @ counts).reshape(-1) / sizes


def _ratio(shown: Array, had: Array, config: EvaluateConfig, seed: int) -> dict[str, Any]:
    """Ratio of the two means, less 1; users without a history count in neither."""
    some = had > 0
    if not some.any():
        return interval(np.nan, np.nan, np.nan)
    table = np.column_stack([shown, had])[some]
    drawn = resampled(table, config.bootstrap, seed)
    bounds = np.quantile(drawn[:, 0] / drawn[:, 1] - 1, tails(config)) if len(drawn) else (np.nan, np.nan)
    return interval(table[:, 0].mean() / table[:, 1].mean() - 1, *bounds)


def _mid_ranks(ordered: Array) -> Array:
    """Places from 0 to 1 of sorted values; equal values share the middle one."""
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right") - 1
    made: Array = (first + last) / 2 / max(1, len(ordered) - 1)
    return made


def _mean_of(top: Array, values: Array) -> Array:
    shown = top >= 0
    sums = np.where(shown, values[np.maximum(top, 0)], 0).sum(1)
    made: Array = sums / np.maximum(shown.sum(1), 1)
    return made
