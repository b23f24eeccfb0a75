"""One slice of rows through the partial aggregates of operators: what runs on a worker, wherever that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from etl.compiler.targets.polars import PolarsPlan, check, plan
from etl.errors import DataError, SchemaError
from etl.fit.rule import RULES
from etl.graph import FeatureGraph, OpNode
from etl.names import ROW
from etl.operators import facts
from etl.parquet import count_rows, read_schema

Tables = dict[tuple[str, str], pl.DataFrame]
"""Partial aggregates by (node, key)."""


@dataclass(frozen=True)
class Slice:
    """Rows of Parquet files: `length` of them from `offset`; `first_row` is the first one's number in all data.

    More than one file is read at once only for a graph that must see all of its rows.
    """

    paths: tuple[Path, ...]
    offset: int
    length: int
    first_row: int

    def scan(self) -> pl.LazyFrame:
        """Return the rows; nothing is read yet."""
        frames = [pl.scan_parquet(path, glob=False) for path in self.paths]
        return pl.concat(frames, how="vertical_relaxed").slice(self.offset, self.length)

    def __str__(self) -> str:
        return ", ".join(str(path) for path in self.paths)


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
        rows = self.plan.apply(part.scan(), first_row=part.first_row)
        wanted: dict[tuple[str, str], pl.LazyFrame] = {}
        for node in self._operators:
            number = [ROW] if facts(node.op).numbered else []
            seen = rows.select(*(pl.col(_seen_as(r.node, r.column)).alias(r.column) for r in node.inputs), *number)
            wanted |= {(node.id, key): table for key, table in RULES[node.op].partial(node, seen).items()}
        try:
            return dict(zip(wanted, pl.collect_all(wanted.values()), strict=True))
        except (pl.exceptions.ComputeError, OSError) as error:
            raise DataError(f"{part} cannot be read: {error}") from error


def _seen_as(node: str, column: str) -> str:
    return f"{node}\0{column}"


def slices(work: Work, paths: Sequence[Path], rows: int, first_row: int = 0) -> list[Slice]:
    """Return all rows of `paths`, in order, as slices of at most `rows` rows, after checking every file's columns.

    Slices do not cross files. A plan that must see all rows at once gets one slice, and no rows make an empty one.
    """
    if not paths:
        raise DataError("fit", expected="at least one Parquet file", received="none")
    _check_columns(work, paths)
    heights = [count_rows(path) for path in paths]
    if not work.plan.is_local:
        return [Slice(tuple(paths), 0, sum(heights), first_row)]
    found = []
    for path, height in zip(paths, heights, strict=True):
        for offset in range(0, height, rows):
            length = min(rows, height - offset)
            found.append(Slice((path,), offset, length, first_row))
            first_row += length
    return found or [Slice((paths[0],), 0, 0, first_row)]


def _check_columns(work: Work, paths: Sequence[Path]) -> None:
    """Raise SchemaError that lists every file with missing or mistyped columns, before anything is aggregated."""
    problems, hint = [], ""
    for path in paths:
        try:
            check(read_schema(path), work.plan.inputs)
        except SchemaError as error:
            problems.append(f"{path}: {error.subject}")
            hint = hint or error.hint
    if problems:
        raise SchemaError("; ".join(problems), hint=hint)
