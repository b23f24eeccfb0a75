"""Fit: partial aggregates of one slice of rows, merged in order, so that memory is bounded and work can be spread.

One FitRule per operator that is in graph.STATEFUL:
    partial(node, rows)     rows as the node sees them -> lazy tables by key, small or as large as the vocabulary
    merge(tables)           tables of one key, in the order of their rows -> one; merging merged tables is allowed
    finish(node, tables)    merged tables by key -> the node's state (see etl/graph.py)

An operator that reads another fitted one waits for it: fit runs in as many passes as the longest such chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from etl.compiler.registry import Registry
from etl.compiler.targets.polars import PolarsPlan, plan
from etl.dtypes import is_integer
from etl.errors import ConfigError, DataError
from etl.graph import FeatureGraph, OpNode, buckets_of, option_of, vocabulary_of
from etl.parquet import count_rows
from etl.progress import Progress, silent

State = dict[str, pl.DataFrame]
ROWS_PER_SLICE = 1_000_000
_MERGE_AT = 8
"""Tables of one key that are kept before they are merged: memory against time."""


@dataclass(frozen=True)
class FitRule:
    """How one operator is fitted; see the module's docstring."""

    partial: Callable[[OpNode, pl.LazyFrame], dict[str, pl.LazyFrame]]
    merge: Callable[[Sequence[pl.DataFrame]], pl.DataFrame]
    finish: Callable[[OpNode, Mapping[str, pl.DataFrame]], State]


RULES: Registry[FitRule] = Registry("fitted operator")


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
        _check_options(graph, node)
    passes = _passes(graph)
    slices = list(_slices(paths, rows_per_slice))
    total = sum(length for _, _, length in slices) * len(passes)
    done = 0
    for nodes in passes:
        columns = {f"{ref.node}\0{ref.column}": ref for node in nodes for ref in node.inputs}
        run = _Pass(nodes, plan(graph, columns))
        # Without rows the tables are still made: empty, with the right types.
        for path, offset, length in slices or [(paths[0], 0, 0)]:
            run.add(path, offset, length)
            done += length
            progress("fit", done, total, "rows")
        graph = graph.with_state(run.finish())
    return graph


class _Pass:
    """One pass over the rows for `nodes`, none of which reads another."""

    def __init__(self, nodes: Sequence[OpNode], plan: PolarsPlan) -> None:
        self._nodes, self._plan = {node.id: node for node in nodes}, plan
        self._tables: dict[tuple[str, str], list[pl.DataFrame]] = {}

    def add(self, path: Path, offset: int, length: int) -> None:
        """Aggregate one slice."""
        rows = self._plan.apply(pl.scan_parquet(path, glob=False).slice(offset, length))
        wanted: dict[tuple[str, str], pl.LazyFrame] = {}
        for node in self._nodes.values():
            seen = rows.select(pl.col(f"{ref.node}\0{ref.column}").alias(ref.column) for ref in node.inputs)
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


def _passes(graph: FeatureGraph) -> list[list[OpNode]]:
    """Return the fitted operators level by level: each after those whose results it reads."""
    levels: dict[str, int] = {}
    passes: list[list[OpNode]] = []
    for node in graph.nodes:
        level = max((levels.get(ref.node, 0) for ref in node.inputs), default=0)
        if node.op in set(RULES):
            if level == len(passes):
                passes.append([])
            passes[level].append(node)
            level += 1
        levels[node.id] = level
    return passes


def _check_options(graph: FeatureGraph, node: OpNode) -> None:
    """Raise ConfigError for options of a Categorify that no data can satisfy."""
    if node.op != "Categorify":
        return
    kinds: dict[str, set[str]] = {}
    for ref in node.inputs:
        key = vocabulary_of(node, ref.column)
        dtype = graph.columns[ref].dtype
        kinds.setdefault(key, set()).add("integer" if is_integer(dtype) else dtype)
        size, threshold = _limits(node, key, ref.column)
        least = buckets_of(node, ref.column) + 2
        if size and threshold:
            raise ConfigError("Categorify", expected="max_size or freq_threshold", received="both")
        if size and size < least:
            raise ConfigError(f"Categorify max_size of {ref.column!r}", expected=f">= {least}", received=str(size))
    for key, found in kinds.items():
        if len(found) > 1:
            received = ", ".join(sorted(found))
            raise ConfigError(f"Categorify vocabulary {key!r}", expected="columns of one type", received=received)


