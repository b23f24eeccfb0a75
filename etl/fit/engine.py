"""Fit: partial aggregates of slices of rows, merged in order, so that memory is bounded and work can be spread.

An operator that reads another fitted one waits for it: fit runs in as many passes as the longest such chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from etl.compiler.targets.polars import PolarsPlan, plan
from etl.errors import DataError
from etl.fit.rule import RULES, State
from etl.graph import FeatureGraph, OpNode
from etl.names import ROW
from etl.operators import facts
from etl.parquet import count_rows
from etl.progress import Progress, silent

ROWS_PER_SLICE = 1_000_000
_MERGE_AT = 8
"""Tables of one key that are kept before they are merged: memory against time."""


def fit(
    graph: FeatureGraph,
    paths: Sequence[Path],
    progress: Progress = silent,
    rows_per_slice: int = ROWS_PER_SLICE,
) -> FeatureGraph:
    """Return `graph` with the statistics of the Parquet files `paths`, whatever state it had before.

    The same files in another order, or sliced otherwise, give the same vocabularies, and moments that agree to
    float64 rounding. Raises SchemaError for columns that are missing or mistyped, DataError for unreadable files,
    CompileError for operators that cannot be lowered.
    """
    for node in graph.nodes:
        if facts(node.op).fitted:
            RULES[node.op].check(graph, node)
    passes = _passes(graph)
    slices = list(_slices(paths, rows_per_slice))
    total = sum(length for _, _, length in slices) * len(passes)
    done = 0
    for nodes in passes:
        columns = {f"{ref.node}\0{ref.column}": ref for node in nodes for ref in node.inputs}
        run = _Pass(nodes, plan(graph, columns, out_of_fold=True, numbered=_numbered(nodes)))
        # Without rows the tables are still made: empty, with the right types.
        first_row = 0
        for path, offset, length in slices or [(paths[0], 0, 0)]:
            run.add(path, offset, length, first_row)
            done += length
            first_row += length
            progress("fit", done, total, "rows")
        graph = graph.with_state(run.finish())
    return graph


class _Pass:
    """One pass over the rows for `nodes`, none of which reads another."""

    def __init__(self, nodes: Sequence[OpNode], plan: PolarsPlan) -> None:
        self._nodes, self._plan = {node.id: node for node in nodes}, plan
        self._tables: dict[tuple[str, str], list[pl.DataFrame]] = {}

    def add(self, path: Path, offset: int, length: int, first_row: int) -> None:
        """Aggregate one slice; `first_row` is the number of its first row in all of the data."""
        rows = self._plan.apply(pl.scan_parquet(path, glob=False).slice(offset, length), first_row=first_row)
        wanted: dict[tuple[str, str], pl.LazyFrame] = {}
        for node in self._nodes.values():
            number = [ROW] if facts(node.op).numbered else []
            seen = rows.select(*(pl.col(f"{r.node}\0{r.column}").alias(r.column) for r in node.inputs), *number)
            wanted |= {(node.id, key): table for key, table in RULES[node.op].partial(node, seen).items()}
        try:
            found = pl.collect_all(wanted.values())
        except (pl.exceptions.ComputeError, OSError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        for key, table in zip(wanted, found, strict=True):
            kept = self._tables.setdefault(key, [])
            kept.append(table)
            if len(kept) >= _MERGE_AT:
                self._tables[key] = [RULES[self._nodes[key[0]].op].merge(kept)]

    def finish(self) -> dict[str, State]:
        """Return the state of every node."""
        states = {}
        for node in self._nodes.values():
            rule = RULES[node.op]
            merged = {key: rule.merge(tables) for (id_, key), tables in self._tables.items() if id_ == node.id}
            states[node.id] = rule.finish(node, merged)
        return states


def _slices(paths: Sequence[Path], rows: int) -> Iterator[tuple[Path, int, int]]:
    """Yield (file, first row, rows) over all rows of `paths`, in order."""
    if not paths:
        raise DataError("fit", expected="at least one Parquet file", received="none")
    for path in paths:
        height = count_rows(path)
        for offset in range(0, height, rows):
            yield path, offset, min(rows, height - offset)


def _numbered(nodes: Sequence[OpNode]) -> bool:
    return any(facts(node.op).numbered for node in nodes)


def _passes(graph: FeatureGraph) -> list[list[OpNode]]:
    """Return the fitted operators by level (each after those whose results it reads) and by the rows they see."""
    levels: dict[str, int] = {}
    passes: dict[tuple[int, str], list[OpNode]] = {}
    for node in graph.nodes:
        level = max((levels.get(ref.node, 0) for ref in node.inputs), default=0)
        if node.op in RULES:
            passes.setdefault((level, graph.rows[node.id]), []).append(node)
            level += 1
        levels[node.id] = level
    return [passes[key] for key in sorted(passes)]
