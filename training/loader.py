"""Batches of a split's rows as tensors, read ahead by a thread; memory does not grow with the rows.

Rows are shuffled by a seed and nothing else: the row groups of all parts come in a random order, several are read at a
time, a piece of each in turn, and the rows of all pieces in memory are mixed. Parts alone would not do: rows often come
in the order of time, and every pass would end with the last of it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from training import data
from training.tensorflow import tensorflow

Block = dict[str, data.Array]
_Group = tuple[Path, int]
"""A file, and the number of a row group in it."""

_BLOCK_ROWS = 262_144
"""Rows that are mixed; a little over three times as many are in memory."""
_GROUPS_AT_ONCE = 4
_WAIT_SECONDS = 0.1
_INT32 = 2**31


class Loader:
    """Iterate over ({feature: [batch, width]}, labels [batch, labels]), and weights [batch, 1] where there is a column.

    With `seed_fn`, every pass is shuffled by the seed that it returns then; without it rows come in order. The last
    batch may be smaller. `stop` ends the reading of an unfinished pass.
    """

    def __init__(
        self, folder: Path, inputs: data.Inputs, batch_size: int, seed_fn: Callable[[], int] | None, label_dtype: str
    ) -> None:
        self._folder, self._inputs, self._size, self._seed = folder, inputs, batch_size, seed_fn
        own = [
            data.Feature(name, None, None) for name in (*inputs.labels, *((inputs.weight,) if inputs.weight else ()))
        ]
        self._columns = (*inputs.features, *own)
        self._dtypes = {column.name: column.dtype for column in self._columns} | dict.fromkeys(
            inputs.labels, label_dtype
        )
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self.stop()
        self._stopped = stopped = threading.Event()
        random = np.random.default_rng(self._seed()) if self._seed else None
        rest: Block = {}
        try:
            for block in _ahead(self._blocks(random), stopped):
                joined = _joined([rest, block]) if rest else block
                rows = _rows(joined)
                whole = rows // self._size * self._size
                for start in range(0, whole, self._size):
                    yield self._tensors(joined, slice(start, start + self._size))
                rest = {name: values[whole:].copy() for name, values in joined.items()} if rows > whole else {}
            if rest:
                yield self._tensors(rest, slice(None))
        finally:
            stopped.set()

    def stop(self) -> None:
        """End the thread that reads for the pass in progress."""
        self._stopped.set()

    def _blocks(self, random: np.random.Generator | None) -> Iterator[Block]:
        """Rows of about _BLOCK_ROWS, mixed if `random` says so."""
        groups = [group for path in data.parts(self._folder) for group in _groups(path)]
        order = range(len(groups)) if random is None else random.permutation(len(groups))
        pieces: list[Block] = []
        for piece in self._pieces([groups[number] for number in order], 1 if random is None else _GROUPS_AT_ONCE):
            pieces.append(piece)
            if sum(map(_rows, pieces)) >= _BLOCK_ROWS:
                yield _mixed(pieces, random)
                pieces = []
        if pieces:
            yield _mixed(pieces, random)

    def _pieces(self, groups: list[_Group], at_once: int) -> Iterator[Block]:
        """A piece of each of so many row groups in turn, until all are read."""
        waiting, streams = iter(groups), list[Iterator[Block]]()
        while True:
            streams += [self._stream(group, at_once) for group in islice(waiting, at_once - len(streams))]
            if not streams:
                return
            found = [(stream, next(stream, None)) for stream in streams]
            streams = [stream for stream, piece in found if piece is not None]
            yield from (piece for _, piece in found if piece is not None)

    def _stream(self, group: _Group, at_once: int) -> Iterator[Block]:
        names, (path, number) = [column.name for column in self._columns], group
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BLOCK_ROWS // at_once, row_groups=[number], columns=names):
                if batch.num_rows:
                    yield {column.name: self._array(batch.column(column.name), column) for column in self._columns}

    def _array(self, values: Any, column: data.Feature) -> data.Array:
        dtype = self._dtypes[column.name]
        # Codes wait as int32: half the memory, and half the time to mix them.
        kept = "int32" if dtype == "int64" and (column.cardinality or _INT32) < _INT32 else dtype
        flat = (values.flatten() if column.length else values).to_numpy(zero_copy_only=False)
        made: data.Array = flat.astype(kept, copy=False).reshape(len(values), column.width)
        return made

    def _tensors(self, block: Block, rows: slice) -> tuple[Any, ...]:
        made = {
            n: tensorflow().constant(values[rows].astype(self._dtypes[n], copy=False)) for n, values in block.items()
        }
        labels = [made.pop(name) for name in self._inputs.labels]
        weight = [made.pop(self._inputs.weight)] if self._inputs.weight else []
        return made, labels[0] if len(labels) == 1 else tensorflow().concat(labels, 1), *weight


def _groups(path: Path) -> list[_Group]:
    return [(path, number) for number in range(pq.read_metadata(path).num_row_groups)]


def _rows(block: Block) -> int:
    return len(next(iter(block.values())))


def _mixed(pieces: list[Block], random: np.random.Generator | None) -> Block:
    order = None if random is None else random.permutation(sum(map(_rows, pieces)))
    return _joined(pieces, order)


def _joined(pieces: list[Block], order: data.Array | None = None) -> Block:
    """The rows of all pieces, in `order` if given. Pieces are emptied by column, so that no two copies are held."""
    made: Block = {}
    for name in tuple(pieces[0]):
        column = np.concatenate([piece.pop(name) for piece in pieces])
        made[name] = column if order is None else column[order]
    return made


def _ahead(blocks: Iterator[Block], stopped: threading.Event) -> Iterator[Block]:
    """Read the next block while the one before is used; an error there is raised here."""
    made: queue.Queue[Block | BaseException | None] = queue.Queue(1)

    def put(found: Block | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                made.put(found, timeout=_WAIT_SECONDS)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for block in blocks:
                put(block)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # whatever it is belongs to the thread that waits
            put(error)

    threading.Thread(target=read, name="loader", daemon=True).start()
    while (found := made.get()) is not None:
        if isinstance(found, BaseException):
            raise found
        yield found
