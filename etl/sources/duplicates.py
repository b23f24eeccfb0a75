"""How many rows repeat, counted in memory that does not grow with their number.

Rows are hashed and only a fixed part of the hash space is kept, chosen so that about KEPT hashes are held. The rows
whose hash falls into that part are a random sample in which all copies of a row are in or out together, so the share of
repeats in it estimates the share in the whole; below KEPT rows it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

KEPT = 4_000_000


class Fingerprints:
    """The hashes of a sample of rows; `expected_rows` sets how large a part of the hash space is kept."""

    def __init__(self, columns: Sequence[str], expected_rows: int) -> None:
        self.columns = list(columns)
        self._every = np.uint64(max(1, -(-expected_rows // KEPT)))
        self._held: list[NDArray[np.uint64]] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Take in the rows of `frame`."""
        if frame.height:
            hashes = frame.select(self.columns).hash_rows(seed=7).to_numpy()
            self._held.append(hashes[hashes % self._every == 0])

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """All that were kept, in order."""
        return np.concatenate(self._held) if self._held else np.empty(0, np.uint64)

    def repeated_share(self) -> float:
        """The share of rows that equal an earlier one."""
        held = self.hashes
        return 1.0 - len(np.unique(held)) / len(held) if len(held) else 0.0

    def share_in(self, other: Fingerprints) -> float:
        """The share of these rows that `other` has too; both must have been made for the same number of rows."""
        held = self.hashes
        return float(np.isin(held, other.hashes).mean()) if len(held) else 0.0
