"""Whether two engines wrote the same features: codes exactly, floats within a tolerance, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.criteo import CATEGORICAL, CONTINUOUS, ROW
from benchmarks.peers import FIRST

TOLERANCE = 1e-5
"""Largest absolute difference of a normalized float32: means and logarithms are rounded in another order."""


@dataclass(frozen=True)
class Difference:
    """How an output differs from the reference: columns with a reason each, and the largest difference of a float.

    With `ties`, codes of values that are equally frequent may be exchanged: each code of one output must then stand for
    exactly one of the other, with the same count, and nulls and unknowns must agree.
    """

    columns: dict[str, str]
    max_abs_diff: float | None
    ties: bool

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.columns

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `equal`."""
        return {"equal": self.equal, **vars(self)}


def compare(reference: Path, other: Path, rows: int, ties: bool = False) -> Difference:
    """Compare two folders of Parquet files with `rows` rows each, a column at a time, rows matched by `row`."""
    wrong: dict[str, str] = {}
    places = [_places(folder, rows) for folder in (reference, other)]
    if any(place is None for place in places):
        return Difference({ROW: f"not each of the {rows:,} rows once"}, None, ties)
    largest = 0.0
    for name in (*CATEGORICAL, *CONTINUOUS):
        expected, found = (
            _column(folder, name, place) for folder, place in zip((reference, other), places, strict=True)
        )
        if expected is None or found is None:
            wrong[name] = "missing, or has nulls"
        elif expected.dtype != found.dtype:
            wrong[name] = f"{found.dtype}, not {expected.dtype}"
        elif name in CONTINUOUS:
            difference = float(np.max(np.abs(expected.astype(np.float64) - found)))
            largest = max(largest, difference) if np.isfinite(difference) else largest
            if not difference <= TOLERANCE:  # NaN, too
                wrong[name] = f"differs by {difference:.3g}"
        elif not (same_up_to_ties(expected, found) if ties else np.array_equal(expected, found)):
            wrong[name] = f"{int(np.count_nonzero(expected != found)):,} other codes"
    return Difference(wrong, largest, ties)


def same_up_to_ties(expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> bool:
    """Whether codes are the same but for an exchange of codes with equal counts; those below FIRST never change."""
    if found.min(initial=0) < 0 or expected.min(initial=0) < 0:
        return False
    counts = np.bincount(expected)
    if not np.array_equal(counts, np.bincount(found)):
        return False
    other = np.zeros(len(counts), dtype=np.int64)
    other[expected] = found
    used = np.flatnonzero(counts)
    # The counts agree, so each used code is found: a map from all codes onto all codes is one to one.
    return bool(
        np.array_equal(other[expected], found)
        and np.array_equal(counts[used], counts[other[used]])
        and all(other[code] == code for code in range(min(FIRST, len(counts))) if counts[code])
    )


def _scan(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(sorted(folder.rglob("*.parquet")), hive_partitioning=False)


def _places(folder: Path, rows: int) -> npt.NDArray[np.int64] | None:
    """Return each row's number, in the order of the files; None if one is missing or there twice."""
    if not any(folder.rglob("*.parquet")):
        return None
    numbers = _scan(folder).select(pl.col(ROW).cast(pl.Int64)).collect()[ROW]
    if len(numbers) != rows or numbers.null_count():
        return None
    found = numbers.to_numpy()
    seen = np.zeros(rows, dtype=bool)
    if found.min() < 0 or found.max() >= rows:
        return None
    seen[found] = True
    return found if seen.all() else None


def _column(folder: Path, name: str, place: npt.NDArray[np.int64] | None) -> npt.NDArray[Any] | None:
    """Return a column in the order of the row numbers; None if it is not there or has nulls."""
    frame = _scan(folder)
    if name not in frame.collect_schema():
        return None
    series = frame.select(name).collect()[name]
    if series.null_count():
        return None
    ordered = np.empty(len(series), dtype=series.to_numpy().dtype)
    ordered[place] = series.to_numpy()
    return ordered
