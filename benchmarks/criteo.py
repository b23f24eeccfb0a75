"""Data in the shape of Criteo's click logs: 26 categorical and 13 continuous columns, made from a seed, part by part.

Categorical columns are int32: NVTabular's own Criteo example reads the logs' 8 hexadecimal digits as int32 ("hex") and
writes them so to Parquet. Each has as many possible values as in Criteo's Kaggle data (3 to 10 million), drawn with
probability about 1 / rank, and as many nulls. Continuous columns are int32, skewed, with nulls and a few negatives.
`row`, the row's number, is there to compare outputs row by row; an engine that reorders rows loses nothing by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from etl.atomic import atomic_folder
from etl.progress import Progress, silent

ROW = "row"
CARDINALITIES = (
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683, 8_351_593, 3194,
    27, 14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572,
)  # fmt: skip
"""Possible values of C1 .. C26."""
CATEGORICAL = tuple(f"C{number}" for number in range(1, 27))
CONTINUOUS = tuple(f"I{number}" for number in range(1, 14))
ROWS_PER_PART = 1_000_000
_MANIFEST = "criteo.json"
_VERSION = 1
_NULLS = {
    **dict.fromkeys(("C3", "C4", "C12", "C16", "C21", "C24"), 0.034),
    **dict.fromkeys(("C19", "C20", "C25", "C26"), 0.44),
    "C6": 0.12,
    "C22": 0.76,
    "I1": 0.45,
    "I3": 0.21,
    "I4": 0.22,
    "I5": 0.026,
    "I6": 0.22,
    "I7": 0.043,
    "I9": 0.043,
    "I10": 0.45,
    "I11": 0.043,
    "I12": 0.76,
    "I13": 0.22,
}
"""Share of nulls; columns that are not named have none."""
_SKEW = ((0.5, 1.4), (2.5, 2.0), (2.0, 1.6), (1.6, 1.1), (7.5, 2.3), (3.5, 1.7), (1.8, 1.6), (2.0, 1.1),
         (3.8, 1.4), (0.1, 0.6), (0.6, 0.9), (0.1, 1.0), (1.6, 1.2))  # fmt: skip
"""Mean and standard deviation of the logarithm of I1 .. I13."""
_LOWEST = {"I2": -3.0}
_MIX = np.uint32(0x9E3779B1)
_INT32_MIN = np.iinfo(np.int32).min
_INT32_MAX = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Data:
    """Parquet files of one data set, in row order, and what they hold."""

    files: tuple[Path, ...]
    rows: int
    seed: int


def generate(folder: Path, rows: int, seed: int = 0, progress: Progress = silent) -> Data:
    """Return the data of `rows` and `seed` in `folder`; made only if it is not there yet.

    Files hold a million rows each. A part depends on the seed and its number only, so more rows begin with the same
    ones. Memory is that of one part.
    """
    manifest = {"rows": rows, "seed": seed, "version": _VERSION}
    found = folder / _MANIFEST
    if not (found.exists() and json.loads(found.read_text(encoding="utf-8")) == manifest):
        with atomic_folder(folder) as made:
            for number, first in enumerate(range(0, rows, ROWS_PER_PART)):
                progress("data", first, rows, "rows")
                frame = part(number, min(ROWS_PER_PART, rows - first), seed)
                frame.write_parquet(made / f"part_{number:05d}.parquet", row_group_size=250_000, compression="snappy")
            progress("data", rows, rows, "rows")
            (made / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return Data(tuple(sorted(folder.glob("part_*.parquet"))), rows, seed)


def part(number: int, rows: int, seed: int) -> pl.DataFrame:
    """Return the first `rows` rows of part `number`: row, C1 .. C26, I1 .. I13."""
    generator = np.random.default_rng([seed, number])
    first = number * ROWS_PER_PART
    columns = {ROW: pl.Series(np.arange(first, first + rows, dtype=np.int64))}
    for place, name in enumerate(CATEGORICAL):
        ids = identifiers(place, ranks(generator.random(ROWS_PER_PART)[:rows], CARDINALITIES[place]))
        columns[name] = _with_nulls(name, ids, generator)
    for (mean, deviation), name in zip(_SKEW, CONTINUOUS, strict=True):
        drawn: npt.NDArray[np.uint32] = np.exp(generator.normal(mean, deviation, ROWS_PER_PART)[:rows]) + _LOWEST.get(
            name, 0.0
        )
        columns[name] = _with_nulls(name, np.floor(np.minimum(drawn, _INT32_MAX)).astype(np.int32), generator)
    return pl.DataFrame(columns)


def ranks(uniform: npt.NDArray[np.float64], cardinality: int) -> npt.NDArray[np.uint32]:
    """Return ranks from 0 to `cardinality` - 1 for numbers from 0 to 1: rank r has a probability of about 1 / (r + 1).

    Exactly log((r + 2) / (r + 1)) / log(cardinality + 1): Zipf's law with exponent 1, sampled by its inverse.
    """
    drawn: npt.NDArray[np.uint32] = np.exp(uniform * np.log(cardinality + 1.0)).astype(np.uint32) - np.uint32(1)
    return np.minimum(drawn, np.uint32(cardinality - 1), out=drawn)


def identifiers(place: int, rank: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """Return the values of ranks in one column: distinct, spread over all of int32, unrelated between columns."""
    mixed = (rank + np.uint32(place * 104_729)) * _MIX
    mixed ^= mixed >> np.uint32(15)
    return mixed.view(np.int32)


def _with_nulls(name: str, values: npt.NDArray[np.int32], generator: np.random.Generator) -> pl.Series:
    # The smallest int32 is how a request says null to Mews, so it is none of the values.
    null = values == _INT32_MIN
    if name in _NULLS:
        null |= generator.random(ROWS_PER_PART)[: len(values)] < _NULLS[name]
    return pl.Series(name, values).set(pl.Series(null), None)
