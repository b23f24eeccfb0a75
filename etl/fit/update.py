"""Add new rows to statistics without reading the old ones: vocabularies grow at their end, everything else is merged.

A code that was given never moves, so that trained embedding tables stay good. New values follow the old ones, by
falling count, then by value. A value that is aged out keeps its row as a tombstone (`active` is false in the state)
and is looked up as unknown; when it comes back it gets its old code. `max_size` bounds the rows, tombstones
included: what no longer fits stays unknown and is counted as left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from etl.errors import ArtifactError, ConfigError
from etl.fit.changes import Changes, VocabularyChange, moments_of
from etl.fit.engine import ROWS_PER_SLICE, aggregate, as_bytes, finish, passes, sized, unfitted
from etl.fit.rule import RULES, State
from etl.fit.scheduler import scheduler
from etl.fit.statistics import Statistics
from etl.graph import FeatureGraph, OpNode
from etl.inputs import Address
from etl.operators import facts
from etl.operators.categorical import (
    buckets_of,
    first_code,
    given_vocabularies,
    limit_of,
    vocabularies,
)
from etl.progress import Progress, silent

Key = tuple[str, str]

_SETTLE = ("ReduceDtypeSize", "DropLowCardinality")
"""Operators whose statistics decide types and columns of the graph."""
_AGAIN = "Fit again on all of the data."


@dataclass(frozen=True)
class Ageing:
    """When a value leaves a vocabulary: fewer than `min_count` in all, or not seen in the last `unseen` updates.

    0 switches a rule off.
    """

    min_count: int = 0
    unseen: int = 0


@dataclass(frozen=True, eq=False)
class Updated:
    """The graph and the statistics with the new rows, and what changed."""

    graph: FeatureGraph
    statistics: Statistics
    changes: Changes = field(repr=False)


def update(
    graph: FeatureGraph,
    statistics: Statistics,
    new_paths: Address | Sequence[Address],
    rule: Ageing | None = None,
    progress: Progress = silent,
    rows_per_slice: int = ROWS_PER_SLICE,
    *,
    memory_limit: str | int | None = None,
    on: str = "local",
    workers: int = 0,
    widen: bool = False,
) -> Updated:
    """Return the fitted `graph` with the rows of the files `new_paths` (see etl/inputs.py) added to its `statistics`.

    Moments, ranges, counts and groups are those of a fit on all rows, bit for bit; a vocabulary has the same values
    and counts in its own order. Raises ConfigError for a graph that cannot be updated (an operator was fitted on what
    another fitted one made, or must see all rows), ArtifactError for statistics of another graph, and what `fit` does.
    """
    rule = rule or Ageing()
    _refuse(graph, statistics)
    nodes, limit = passes(graph)[0], as_bytes(memory_limit)
    files = sized(graph, new_paths, widen)
    with scheduler(on, workers) as where:
        added, rows = aggregate(graph, nodes, files, progress, rows_per_slice, limit, where, first_row=statistics.rows)
    step = statistics.updates + 1
    _compare(statistics, added)
    tables = {key: _merged(nodes, key, [statistics.tables[key], table]) for key, table in added.items()}
    seen = _seen(nodes, statistics, added, step)
    states = finish(nodes, tables)
    found: list[VocabularyChange] = []
    for node in nodes:
        if node.op == "Categorify":
            states[node.id], changed = _grow(node, states[node.id], tables, seen, rule, step)
            found += changed
    updated = graph.with_state(states)
    merged = Statistics(statistics.fingerprint, statistics.rows + rows, step, tables, seen)
    return Updated(updated, merged, Changes(rows, merged.rows, found, moments_of(graph, updated)))


def _refuse(graph: FeatureGraph, statistics: Statistics) -> None:
    """Raise unless `statistics` are those of `graph`, and new rows can be added to them."""
    if not graph.is_fitted:
        raise ConfigError("update", expected="a fitted graph", received="one without statistics", hint="Fit it first.")
    if (fingerprint := unfitted(graph).fingerprint) != statistics.fingerprint:
        hint = "Take the statistics that were saved with this graph, or fit again."
        raise ArtifactError(
            "the statistics", expected=f"those of graph {fingerprint}", received=statistics.fingerprint, hint=hint
        )
    levels = passes(graph)
    if not levels:
        raise ConfigError("update", expected="an operator that is fitted", received="none")
    for node in graph.nodes:
        if node.op in _SETTLE:
            reason = "what the columns are was decided by the old rows"
            raise ConfigError(f"a graph with {node.op} cannot be updated: {reason}", hint=_AGAIN)
    if len(levels) > 1:
        later = ", ".join(f"{node.op} {node.id}" for level in levels[1:] for node in level)
        reason = "it was fitted on what other fitted operators made of the old rows, and that moves with the new ones"
        raise ConfigError(f"{later} cannot be updated: {reason}", hint=_AGAIN)
    for node in levels[0]:
        if (above := graph.rows[node.inputs[0].node]) != "input" and facts(_op(graph, above)).rows == "regroups":
            raise ConfigError(f"{node.op} {node.id} cannot be updated: {above} regroups all rows", hint=_AGAIN)
        if node.params.get("single_table"):
            raise ConfigError(f"Categorify {node.id} cannot be updated: in a single table codes move", hint=_AGAIN)


def _compare(statistics: Statistics, added: Mapping[Key, pl.DataFrame]) -> None:
    """Raise ArtifactError unless the tables of `statistics` are those of the same operators, of the same types."""
    for key, table in added.items():
        seen = {**{name: kind for name, kind in table.schema.items() if name != "count"}, "last_seen": pl.Int64()}
        known, last = statistics.tables.get(key), statistics.seen.get(key)
        if known is None or known.schema != table.schema or (last is not None and last.schema != seen):
            received = "none" if known is None else f"{dict(known.schema)}"[:200]
            expected = f"{dict(table.schema)}"[:200]
            raise ArtifactError(f"the statistics of {key}", expected=expected, received=received, hint=_AGAIN)


def _op(graph: FeatureGraph, id: str) -> str:
    return next(node.op for node in graph.nodes if node.id == id)


def _merged(nodes: Sequence[OpNode], key: Key, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    op = next(node.op for node in nodes if node.id == key[0])
    try:
        return RULES[op].merge(tables)
    except (ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"the statistics of {key} cannot be added to", received=str(error), hint=_AGAIN) from error


def _seen(
    nodes: Sequence[OpNode], statistics: Statistics, added: Mapping[Key, pl.DataFrame], step: int
) -> dict[Key, pl.DataFrame]:
    """Return for each vocabulary the step in which each value was seen last, for those seen after the first."""
    found = dict(statistics.seen)
    counted = {node.id for node in nodes if node.op == "Categorify"}
    for key, table in added.items():
        if key[0] in counted:
            new = table.drop("count").with_columns(last_seen=pl.lit(step, pl.Int64))
            known = [found[key], new] if key in found else [new]
            found[key] = pl.concat(known).group_by(new.columns[:-1]).agg(pl.col("last_seen").max())
    return found


def _grow(
    node: OpNode,
    fresh: State,
    tables: Mapping[Key, pl.DataFrame],
    seen: Mapping[Key, pl.DataFrame],
    rule: Ageing,
    step: int,
) -> tuple[State, list[VocabularyChange]]:
    """Return the vocabularies of a Categorify with the old rows first, and what changed in each."""
    old, state, changes = node.state or {}, dict(fresh), []
    for key, members in vocabularies(node).items():
        if key in given_vocabularies(node):
            continue
        place = (node.id, key)
        state[key], left_out = _grow_one(node, members[0], old[key], tables[place], seen[place], rule, step)
        changes.append(VocabularyChange.of(node.id, key, old[key], state[key], first_code(node, members[0]), left_out))
    return state, changes


def _grow_one(
    node: OpNode,
    column: str,
    old: pl.DataFrame,
    counts: pl.DataFrame,
    seen: pl.DataFrame,
    rule: Ageing,
    step: int,
) -> tuple[pl.DataFrame, int]:
    values = [name for name in counts.columns if name != "count"]
    size, threshold = (limit_of(node, name, column) for name in ("max_size", "freq_threshold"))
    known = counts.join(seen, on=values, how="left", nulls_equal=True).with_columns(pl.col("last_seen").fill_null(1))
    rows = old.select(values).join(known, on=values, how="left", nulls_equal=True, maintain_order="left")
    new = known.join(old.select(values), on=values, how="anti", nulls_equal=True)
    new = new.filter(pl.col("count") >= max(threshold, rule.min_count))
    new = new.sort(["count", *values], descending=[True, *(False for _ in values)])
    room = max(0, size - 2 - buckets_of(node, column) - old.height) if size else new.height
    whole = pl.concat([rows, new.head(room)])
    stays = pl.col("count") >= rule.min_count
    if rule.unseen:
        stays &= pl.col("last_seen") > step - rule.unseen
    whole = whole.select(*values, "count", active=stays)
    if whole["active"].all():
        whole = whole.drop("active")
    return whole, max(0, new.height - room)
