"""JoinGroupby and TargetEncoding: statistics of groups, summed exactly, so that the order of rows does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from etl.compiler.lowering.joins import fold_of
from etl.compiler.targets.polars import Memo, spell
from etl.dtypes import from_polars, is_float, is_integer
from etl.errors import ConfigError
from etl.fit import exact
from etl.fit.rule import RULES, FitRule, State
from etl.fit.zeros import one_zero
from etl.graph import FeatureGraph, OpNode
from etl.operators.categorical import is_strict, key_columns, name_of
from etl.operators.joins import has_folds, keys_of

_VARIES = {"var", "std"}


def _keys(rows: pl.LazyFrame, group: Sequence[str]) -> dict[str, pl.Expr]:
    """Return the key columns of a group's table, NaN as null."""
    schema = rows.collect_schema()
    columns = [one_zero(pl.col(name).fill_nan(None)) if schema[name].is_float() else pl.col(name) for name in group]
    return dict(zip(key_columns(group), columns, strict=True))


def _named(columns: Mapping[str, pl.Expr]) -> list[pl.Expr]:
    return [column.alias(name) for name, column in columns.items()]


def _known(rows: pl.LazyFrame, name: str, place: int) -> dict[str, pl.Expr]:
    dtype, _ = from_polars(rows.collect_schema()[name])
    return exact.sums(pl.col(name), f"x{place}", dtype)


def _count() -> pl.Expr:
    return pl.len().cast(pl.Int64)


