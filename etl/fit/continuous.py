"""Normalize and NormalizeMinMax: moments and ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from etl.fit.rule import RULES, FitRule, State
from etl.graph import OpNode


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
