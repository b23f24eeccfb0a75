"""Which rows are sampled, and how many distinct values there are: both the same on every run, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl

from etl.sources.parts import ROWS_PER_PART

ROWS = 500_000
"""So many rows at most, of one column and the label, are held in memory at a time."""
METHOD = "row numbers times the golden ratio modulo 1: evenly spread over the rows, the same on every run"
EXACT_ROWS = 2_000_000
"""Up to so many rows distinct values are counted exactly, above it by HyperLogLog."""
_GOLDEN = 2_654_435_769  # 2**32 divided by the golden ratio: Fibonacci hashing
_RANGE = 1 << 32
_INDEX = "__row__"
_PRECISION = 14
_MERGED = 1_000_000
DISTINCT_ERROR = 1.04 / math.sqrt(1 << _PRECISION)
"""The standard error of a HyperLogLog count, relative: 0.8 %."""


def sampled(frame: pl.LazyFrame, rows: int, wanted: int = ROWS) -> pl.LazyFrame:
    """About `wanted` of the `rows` rows of `frame`, all of them if they are fewer.

    Every k-th row would meet the rhythm of data that has one (pairs of rows, days); this sequence meets no rhythm.
    """
    if rows <= wanted:
        return frame
    place = pl.col(_INDEX).cast(pl.UInt64) * _GOLDEN % _RANGE
    kept = frame.with_row_index(_INDEX).filter(place < math.ceil(wanted / rows * _RANGE)).drop(_INDEX)
    # A filtered string still points into the text of all rows; a new string lets go of it.
    return kept.with_columns(pl.col(pl.String) + "")


def batched(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows of `frame` in pieces. Polars' streaming group_by puts rows of rare groups aside until the end, so its
    memory grows with the rows; groups of one piece after the other do not.
    """
    yield from frame.collect_batches(chunk_size=ROWS_PER_PART, lazy=True, engine="streaming")


def counts(values: pl.LazyFrame) -> pl.DataFrame:
    """How often each value of the column `v` occurs (`len`), in memory for the distinct values only."""
    total: pl.DataFrame | None = None
    held: list[pl.DataFrame] = []
    for batch in batched(values.select("v")):
        held.append(batch.group_by("v").len())
        if sum(one.height for one in held) > _MERGED + (0 if total is None else total.height):
            total, held = _merged([*([] if total is None else [total]), *held]), []
    whole = [*([] if total is None else [total]), *held]
    return _merged(whole) if whole else values.select("v").head(0).collect().group_by("v").len()


def _merged(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by("v").agg(pl.col("len").sum())


def distinct(values: pl.LazyFrame, rows: int) -> tuple[int, float]:
    """Return how many values the column `v` has, and the relative standard error of that number; nulls do not count."""
    filled = values.select("v").drop_nulls()
    if rows <= EXACT_ROWS:
        return int(filled.select(pl.col("v").n_unique()).collect(engine="streaming").item()), 0.0
    return _hyperloglog(filled), DISTINCT_ERROR


def _hyperloglog(values: pl.LazyFrame) -> int:
    """Flajolet, Fusy, Gandouet, Meunier (2007): 2**14 registers of a 64-bit hash; a small number by linear counting."""
    size, low = 1 << _PRECISION, 1 << (64 - _PRECISION)
    hashed = values.select(pl.col("v").hash(17).alias("h"))
    rank = (pl.col("h") % low).bitwise_leading_zeros() - _PRECISION + 1
    registers = np.zeros(size, dtype=np.int64)
    for batch in batched(hashed):
        found = batch.group_by((pl.col("h") // low).alias("place")).agg(rank.cast(pl.Int64).max().alias("rank"))
        np.maximum.at(registers, found["place"].to_numpy().astype(np.int64), found["rank"].to_numpy())
    empty = int((registers == 0).sum())
    estimate = 0.7213 / (1 + 1.079 / size) * size * size / float((0.5**registers).sum())
    if estimate <= 2.5 * size and empty:
        estimate = size * math.log(size / empty)
    return round(estimate)
