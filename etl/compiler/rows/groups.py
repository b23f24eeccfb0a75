"""Groupby: one row per group, of all rows, sorted by the keys; a row whose key is missing is left out, as in pandas."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from etl.compiler.expr import Expr, Refusal
from etl.compiler.relational import RULES, RowRule
from etl.compiler.rows.drops import missing
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float, is_integer
from etl.graph import OpNode
from etl.operators.rows import aggregations, names, outputs_of

_OF_NUMBERS = ("sum", "mean", "std", "var", "median")

_AGGREGATES: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "count": lambda x: x.len(),
    "nunique": lambda x: x.n_unique(),
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.cast(pl.Float64).mean(),
    "std": lambda x: x.cast(pl.Float64).std(),
    "var": lambda x: x.cast(pl.Float64).var(),
    "min": lambda x: x.min(),
    "max": lambda x: x.max(),
    "median": lambda x: x.cast(pl.Float64).median(),
}
"""Of the values that are not missing."""


def _group(node: OpNode, frame: pl.LazyFrame) -> pl.LazyFrame:
    schema = frame.collect_schema()
    keys = names(node, "groupby_cols")
    rows = frame.filter(~missing(key, schema[key]) for key in keys)
    if order := names(node, "sort_cols"):
        ascending = node.params.get("ascending", True)
        descending = [not each for each in ascending] if isinstance(ascending, list) else not ascending
        by = [pl.col(name).fill_nan(None) if schema[name].is_float() else pl.col(name) for name in order]
        rows = rows.sort(by, descending=descending, nulls_last=True, maintain_order=True)
    computed = outputs_of(node, [ref.column for ref in node.inputs])
    kept = {column.name: column.dtype for column in node.outputs}
    found = [
        _aggregate(node, column, how, schema[column], kept[output]).alias(output)
        for output, (column, how) in computed.items()
        if output in kept
    ]
    # pandas takes the zeros of both signs for one key; so does Polars.
    return rows.group_by(keys, maintain_order=True).agg(found).sort(keys).select(*kept)


def _aggregate(node: OpNode, column: str, how: str, dtype: pl.DataType, declared: str) -> pl.Expr:
    x = pl.col(column)
    if how == "list":
        return x
    if how in ("first", "last"):
        # In NVTabular "first" is the smallest also of rows in descending order.
        from_start = (how == "first") == bool(node.params.get("ascending", True))
        return x.first() if from_start else x.last()
    known = x.drop_nans().drop_nulls() if dtype.is_float() else x.drop_nulls()
    if how == "sum" and dtype.is_float():
        known = known.cast(pl.Float64)
    made = _AGGREGATES[how](known).cast(dtype_named(declared).polars)
    return made.fill_null(float("nan")) if is_float(declared) else made


def _check(node: OpNode, inputs: Mapping[str, Expr]) -> None:
    for option in ("groupby_cols", "sort_cols"):
        for name in names(node, option):
            if name not in inputs:
                raise Refusal(f"{option} names {name!r}, which it does not get.", "Select that column too.", (name,))
            if inputs[name].type.is_list:
                raise Refusal(f"{option} names {name!r}, a list.", "Group by scalar columns.", (name,))
    ascending = node.params.get("ascending", True)
    if isinstance(ascending, list) and len(ascending) != len(names(node, "sort_cols")):
        raise Refusal("ascending is not one flag for each of sort_cols.", "Give as many, or one for all.")
    if not names(node, "groupby_cols"):
        raise Refusal("it has no groupby_cols.", "Name the columns to group by.")
    for name, x in inputs.items():
        wanted = [] if name in names(node, "groupby_cols") else aggregations(node.params, name)
        if x.type.is_list and wanted:
            raise Refusal("it aggregates a list.", "Aggregate scalar columns.", (name,))
        number = is_float(x.type.dtype) or is_integer(x.type.dtype)
        if not number and (wrong := [each for each in wanted if each in _OF_NUMBERS]):
            raise Refusal(f"{', '.join(wrong)} of {x.type.dtype}.", "Give aggs as a dict by column.", (name,))


RULES.register("Groupby")(RowRule(_group, _check))
