"""A shuffle of all rows in bounded memory: each part is sorted and put on disk, then one bucket after another is read.

A row's place depends on the seed and on its number only: rows are sorted by a mixed 64-bit number, in which no two are
equal. So the result is the same however the rows were cut into parts, and whatever memory there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

_PLACE = "\0place"
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def shuffled(frames: Iterable[pl.DataFrame], seed: int, folder: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of `frames` in an order that `seed` fixes, about `rows` at a time.

    `folder` holds all of them meanwhile, as uncompressed Arrow files.
    """
    runs: list[tuple[Path, npt.NDArray[np.uint64]]] = []
    total = 0
    for frame in frames:
        if not frame.height:
            continue
        places = pl.Series(_PLACE, mixed(seed, total, frame.height))
        run = folder / f"run_{len(runs):05d}.arrow"
        frame.with_columns(places).sort(_PLACE).write_ipc(run, compression="uncompressed")
        runs.append((run, np.sort(places.to_numpy())))
        total += frame.height
    if not runs:
        return
    buckets = max(1, -(-total // rows))
    edges = [np.uint64(number * 2**64 // buckets) for number in range(1, buckets)]
    cuts = [[0, *places.searchsorted(edges).tolist(), len(places)] for _, places in runs]
    for bucket in range(buckets):
        found = [
            pl.scan_ipc(run).slice(cut[bucket], cut[bucket + 1] - cut[bucket])
            for (run, _), cut in zip(runs, cuts, strict=True)
        ]
        yield pl.concat(found).sort(_PLACE).drop(_PLACE).collect()


def mixed(seed: int, first: int, rows: int) -> npt.NDArray[np.uint64]:
    """Return one number for each row number from `first` on, different for each: SplitMix64, started at `seed`."""
    start = np.uint64(seed % 2**64)
    with np.errstate(over="ignore"):
        x = _scramble(np.array([start], np.uint64))[0] + np.arange(first, first + rows, dtype=np.uint64) * _STEP
        return _scramble(x)


def _scramble(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
