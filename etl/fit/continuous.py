"""Normalize and NormalizeMinMax: moments and ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from etl.fit.exact import Total, spell, unspell
from etl.fit.rule import RULES, FitRule, State
from etl.fit.zeros import one_zero
from etl.graph import OpNode


def _numbers(rows: pl.LazyFrame, column: str) -> pl.Expr:
    """Return the known values of a column, in float64; the elements of lists."""
    values = pl.col(column)
    if isinstance(rows.collect_schema()[column], pl.List):
        values = values.explode(empty_as_null=False)
    return one_zero(values.cast(pl.Float64).drop_nulls().drop_nans())


_MOMENTS = {"count": pl.Int64, "sum": pl.String, "squares": pl.String, "positive": pl.Int64, "negative": pl.Int64}
"""A Total as a row: whole numbers too long for Int64 are spelled."""


def _row(found: Total) -> dict[str, int | str]:
    return {**found.__dict__, "sum": spell(found.sum), "squares": spell(found.squares)}


def _total(row: Mapping[str, Any]) -> Total:
    kept = {name: row[name] for name in _MOMENTS}
    return Total(**kept | {"sum": unspell(row["sum"]), "squares": unspell(row["squares"])})


def _add_up(values: pl.Series) -> pl.Series:
    return pl.Series([_row(Total.of(values.to_numpy()))], dtype=pl.Struct(_MOMENTS))


def _moments(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    found = []
    for ref in node.inputs:
        x = _numbers(rows, ref.column)
        added = x.map_batches(_add_up, return_dtype=pl.Struct(_MOMENTS), returns_scalar=True)
        found.append(rows.select(column=pl.lit(ref.column), found=added).unnest("found"))
    return {"moments": pl.concat(found)}


def totals(table: pl.DataFrame) -> dict[str, Total]:
    """Return what a table of moments (before `finish`) says of each column."""
    found: dict[str, Total] = {}
    for row in table.iter_rows(named=True):
        found[row["column"]] = found.get(row["column"], Total()) + _total(row)
    return found


def _add_moments(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    rows = [{"column": column, **_row(found)} for column, found in totals(pl.concat(tables)).items()]
    return pl.DataFrame(rows, schema={"column": pl.String, **_MOMENTS})


def _finish_moments(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    found = totals(tables["moments"])
    rows = [(column, each.known, each.mean, math.sqrt(each.variance())) for column, each in found.items()]
    schema = {"column": pl.String, "count": pl.Int64, "mean": pl.Float64, "std": pl.Float64}
    return {"moments": pl.DataFrame(rows, schema=schema, orient="row")}


RULES.register("Normalize")(FitRule(_moments, _add_moments, _finish_moments))


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
