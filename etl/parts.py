"""Rows in parts: cut to size, worked on by several threads, in order, with a bounded number of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import polars as pl

from etl.errors import ConfigError
from etl.memory import resident

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 2
"""Parts that one kind of work has in its hands; Polars itself uses all cores for each."""
_COPIES = 10
"""Raw and transformed parts that are in memory at a time, with what is made on the way."""
_FEWEST = 1_000


def cut(batches: Iterable[pl.DataFrame], rows: int, empty: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the batches again in frames of `rows` rows, the last one shorter; `empty` if there are none."""
    held: list[pl.DataFrame] = []
    height, made = 0, False
    for batch in batches:
        held.append(batch)
        height += batch.height
        if height < rows:
            continue
        whole = pl.concat(held)
        for start in range(0, height - height % rows, rows):
            yield whole[start : start + rows]
            made = True
        held, height = [whole[height - height % rows :]], height % rows
    if height or not made:
        yield pl.concat([empty, *held])


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield work(item) in the order of `items`; the next ones are worked on meanwhile, at most AT_ONCE of them."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) > AT_ONCE:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for left in running:
                left.cancel()


def rows_within(limit: int, sample: Iterable[pl.DataFrame], wanted: int) -> int:
    """Return how many rows a part may have, at most `wanted`, so that the process stays within `limit` bytes.

    `sample` are frames of the same rows before and after the work. ConfigError if not even a small part fits.
    """
    frames = list(sample)
    per_row = sum(frame.estimated_size() for frame in frames) / max(frames[0].height, 1)
    taken = resident()
    rows = int((limit - taken) / max(per_row * _COPIES, 1))
    if rows < min(_FEWEST, wanted):
        least = taken + int(_FEWEST * per_row * _COPIES)
        expected = f"at least {(least >> 20) + 1} MiB (the process has {taken >> 20} already)"
        raise ConfigError("memory limit", expected=expected, received=f"{limit >> 20} MiB")
    return min(rows, wanted)
