"""Fit: partial aggregates of slices of rows, merged in order, so that memory is bounded and work can be spread.

An operator that reads another fitted one waits for it: fit runs in as many passes as the longest such chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etl import inputs
from etl.fit.partial import Sized, Tables, Work, slices
from etl.fit.rule import RULES, State
from etl.fit.scheduler import Scheduler, scheduler
from etl.fit.settled import settled
from etl.fit.spill import Merged
from etl.fit.statistics import Statistics
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.inputs import Address
from etl.memory import default_limit, parse_bytes
from etl.operators import facts
from etl.progress import Progress, silent

ROWS_PER_SLICE = 1_000_000


def fit(
    graph: FeatureGraph,
    paths: Address | Sequence[Address],
    progress: Progress = silent,
    rows_per_slice: int = ROWS_PER_SLICE,
    *,
    memory_limit: str | int | None = None,
    on: str = "local",
    workers: int = 0,
    widen: bool = False,
) -> FeatureGraph:
    """Return `graph` with the statistics of the files `paths` (see etl/inputs.py), whatever state it had before.

    The same rows in other files, slices or on other workers give the same statistics, bit for bit; in another order
    too, but for operators that ask for the order. `memory_limit` (bytes, or text as "4GB"; half of the machine's
    memory if None) is a target: tables that outgrow their part of it go to temporary files, but one slice and the
    finished statistics must fit. `on` and `workers` say where slices are aggregated (etl/fit/scheduler.py).
    Raises SchemaError for columns that are missing or mistyped (every file's, at once; see etl.inputs.check for
    `widen`), DataError for unreadable files, CompileError for operators that cannot be lowered, ConfigError for
    options.
    """
    return _fit(graph, paths, progress, rows_per_slice, as_bytes(memory_limit), on, workers, widen, keep=False)[0]


def fit_statistics(
    graph: FeatureGraph,
    paths: Address | Sequence[Address],
    progress: Progress = silent,
    rows_per_slice: int = ROWS_PER_SLICE,
    *,
    memory_limit: str | int | None = None,
    on: str = "local",
    workers: int = 0,
    widen: bool = False,
) -> tuple[FeatureGraph, Statistics]:
    """Fit as `fit` does, and also return the merged tables that new rows can be added to (etl/fit/update.py)."""
    return _fit(graph, paths, progress, rows_per_slice, as_bytes(memory_limit), on, workers, widen, keep=True)


def aggregate(
    graph: FeatureGraph,
    nodes: Sequence[OpNode],
    files: Sequence[Sized],
    progress: Progress,
    rows_per_slice: int,
    limit: int,
    where: Scheduler,
    first_row: int = 0,
) -> tuple[Tables, int]:
    """Return the merged tables of operators that do not read each other, and how many rows there were."""
    work = Work(graph, tuple(node.id for node in nodes))
    ops = {node.id: node.op for node in nodes}
    parts = slices(files, rows_per_slice, first_row, work.plan.is_local)
    total, done = sum(part.length for part in parts), 0
    with Merged(
        merge=lambda key: RULES[ops[key[0]]].merge,
        keys=lambda key, table: RULES[ops[key[0]]].split_by(table),
        limit=limit,
    ) as merged:
        for part, tables in zip(parts, where.map(work, parts), strict=True):
            merged.add(tables)
            done += part.length
            progress("fit", done, total, "rows")
        return merged.take(), total


def sized(graph: FeatureGraph, paths: Address | Sequence[Address], widen: bool) -> list[Sized]:
    """Return the files of `paths` and their rows, after checking every file's columns; see `fit` for the errors."""
    files = inputs.find(paths)
    inputs.check(files, read_by_fit(graph), widen)
    return [Sized(file, file.count()) for file in files]


def read_by_fit(graph: FeatureGraph) -> tuple[Column, ...]:
    """Return the raw columns that fitted operators are made from, those of other columns left out."""
    nodes = {node.id: node for node in graph.nodes}
    open_refs = [ref for node in graph.nodes if facts(node.op).fitted for ref in node.inputs]
    found: set[Ref] = set()
    while open_refs:
        ref = open_refs.pop()
        if ref in found or ref.node == INPUT:
            found.add(ref)
            continue
        found.add(ref)
        open_refs += nodes[ref.node].sources(ref.column)
        if (changed := graph.rows[ref.node]) != INPUT:  # which rows there are is decided by other columns too
            open_refs += nodes[changed].inputs
    return tuple(column for column in graph.inputs if Ref(INPUT, column.name) in found)


def finish(nodes: Sequence[OpNode], tables: Tables) -> dict[str, State]:
    """Return the state of every one of `nodes`."""
    return {
        node.id: RULES[node.op].finish(node, {key: table for (id_, key), table in tables.items() if id_ == node.id})
        for node in nodes
    }


def passes(graph: FeatureGraph) -> list[list[OpNode]]:
    """Return the fitted operators by level (each after those whose results it reads) and by the rows they see."""
    levels: dict[str, int] = {}
    found: dict[tuple[int, str], list[OpNode]] = {}
    for node in graph.nodes:
        level = max((levels.get(ref.node, 0) for ref in node.inputs), default=0)
        if node.op in RULES:
            found.setdefault((level, graph.rows[node.id]), []).append(node)
            level += 1
        levels[node.id] = level
    return [found[key] for key in sorted(found)]


def unfitted(graph: FeatureGraph) -> FeatureGraph:
    """Return the graph without what fit found."""
    nodes = (replace(node, state=None) if facts(node.op).fitted else node for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _fit(
    graph: FeatureGraph,
    paths: Address | Sequence[Address],
    progress: Progress,
    rows_per_slice: int,
    limit: int,
    on: str,
    workers: int,
    widen: bool,
    keep: bool,
) -> tuple[FeatureGraph, Statistics]:
    for node in graph.nodes:
        if facts(node.op).fitted:
            RULES[node.op].check(graph, node)
    files, levels, rows, kept = sized(graph, paths, widen), passes(graph), 0, {}
    with scheduler(on, workers) as where:
        for level, nodes in enumerate(levels):
            told = _of(progress, level, len(levels))
            tables, rows = aggregate(graph, nodes, files, told, rows_per_slice, limit, where)
            if keep:
                kept.update(tables)
            graph = graph.with_state(finish(nodes, tables))
    graph = settled(graph)
    return graph, Statistics(unfitted(graph).fingerprint, rows, 1, kept, {})


def _of(progress: Progress, level: int, levels: int) -> Progress:
    """Report one of several passes as a part of the whole."""

    def told(what: str, done: int, total: int | None, unit: str) -> None:
        rows = total or 0
        progress(what, level * rows + done, levels * rows, unit)

    return told


def as_bytes(limit: str | int | None) -> int:
    """Return a memory limit in bytes; the default for None."""
    if limit is None:
        return default_limit()
    return parse_bytes(str(limit))
