"""How engines that are written by hand read the rows: Parquet parts in blocks, shuffled within a block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.training import CODES, LABEL, VALUES

Array = npt.NDArray[Any]


def batches(folder: Path, size: int, seed: int | None = None) -> Iterator[tuple[Array, Array, Array]]:
    """Yield codes [size, 26] int64, values [size, 13] float32 and labels [size] float32, a part in memory at a time.

    With `seed`, parts come in a random order and their rows are shuffled; without it, in order.
    """
    random = None if seed is None else np.random.default_rng(seed)
    files = sorted(folder.glob("*.parquet"))
    if random is not None:
        random.shuffle(files)  # type: ignore[arg-type]
    rest: list[Array] = []
    for number, file in enumerate(files):
        made = _part(file)
        if random is not None:
            order = random.permutation(len(made[0]))
            made = [array[order] for array in made]
        if rest:
            made = [np.concatenate(pair) for pair in zip(rest, made, strict=True)]
        whole = len(made[0]) if number == len(files) - 1 else len(made[0]) // size * size
        for start in range(0, whole, size):
            codes, values, labels = (array[start : min(start + size, whole)] for array in made)
            yield codes, values, labels
        rest = [array[whole:] for array in made]


def _part(file: Path) -> list[Array]:
    table = pq.read_table(file)
    codes = np.stack([table[name].to_numpy() for name in CODES], 1)
    values = np.stack([table[name].to_numpy() for name in VALUES], 1)
    return [codes, values, table[LABEL].to_numpy().astype("float32")]