def _limits(node: OpNode, *keys: str) -> tuple[int, int]:
    return option_of(node, "max_size", *keys), option_of(node, "freq_threshold", *keys)


# Categorify ----------------------------------------------------------------------------------------------------------


def _count_values(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    parts: dict[str, list[pl.LazyFrame]] = {}
    schema = rows.collect_schema()
    for column, dtype in schema.items():
        values = pl.col(column).explode(empty_as_null=False) if isinstance(dtype, pl.List) else pl.col(column)
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        values = values.drop_nans() if inner.is_float() else values
        counted = rows.select(value=values).drop_nulls().group_by("value").agg(count=pl.len().cast(pl.Int64))
        parts.setdefault(vocabulary_of(node, column), []).append(counted)
    return {key: pl.concat(found, how="vertical_relaxed") for key, found in parts.items()}


def _add_counts(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(tables).group_by("value").agg(pl.col("count").sum())


def _order_values(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    state = {}
    members = {vocabulary_of(node, ref.column): ref.column for ref in node.inputs}
    for key, table in tables.items():
        size, threshold = _limits(node, key, members[key])
        kept = table.filter(pl.col("count") >= threshold).sort(["count", "value"], descending=[True, False])
        state[key] = kept.head(size - 2 - buckets_of(node, members[key])) if size else kept
    return state


RULES.register("Categorify")(FitRule(_count_values, _add_counts, _order_values))


# Normalize -----------------------------------------------------------------------------------------------------------


def _numbers(rows: pl.LazyFrame, column: str) -> pl.Expr:
    """Return the known values of a column, in float64; the elements of lists."""
    values = pl.col(column)
    if isinstance(rows.collect_schema()[column], pl.List):
        values = values.explode(empty_as_null=False)
    return values.cast(pl.Float64).drop_nulls().drop_nans()


def _moments(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    found = []
    for ref in node.inputs:
        x = _numbers(rows, ref.column)
        squares = x.var(ddof=0) * x.len()
        aggregates = {"count": x.len().cast(pl.Int64), "mean": x.mean(), "squares": squares}
        found.append(rows.select(column=pl.lit(ref.column), **aggregates))
    return {"moments": pl.concat(found)}


def _add_moments(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Chan, Golub and LeVeque's pairwise update, from the first rows to the last."""
    found: dict[str, tuple[int, float, float]] = {}
    for column, count, mean, squares in (row for table in tables for row in table.iter_rows()):
        before = found.get(column, (0, 0.0, 0.0))
        found[column] = _chan(before, (count, mean, squares)) if count else before
    rows = [(column, *moments) for column, moments in found.items()]
    schema = {"column": pl.String, "count": pl.Int64, "mean": pl.Float64, "squares": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _chan(a: tuple[int, float, float], b: tuple[int, float, float]) -> tuple[int, float, float]:
    if not a[0]:
        return b
    count = a[0] + b[0]
    if not np.isfinite(a[1] + b[1]):  # inf in the data: the mean is inf or NaN, the rest unknown
        return count, a[1] + b[1], float("nan")
    delta = b[1] - a[1]
    return count, a[1] + delta * b[0] / count, a[2] + b[2] + delta * delta * a[0] * b[0] / count


def _finish_moments(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    known, several = pl.col("count") > 0, pl.col("count") > 1
    nan = pl.lit(float("nan"))
    return {
        "moments": tables["moments"].select(
            "column",
            "count",
            mean=pl.when(known).then("mean").otherwise(nan),
            std=pl.when(several).then((pl.col("squares") / (pl.col("count") - 1)).sqrt()).otherwise(nan),
        )
    }


RULES.register("Normalize")(FitRule(_moments, _add_moments, _finish_moments))


# NormalizeMinMax -----------------------------------------------------------------------------------------------------


def _range(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    found = []
    for ref in node.inputs:
        x = _numbers(rows, ref.column)
        found.append(rows.select(column=pl.lit(ref.column), min=x.min(), max=x.max()))
    return {"ranges": pl.concat(found)}


def _widen_ranges(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(tables).group_by("column", maintain_order=True).agg(pl.col("min").min(), pl.col("max").max())


def _finish_ranges(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    return {"ranges": tables["ranges"].with_columns(pl.col("min", "max").fill_null(float("nan")))}


RULES.register("NormalizeMinMax")(FitRule(_range, _widen_ranges, _finish_ranges))
