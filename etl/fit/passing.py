"""DataStats, ReduceDtypeSize and ValueCount: what is learnt of values that pass through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from etl.errors import ConfigError
from etl.fit import exact
from etl.fit.rule import RULES, FitRule, State
from etl.fit.zeros import one_zero
from etl.graph import FeatureGraph, OpNode


def _check_scalars(graph: FeatureGraph, node: OpNode) -> None:
    for ref in node.inputs:
        column = graph.columns[ref]
        if column.is_list or column.dtype == "datetime":
            received = "lists" if column.is_list else column.dtype
            raise ConfigError(f"{node.op} of {ref.column!r}", expected="numbers or strings", received=received)


# DataStats.


def _statistics(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    schema, found = rows.collect_schema(), {}
    for ref in node.inputs:
        name, dtype = ref.column, schema[ref.column]
        x = pl.col(name)
        if dtype == pl.String:
            number, kind = x.str.len_chars().cast(pl.Int64), "int64"
        elif dtype.is_float():
            number, kind = one_zero(x.fill_nan(None).cast(pl.Float64)), "float64"
        else:
            number, kind = x.cast(pl.Int64), "int64"
        aggregates = {"rows": pl.len().cast(pl.Int64), "min": number.min(), "max": number.max()}
        sums = exact.sums(number, "x", kind) | exact.squares(number, "x", kind)
        found[f"numbers.{name}"] = rows.select(**aggregates, **sums)
        if not dtype.is_float():
            found[f"values.{name}"] = rows.select(value=x).drop_nulls().unique()
    return found


def _add_statistics(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    table = pl.concat(tables)
    if table.columns == ["value"]:
        return table.unique()
    return table.select(pl.col("rows").sum(), pl.col("min").min(), pl.col("max").max(), exact.columns_of("x").sum())


def _finish_statistics(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    found = []
    for ref in node.inputs:
        table, values = tables[f"numbers.{ref.column}"], tables.get(f"values.{ref.column}")
        rows, known = table["rows"].item(), table["x.count"].item()
        mean, variance = exact.mean(table, "x").item(), exact.variance(table, "x").item()
        missing = 100 * (1 - known / rows) if rows else float("nan")
        size = None if values is None else values.height
        low, high = (
            float("nan") if table[name].item() is None else float(table[name].item()) for name in ("min", "max")
        )
        found.append((ref.column, size, low, high, mean, variance**0.5, missing))
    floats = dict.fromkeys(("min", "max", "mean", "std", "per_nan"), pl.Float64)
    schema = {"column": pl.String, "cardinality": pl.Int64, **floats}
    return {"stats": pl.DataFrame(found, schema=schema, orient="row")}


RULES.register("DataStats")(
    FitRule(
        _statistics,
        _add_statistics,
        _finish_statistics,
        _check_scalars,
        split_by=lambda table: ["value"] if table.columns == ["value"] else [],
    )
)


# ReduceDtypeSize.


def _ranges(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    schema, found = rows.collect_schema(), []
    for ref in node.inputs:
        dtype = schema[ref.column]
        x = pl.col(ref.column) if dtype.is_signed_integer() else pl.lit(None, pl.Int64)
        low, high = x.min().cast(pl.Int64), x.max().cast(pl.Int64)
        kind = "float" if dtype.is_float() else str(dtype).lower()
        found.append(rows.select(column=pl.lit(ref.column), kind=pl.lit(kind), min=low, max=high))
    return {"sizes": pl.concat(found)}


def _widen(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    by = ("column", "kind")
    return pl.concat(tables).group_by(by, maintain_order=True).agg(pl.col("min").min(), pl.col("max").max())


def smallest(low: int | None, high: int | None, kind: str) -> str:
    """Return the smallest signed type that holds low to high, its own smallest value left out: that means null."""
    if low is None or high is None:
        return kind
    for name in ("int8", "int16", "int32"):
        if np.iinfo(name).min < low and high <= np.iinfo(name).max:
            return name
    return "int64"


def _finish_ranges(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    rows = tables["sizes"].to_dicts()
    made = [node.params.get("float_dtype") or "float32" if r["kind"] == "float" else _reduced(r) for r in rows]
    return {"sizes": tables["sizes"].select("column", pl.Series("dtype", made, pl.String), "min", "max")}


def _reduced(row: Mapping[str, object]) -> str:
    kind = {"string": "string", "boolean": "bool"}.get(str(row["kind"]), str(row["kind"]))
    return smallest(row["min"], row["max"], kind) if kind.startswith("int") else kind  # type: ignore[arg-type]


RULES.register("ReduceDtypeSize")(FitRule(_ranges, _widen, _finish_ranges, _check_scalars))


# ValueCount.


def _lengths(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    schema, found = rows.collect_schema(), []
    for ref in node.inputs:
        is_list = isinstance(schema[ref.column], pl.List)
        size = pl.col(ref.column).list.len().cast(pl.Int64) if is_list else pl.lit(None, pl.Int64)
        found.append(rows.select(column=pl.lit(ref.column), min=size.min(), max=size.max()))
    return {"lengths": pl.concat(found)}


def _widen_lengths(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(tables).group_by("column", maintain_order=True).agg(pl.col("min").min(), pl.col("max").max())


def _finish_lengths(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    return {"lengths": tables["lengths"]}


RULES.register("ValueCount")(FitRule(_lengths, _widen_lengths, _finish_lengths))
