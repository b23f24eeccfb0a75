"""DataStats, DropLowCardinality, ReduceDtypeSize and ValueCount."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.dtypes import is_float
from etl.graph import OpNode
from etl.reader.rules import Rule, State, add, attributes, same_arguments


def prepare(op: Any) -> None:
    """Let operators (of a copy of a workflow) declare what they make, where NVTabular 23.08 fails or says otherwise."""
    if type(op).__name__ == "ValueCount":
        op._compute_shape = _kept_shape
    if type(op).__name__ == "DropLowCardinality":
        op.compute_selector = _selector(op)


def _kept_shape(column: Any, schema: Any) -> Any:
    """The input's shape: lengths that were seen in fit are no limit, and a scalar is no list."""
    shape = schema[schema.column_names[0]].shape
    return column.with_shape((None, None) if shape.is_list else shape)


_UNFITTED = 2
"""The largest code of a Categorify that knows no value: what it keeps is decided once it does (etl/fit/settled.py)."""


def _selector(op: Any) -> Any:
    from merlin.dag import ColumnSelector
    from merlin.schema import Tags

    def chosen(schema: Any, selector: Any, *others: Any) -> Any:
        kept = [
            column.name
            for column in schema
            if Tags.CATEGORICAL not in column.tags
            or not column.int_domain
            or column.int_domain.max <= _UNFITTED
            or column.int_domain.max >= op.min_cardinality
        ]
        return ColumnSelector(kept)

    return chosen


def _stats(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    names = [ref.column for ref in node.inputs]
    rows = [(n, op.output[n].get("cardinality"), *(_number(op.output[n][k]) for k in _NUMBERS)) for n in names]
    schema = {"column": pl.String, "cardinality": pl.Int64, **dict.fromkeys(_NUMBERS, pl.Float64)}
    return {"stats": pl.DataFrame(rows, schema=schema, orient="row")}


_NUMBERS = ("min", "max", "mean", "std", "per_nan")


def _number(value: Any) -> float:
    return float(value)


def _restore_stats(op: Any, node: OpNode, folder: Path) -> None:
    op.output = {row.pop("column"): row for row in (node.state or {})["stats"].to_dicts()}


def _sizes(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    from etl.fit.passing import smallest

    rows: list[tuple[Any, ...]] = []
    for ref in node.inputs:
        low, high = op.ranges[ref.column]
        kind, known = dtypes[ref.column], not (low != low or high != high)
        if is_float(kind):
            rows.append((ref.column, node.params["float_dtype"], None, None))
        elif kind.startswith("int"):
            low, high = (int(low), int(high)) if known else (None, None)
            rows.append((ref.column, smallest(low, high, kind), low, high))
        else:
            rows.append((ref.column, kind, None, None))
    schema = {"column": pl.String, "dtype": pl.String, "min": pl.Int64, "max": pl.Int64}
    return {"sizes": pl.DataFrame(rows, schema=schema, orient="row")}


def _restore_sizes(op: Any, node: OpNode, folder: Path) -> None:
    import merlin.dtypes

    from etl.reader.columns import TO_MERLIN

    rows = (node.state or {})["sizes"].to_dicts()
    declared = {row["column"]: getattr(merlin.dtypes, TO_MERLIN.get(row["dtype"], row["dtype"])) for row in rows}
    op.ranges = {row["column"]: (row["min"], row["max"]) for row in rows}
    numbers = {name: dtype for name, dtype in declared.items() if dtype.element_type.value in ("int", "float")}

    def transform(selector: Any, df: Any) -> Any:
        for name, dtype in numbers.items():
            if not (df[name].dtype.kind == "f" and df[name].isna().any() and dtype.element_type.value == "int"):
                df[name] = df[name].astype(dtype.to_numpy)
        return df

    def output_schema(schema: Any, selector: Any, before: Any = None) -> Any:
        return type(schema)([schema[name].with_dtype(dtype) for name, dtype in declared.items()])

    op.transform, op.compute_output_schema = transform, output_schema


def _counts(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    found = [(ref.column, op.stats.get(ref.column, {}).get("value_count", {})) for ref in node.inputs]
    rows = [(name, each.get("min"), each.get("max")) for name, each in found]
    schema = {"column": pl.String, "min": pl.Int64, "max": pl.Int64}
    return {"lengths": pl.DataFrame(rows, schema=schema, orient="row")}


def _restore_counts(op: Any, node: OpNode, folder: Path) -> None:
    rows = (node.state or {})["lengths"].drop_nulls().to_dicts()
    op.stats = {row["column"]: {"value_count": {"min": row["min"], "max": row["max"]}} for row in rows}


def _float_dtype(op: Any, selector: Any) -> dict[str, Any]:
    return {"float_dtype": np.dtype(op.float_dtype).name}


def _make_drop(ops: Any, node: OpNode) -> Any:
    return ops.AddMetadata()  # what is left after fit is known: the columns that are selected


add("DataStats", Rule(attributes(), same_arguments, state=_stats, restore=_restore_stats))
add("DropLowCardinality", Rule(attributes("min_cardinality"), _make_drop))
add("ReduceDtypeSize", Rule(_float_dtype, same_arguments, state=_sizes, restore=_restore_sizes))
add("ValueCount", Rule(attributes(), same_arguments, state=_counts, restore=_restore_counts))
