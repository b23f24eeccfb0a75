"""One slice of rows through the partial aggregates of operators: what runs on a worker, wherever that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from etl.compiler.targets.polars import PolarsPlan, plan
from etl.errors import DataError
from etl.fit.rule import RULES
from etl.graph import Column, FeatureGraph, OpNode
from etl.inputs import Input
from etl.names import ROW
from etl.operators import facts

_MOST = 256
"""Files that one slice may be put together from: each of them is open at once."""

Tables = dict[tuple[str, str], pl.DataFrame]
"""Partial aggregates by (node, key)."""


@dataclass(frozen=True)
class Sized:
    """A file and the number of its rows, counted once for all passes."""

    file: Input
    rows: int


@dataclass(frozen=True)
class Piece:
    """Rows of one file: `length` of them from `offset`."""

    file: Input
    offset: int
    length: int


@dataclass(frozen=True)
class Slice:
    """Rows that are aggregated at once: pieces of files, in order; `first_row` numbers the first one in all data."""

    pieces: tuple[Piece, ...]
    first_row: int

    @property
    def length(self) -> int:
        """The number of rows."""
        return sum(piece.length for piece in self.pieces)

    def scan(self, columns: Sequence[Column]) -> pl.LazyFrame:
        """Return the raw `columns` as the types they declare; no rows are read yet."""
        frames = [piece.file.scan(columns).slice(piece.offset, piece.length) for piece in self.pieces]
        return pl.concat(frames) if len(frames) > 1 else frames[0]

    def blame(self, error: Exception) -> DataError:
        """Return a DataError that names the damaged file, or else all files and what was said of them."""
        for piece in self.pieces:
            try:
                piece.file.read_through()
            except DataError as found:
                return found
        return DataError(f"{', '.join(piece.file.address for piece in self.pieces)} cannot be read: {error}")


@dataclass(frozen=True, eq=False)
class Work:
    """The partial aggregates of the operators `nodes` of a graph, none of which reads another."""

    graph: FeatureGraph
    nodes: tuple[str, ...]

    def __reduce__(self) -> tuple[type[Work], tuple[FeatureGraph, tuple[str, ...]]]:
        return Work, (self.graph, self.nodes)  # a plan is made where it runs

    @cached_property
    def plan(self) -> PolarsPlan:
        """The plan of everything that the operators read."""
        columns = {_seen_as(ref.node, ref.column): ref for node in self._operators for ref in node.inputs}
        numbered = any(facts(node.op).numbered for node in self._operators)
        return plan(self.graph, columns, out_of_fold=True, numbered=numbered)

    @cached_property
    def _operators(self) -> list[OpNode]:
        return [node for node in self.graph.nodes if node.id in self.nodes]

    def __call__(self, part: Slice) -> Tables:
        """Return the partial aggregates of one slice; DataError names the file that cannot be read."""
        try:
            rows = self.plan.apply(part.scan(self.plan.inputs), first_row=part.first_row)
            return self._collected(self._aggregates(rows))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise part.blame(error) from error

    def _collected(self, wanted: Mapping[tuple[str, str], pl.LazyFrame]) -> Tables:
        """Return the tables of `wanted`; those that may be streamed are counted a quarter faster so."""
        streams = {node.id for node in self._operators if RULES[node.op].streams}
        streamed = {key: table for key, table in wanted.items() if key[0] in streams}
        others = {key: table for key, table in wanted.items() if key[0] not in streams}
        tables = pl.collect_all(streamed.values(), engine="streaming") + pl.collect_all(others.values())
        return dict(zip((*streamed, *others), tables, strict=True))

    def _aggregates(self, rows: pl.LazyFrame) -> dict[tuple[str, str], pl.LazyFrame]:
        found: dict[tuple[str, str], pl.LazyFrame] = {}
        for node in self._operators:
            number = [ROW] if facts(node.op).numbered else []
            seen = rows.select(*(pl.col(_seen_as(r.node, r.column)).alias(r.column) for r in node.inputs), *number)
            found |= {(node.id, key): table for key, table in RULES[node.op].partial(node, seen).items()}
        return found


def _seen_as(node: str, column: str) -> str:
    return f"{node}\0{column}"


def slices(files: Sequence[Sized], rows: int, first_row: int = 0, is_local: bool = True) -> list[Slice]:
    """Return all rows of `files`, in order, as slices of at most `rows` rows.

    A large file is cut; small files that follow each other are put together. Without `is_local` (a plan that must see
    all rows at once) everything is one slice. No rows make an empty slice.
    """
    found: list[Slice] = []
    held: list[Piece] = []
    room = rows if is_local else sum(file.rows for file in files)
    for piece in _pieces(files, rows if is_local else None):
        if held and (sum(each.length for each in held) + piece.length > room or (len(held) == _MOST and is_local)):
            found.append(Slice(tuple(held), first_row))
            first_row, held = first_row + found[-1].length, []
        held.append(piece)
    return [*found, Slice(tuple(held) or (Piece(files[0].file, 0, 0),), first_row)]


def _pieces(files: Sequence[Sized], rows: int | None) -> Iterator[Piece]:
    for file in files:
        step = rows or max(file.rows, 1)
        for offset in range(0, file.rows, step):
            yield Piece(file.file, offset, min(step, file.rows - offset))
