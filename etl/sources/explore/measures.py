"""Measures of association between two columns of a sample, each under the name the field gives it."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.sources.auc import auc

Floats = NDArray[np.float64]


def pearson(x: Floats, y: Floats) -> float | None:
    """Pearson's linear correlation; None when one of them does not vary."""
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return None
    with np.errstate(all="ignore"):
        found = float(np.corrcoef(x, y)[0, 1])
    return found if math.isfinite(found) else None


def spearman(x: Floats, y: Floats) -> float | None:
    """Spearman's rank correlation, ties at their mean rank."""
    ranked = [pl.Series(values).rank("average").to_numpy() for values in (x, y)]
    return pearson(ranked[0], ranked[1])


def area(x: Floats, y: Floats) -> float | None:
    """The area under the ROC curve with `x` as score for a label of 0 and 1; None with one class only."""
    found = auc(y, x)
    return found if math.isfinite(found) else None


def crossed_rates(codes: NDArray[np.int64], y: Floats) -> Floats:
    """Each row's label mean over the other half's rows with the same code: a score that has not seen its own label.

    A code that the other half lacks gets that half's mean.
    """
    half = np.arange(len(codes)) % 2
    size = int(codes.max()) + 1 if len(codes) else 0
    scores = np.empty(len(codes))
    for part in (0, 1):
        other = half != part
        rows = np.bincount(codes[other], minlength=size)
        sums = np.bincount(codes[other], weights=y[other], minlength=size)
        mean = float(y[other].mean()) if other.any() else 0.0
        rates = np.where(rows > 0, sums / np.maximum(rows, 1), mean)
        scores[half == part] = rates[codes[half == part]]
    return np.asarray(scores, dtype=np.float64)


def correlation_ratio(codes: NDArray[np.int64], numbers: Floats) -> float | None:
    """Eta: the root of the share of the numbers' variance that lies between the codes."""
    total = float(((numbers - numbers.mean()) ** 2).sum()) if len(numbers) else 0.0
    if total == 0:
        return None
    rows = np.bincount(codes)
    means = np.bincount(codes, weights=numbers) / np.maximum(rows, 1)
    return math.sqrt(min(1.0, float((rows * (means - numbers.mean()) ** 2).sum()) / total))


def contingency(x: NDArray[np.int64], y: NDArray[np.int64]) -> Floats:
    """The table of counts of two columns of codes, without empty rows and columns."""
    rows, columns = int(x.max()) + 1, int(y.max()) + 1
    counts: Floats = np.bincount(x * columns + y, minlength=rows * columns).reshape(rows, columns).astype(np.float64)
    return np.asarray(counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0])


def cramers_v(counts: Floats) -> float | None:
    """Cramér's V with Bergsma's correction of its bias (2013): 0 for independent columns, 1 for one that decides the
    other.
    """
    total, (rows, columns) = counts.sum(), counts.shape
    if total < 2 or min(rows, columns) < 2:
        return None
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total
    phi2 = float(((counts - expected) ** 2 / expected).sum() / total)
    corrected = max(0.0, phi2 - (rows - 1) * (columns - 1) / (total - 1))
    wide = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return math.sqrt(min(1.0, corrected / wide)) if wide > 0 else None


def mutual_information(counts: Floats) -> tuple[float, float | None]:
    """Return the mutual information in bits, less Miller and Madow's bias, and Theil's U: its share of the label's
    (the columns') entropy.
    """
    total, (rows, columns) = counts.sum(), counts.shape
    biased = _entropy(counts.sum(axis=1)) + _entropy(counts.sum(axis=0)) - _entropy(counts.ravel())
    cells = int((counts > 0).sum())
    bits = max(0.0, biased - (cells - rows - columns + 1) / (2 * total * math.log(2)))
    entropy = _entropy(counts.sum(axis=0))
    return bits, min(1.0, bits / entropy) if entropy > 0 else None


def _entropy(counts: Floats) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def wilson(successes: float, rows: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not rows:
        return 0.0, 1.0
    share, spread = successes / rows, z * z / rows
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / rows + spread / rows / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def kolmogorov_smirnov(first: Floats, second: Floats) -> float | None:
    """The largest distance between two samples' distribution functions."""
    if not len(first) or not len(second):
        return None
    first, second = np.sort(first), np.sort(second)
    every = np.concatenate([first, second])
    below = [np.searchsorted(one, every, side="right") / len(one) for one in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


FLOOR = 1e-4
"""The share that an empty bin counts as in the population stability index, whose logarithm has none of 0."""


def stability_index(reference: Floats, current: Floats) -> float:
    """The population stability index of counts in the same bins: the sum of (q - p) ln(q / p)."""
    p = np.maximum(reference / max(1.0, reference.sum()), FLOOR)
    q = np.maximum(current / max(1.0, current.sum()), FLOOR)
    return float(((q - p) * np.log(q / p)).sum())
