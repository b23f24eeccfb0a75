"""Exact quantiles of a column that is larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from etl.sources.parts import batches

BINS = 1 << 16


def boundary(files: Sequence[Path], column: str, share: float) -> int:
    """The smallest value that occurs with at least `share` of the rows below it; the largest value + 1 if there is
    none.

    For integers and datetimes (as their integer). Each pass over the column counts BINS bins and looks into one of
    them. Nulls do not count.
    """
    low, high, rows = _range(files, column)
    wanted, below = share * rows, 0
    while low < high:
        width = -(-(high - low + 1) // BINS)
        counts = _counts(files, column, low, high, width)
        cumulated = below + np.cumsum(counts)
        place = int(np.searchsorted(cumulated, wanted, side="left"))
        if place >= len(counts) or wanted <= below:
            break
        below = int(cumulated[place] - counts[place])
        low, high = low + place * width, min(high, low + (place + 1) * width - 1)
    later = [
        int(found)  # type: ignore[arg-type]
        for frame in batches(files, [column])
        if (found := frame.select(pl.col(column).to_physical()).filter(pl.col(column) > low).to_series().min())
        is not None
    ]
    return min(later, default=low + 1)


def _range(files: Sequence[Path], column: str) -> tuple[int, int, int]:
    limits = [
        (values.min(), values.max(), len(values))
        for frame in batches(files, [column])
        if len(values := frame[column].to_physical().drop_nulls())
    ]
    if not limits:
        return 0, 0, 0
    return min(int(x[0]) for x in limits), max(int(x[1]) for x in limits), sum(x[2] for x in limits)  # type: ignore[arg-type]


def _counts(
    files: Sequence[Path], column: str, low: int, high: int, width: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = np.zeros(BINS, np.int64)
    for frame in batches(files, [column]):
        values = frame[column].to_physical().drop_nulls().cast(pl.Int64).to_numpy()
        inside = values[(values >= low) & (values <= high)]
        counts += np.bincount((inside - low) // width, minlength=BINS)
    return counts
