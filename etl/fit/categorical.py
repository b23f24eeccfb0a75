"""Categorify: how often each value, or each combination of values, occurs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from etl.dtypes import is_integer
from etl.errors import ConfigError
from etl.fit.rule import RULES, FitRule, State
from etl.fit.zeros import one_zero
from etl.graph import FeatureGraph, OpNode
from etl.operators.categorical import (
    buckets_of,
    given_vocabularies,
    is_combined,
    is_strict,
    key_columns,
    limit_of,
    parts_of,
    vocabularies,
)


def _check_options(graph: FeatureGraph, node: OpNode) -> None:
    """Raise ConfigError for options that no data can satisfy."""
    if node.params.get("single_table") and not is_strict(node):
        hint = "It gives null and unknown values the codes of real categories; strict_nvtabular=True repeats that."
        raise ConfigError("Categorify", expected="single_table=False", received="True", hint=hint)
    dtypes = {ref.column: graph.columns[ref].dtype for ref in node.inputs}
    for key, members in vocabularies(node).items():
        for column in members:
            _check_limits(node, column)
        if is_combined(node):
            continue
        kinds = {"integer" if is_integer(dtypes[name]) else dtypes[name] for name in members}
        if len(kinds) > 1:
            received = ", ".join(sorted(kinds))
            raise ConfigError(f"Categorify vocabulary {key!r}", expected="columns of one type", received=received)


def _check_limits(node: OpNode, column: str) -> None:
    size, threshold = (limit_of(node, name, column) for name in ("max_size", "freq_threshold"))
    least = buckets_of(node, column) + 2
    if size and threshold:
        raise ConfigError("Categorify", expected="max_size or freq_threshold", received="both")
    if size and size < least:
        raise ConfigError(f"Categorify max_size of {column!r}", expected=f">= {least}", received=str(size))


def _count_values(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    schema = rows.collect_schema()
    found = {}
    for key, members in vocabularies(node).items():
        if key in given_vocabularies(node):
            continue
        parts = parts_of(node, members[0])
        if len(parts) > 1:
            found[key] = _count_tuples(rows, schema, parts)
            continue
        tables = [_count_column(rows, schema, column) for column in members]
        found[key] = pl.concat(tables, how="vertical_relaxed")
    return found


def _count_column(rows: pl.LazyFrame, schema: Mapping[str, pl.DataType], column: str) -> pl.LazyFrame:
    dtype = schema[column]
    values = pl.col(column).explode(empty_as_null=False) if isinstance(dtype, pl.List) else pl.col(column)
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    values = one_zero(values.drop_nans()) if inner.is_float() else values
    return rows.select(value=values).drop_nulls().group_by("value").agg(count=pl.len().cast(pl.Int64))


def _count_tuples(rows: pl.LazyFrame, schema: Mapping[str, pl.DataType], parts: Sequence[str]) -> pl.LazyFrame:
    """Count the tuples of `parts`; one of nothing but nulls is null, and not counted."""
    keys = {
        name: one_zero(pl.col(part).fill_nan(None)) if schema[part].is_float() else pl.col(part)
        for name, part in zip(key_columns(parts), parts, strict=True)
    }
    known = rows.select(**keys).filter(pl.any_horizontal(pl.col(name).is_not_null() for name in keys))
    return known.group_by(*keys).agg(count=pl.len().cast(pl.Int64))


def _add_counts(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    added = pl.concat(tables).lazy().group_by(pl.exclude("count")).agg(pl.col("count").sum())
    return added.collect(engine="streaming")


_LARGE = 1_000_000
_RARE = 4


_NARROW = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)


def _packed_by_count(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Sort as `_by_count` does, by one number that holds the count and a value of at most 32 bits."""
    value, count = table.get_column(name), table.get_column("count")
    low, most, width = int(value.min()), int(count.max()), 2**32  # type: ignore[arg-type]
    if most >= 2**31:
        return table.sort("count", name, descending=[True, False])
    packed = ((most - count) * width + (value.cast(pl.Int64) - low)).alias("packed").sort()
    back = (packed % width + low).cast(value.dtype).alias(name)
    return pl.DataFrame([back, (most - packed // width).alias("count")]).select(table.columns)


def _by_count(table: pl.DataFrame, values: Sequence[str]) -> pl.DataFrame:
    """Sort by falling count, then by value; in large tables rare values apart, for one column is sorted in place."""
    if len(values) == 1 and table.height and table.schema[values[0]] in _NARROW:
        return _packed_by_count(table, values[0])
    by, descending = ["count", *values], [True, *(False for _ in values)]
    if len(values) > 1 or table.height < _LARGE:
        return table.sort(by, descending=descending)
    parts = [table.filter(pl.col("count") > _RARE).sort(by, descending=descending)]
    for count in range(_RARE, 0, -1):
        found = table.get_column(values[0]).filter(table.get_column("count") == count).sort()
        parts.append(pl.DataFrame([found, pl.repeat(count, found.len(), dtype=pl.Int64, eager=True).alias("count")]))
    return pl.concat(parts)


def _order_values(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    state = {}
    for key, members in vocabularies(node).items():
        if key in given_vocabularies(node):
            state[key] = (node.state or {})[key]
            continue
        size, threshold = (limit_of(node, name, members[0]) for name in ("max_size", "freq_threshold"))
        kept = tables[key].filter(pl.col("count") >= threshold) if threshold else tables[key]
        values = [name for name in kept.columns if name != "count"]
        kept = _by_count(kept, values)
        state[key] = kept.head(size - 2 - buckets_of(node, members[0])) if size else kept
    return state


def _values_of(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name != "count"]


RULES.register("Categorify")(
    FitRule(_count_values, _add_counts, _order_values, _check_options, _values_of, streams=True)
)
