"""Categorify: how often each value occurs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from etl.dtypes import is_integer
from etl.errors import ConfigError
from etl.fit.rule import RULES, FitRule, State
from etl.graph import FeatureGraph, OpNode
from etl.operators.categorical import buckets_of, option_of, vocabulary_of


def _check_options(graph: FeatureGraph, node: OpNode) -> None:
    """Raise ConfigError for options that no data can satisfy."""
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


RULES.register("Categorify")(FitRule(_count_values, _add_counts, _order_values, _check_options))