def _add(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put tables together: keys stay, the least and the largest are found again, all else is added."""
    whole = pl.concat(tables)
    keys = [name for name in whole.columns if name in ("value", "fold", "column") or name.startswith("value_")]
    rest = [name for name in whole.columns if name not in keys]
    put = {"min": pl.Expr.min, "max": pl.Expr.max}
    made = [put.get(name.partition("_")[0], pl.Expr.sum)(pl.col(name)) for name in rest]
    return whole.group_by(keys).agg(made) if keys else whole.select(made)


def _group_statistics(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    stats, wanted = set(node.params["stats"]), {"count": _count()}
    schema = rows.collect_schema()
    for place, name in enumerate(node.params["cont_cols"]):
        x = one_zero(pl.col(name).fill_nan(None)) if schema[name].is_float() else pl.col(name)
        wanted |= _known(rows, name, place)
        if stats & _VARIES:
            wanted |= exact.squares(pl.col(name), f"x{place}", from_polars(schema[name])[0])
        wanted |= {f"{stat}_{place}": getattr(x, stat)() for stat in ("min", "max") if stat in stats}
    found = {}
    for group in keys_of(node):
        keys = _keys(rows, group)
        found[f"groups.{name_of(node, group)}"] = rows.group_by(_named(keys)).agg(**wanted)
    return found


def _finish_groups(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    state = {}
    for key, table in tables.items():
        keys = [name for name in table.columns if name.startswith("value")]
        table = table.sort(keys)
        made: dict[str, pl.Series] = {}
        counts = _rows_of_key(node, table, keys)
        for place in range(len(node.params["cont_cols"])):
            made |= _statistics(node, table, place, counts)
        state[key] = table.select(*keys, counts, **made)
    return state


def _rows_of_key(node: OpNode, table: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Return the rows of each group; with strict_nvtabular none where the first key is null, as it counts there."""
    if not is_strict(node):
        return table["count"]
    return table.select(count=pl.when(pl.col(keys[0]).is_not_null()).then("count").otherwise(0))["count"]


def _statistics(node: OpNode, table: pl.DataFrame, place: int, counts: pl.Series) -> dict[str, pl.Series]:
    """Return the statistics of one column by `<stat>_<place>`, over its known values.

    With strict_nvtabular over the rows of the group, nulls among them, as NVTabular divides.
    """
    stats, name = node.params["stats"], f"x{place}"
    total = exact.total(table, name)
    found = {"sum": total}
    if set(stats) & {"mean"}:
        found["mean"] = exact.mean(table, name)
    if set(stats) & _VARIES:
        found["var"] = exact.variance(table, name)
    if is_strict(node):
        found |= _by_rows(table, name, total, counts, found)
    if "std" in stats:
        found["std"] = found["var"].sqrt()
    found |= {stat: table[f"{stat}_{place}"].cast(pl.Float64) for stat in ("min", "max") if stat in stats}
    return {f"{stat}_{place}": found[stat].fill_null(float("nan")) for stat in stats if stat != "count"}


def _by_rows(
    table: pl.DataFrame, name: str, total: pl.Series, counts: pl.Series, found: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    made = {}
    rows, sums, known = counts.to_numpy(), total.to_numpy(), table[f"{name}.count"].to_numpy()
    with np.errstate(all="ignore"):
        if "mean" in found:
            made["mean"] = pl.Series(sums / rows)
        if "var" in found:
            spread = np.nan_to_num(exact.variance(table, name).to_numpy()) * np.maximum(known - 1, 0)
            squares = spread + np.where(known > 0, sums * sums / np.maximum(known, 1), 0.0)
            variance = (squares - sums * sums / rows) / np.maximum(rows - 1, 1)
            made["var"] = pl.Series(np.where(rows == 1, np.nan, variance))
    return made


def _check_group_columns(graph: FeatureGraph, node: OpNode) -> None:
    """Raise ConfigError unless statistics are of numbers, and keys are scalars."""
    columns = {ref.column: graph.columns[ref] for ref in node.inputs}
    numbers = node.params["cont_cols"] if node.op == "JoinGroupby" else node.params["target"]
    for name in numbers:
        column = columns[name]
        if column.is_list or not (is_float(column.dtype) or is_integer(column.dtype) or column.dtype == "bool"):
            received = "a list" if column.is_list else column.dtype
            raise ConfigError(f"{node.op}: column {name!r}", expected="a scalar column of numbers", received=received)
    for group in keys_of(node):
        if lists := [name for name in group if columns[name].is_list]:
            raise ConfigError(f"{node.op}: key {lists[0]!r}", expected="a scalar column", received="a list")


def _keys_of_table(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name in ("value", "fold") or name.startswith("value_")]


RULES.register("JoinGroupby")(FitRule(_group_statistics, _add, _finish_groups, _check_group_columns, _keys_of_table))


def _target_sums(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    wanted = {"count": _count()}
    for place, name in enumerate(node.params["target"]):
        wanted |= _known(rows, name, place)
    found = {"means": rows.select(**wanted)}
    for group in keys_of(node):
        keys = _keys(rows, group)
        name = name_of(node, group)
        found[f"groups.{name}"] = rows.group_by(_named(keys)).agg(**wanted)
        if has_folds(node):
            keys["fold"] = spell(fold_of(node), Memo(out_of_fold=True))
            found[f"folds.{name}"] = rows.group_by(_named(keys)).agg(**wanted)
    return found


def _finish_targets(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    targets = node.params["target"]
    means = [exact.mean(tables["means"], f"x{place}").item() for place in range(len(targets))]
    state = {"means": pl.DataFrame({"column": targets, "mean": pl.Series(means, dtype=pl.Float64)})}
    for key, table in tables.items():
        if key == "means":
            continue
        keys = sorted(name for name in table.columns if name.startswith("value") or name == "fold")
        table = table.sort(keys)
        made: dict[str, pl.Series] = {}
        values = [name for name in keys if name != "fold"]
        for place in range(len(targets)):
            known = _rows_of_key(node, table, values) if is_strict(node) else table[f"x{place}.count"]
            made |= {f"count_{place}": known, f"sum_{place}": exact.total(table, f"x{place}")}
        state[key] = table.select(*keys, **made)
    return state


RULES.register("TargetEncoding")(FitRule(_target_sums, _add, _finish_targets, _check_group_columns, _keys_of_table))
