"""Counting a column by bins or by values, over all rows, in one streamed pass each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

BINS = 30
_TAILS = (0.005, 0.995)
_DOMINATED = 0.5


def number(column: str, kind: str) -> pl.Expr:
    """The column as a float: lists by their length, moments in microseconds; what is not finite becomes null."""
    value = pl.col(column)
    value = value.list.len() if kind == "list" else value.to_physical() if kind == "moment" else value
    as_float = value.cast(pl.Float64)
    return pl.when(as_float.is_finite()).then(as_float)


def histogram_edges(sample: NDArray[np.float64], low: float, high: float, whole: bool) -> list[float]:
    """The edges of a histogram's bins, equally wide.

    They span the values, or only the middle 99 % where the outermost 1 % would take more than half of the width.
    Whole numbers of a small range get a bin each.
    """
    first, last = (float(found) for found in np.quantile(sample, _TAILS))
    if last > first and (last - first) < _DOMINATED * (high - low):
        low, high = (math.floor(first), math.ceil(last)) if whole else (first, last)
    if whole and high - low < BINS:
        return [low - 0.5 + step for step in range(int(high - low) + 2)]
    if whole:
        width = math.ceil((high - low + 1) / BINS)
        return [low - 0.5 + width * step for step in range(math.ceil((high - low + 1) / width) + 1)]
    if high <= low:
        return [low, low + (abs(low) or 1.0)]
    return [float(edge) for edge in np.linspace(low, high, BINS + 1)]


def histogram(values: pl.LazyFrame, edges: Sequence[float]) -> dict[str, Any]:
    """Counts of the column `v` (floats) in equally wide bins: {edges, counts, below, above}; the last bin is closed."""
    bins = len(edges) - 1
    width = (edges[-1] - edges[0]) / bins
    place = ((pl.col("v") - edges[0]) / width).floor()
    inside = pl.when(pl.col("v") == edges[-1]).then(bins - 1.0).otherwise(place.clip(-1, bins))
    counted = values.drop_nulls("v").group_by(inside.cast(pl.Int32).alias("bin")).len().collect(engine="streaming")
    found = dict(counted.iter_rows())
    counts = [int(found.get(index, 0)) for index in range(bins)]
    return {"edges": list(edges), "counts": counts, "below": int(found.get(-1, 0)), "above": int(found.get(bins, 0))}


def quantile_cuts(sample: NDArray[np.float64], parts: int) -> list[float]:
    """Inner borders that divide the sample into at most `parts` about equal parts; many ties give fewer parts."""
    wanted = np.quantile(sample, np.arange(1, parts) / parts, method="higher")
    return [float(cut) for cut in np.unique(wanted) if cut > sample.min()]


OTHER = -1
"""The place of a value that is none of the known ones."""


def place_of(value: pl.Expr, known: Sequence[object]) -> pl.Expr:
    """Which of a few `known` values a value is: its index, OTHER, or null for null.

    Compared one by one: groups of small numbers stream, groups of strings keep the text of all rows.
    """
    same = [(value == pl.lit(one)).cast(pl.Int32) * (index + 1) for index, one in enumerate(known)]
    return pl.when(value.is_not_null()).then(pl.sum_horizontal([pl.lit(0, pl.Int32), *same]) + OTHER)


def part_of(value: pl.Expr, cuts: Sequence[float]) -> pl.Expr:
    """The number of the part that a value is in: how many cuts are not above it; null stays null."""
    above = pl.sum_horizontal([pl.lit(0, pl.Int32), *[(value >= cut).cast(pl.Int32) for cut in cuts]])
    return pl.when(value.is_not_null()).then(above)


def parts(cuts: Sequence[float], low: float, high: float, *, whole: bool) -> list[tuple[float, float]]:
    """The ends of the parts between the cuts. The upper end is in the part if the numbers are whole, else in the last
    part only.
    """
    ends = [low, *cuts, high + whole]
    return [(first, last - whole) for first, last in pairwise(ends)]
