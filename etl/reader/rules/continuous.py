"""Operators on numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.graph import OpNode
from etl.reader.rules import Rule, State, add, attributes, plain, same_arguments


def _out_dtype(op: Any, selector: Any) -> dict[str, Any]:
    return {"out_dtype": None if op.out_dtype is None else np.dtype(op.out_dtype).name}


def _moments(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    names = [ref.column for ref in node.inputs]
    schema = {"column": pl.String, "count": pl.Int64, "mean": pl.Float64, "std": pl.Float64}
    # NVTabular does not keep the count.
    rows = [(name, None, op.means[name], op.stds[name]) for name in names]
    return {"moments": pl.DataFrame(rows, schema=schema, orient="row")}


def _ranges(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    names = [ref.column for ref in node.inputs]
    columns = {"column": names, "min": [float(op.mins[n]) for n in names], "max": [float(op.maxs[n]) for n in names]}
    return {"ranges": pl.DataFrame(columns)}


def _boundaries(op: Any, selector: Any) -> dict[str, Any]:
    return {"boundaries": {name: plain(op.boundaries(name)) for name in selector.names}}


def _restore_moments(op: Any, node: OpNode, folder: Path) -> None:
    rows = (node.state or {})["moments"].rows(named=True)
    op.means = {row["column"]: row["mean"] for row in rows}
    op.stds = {row["column"]: row["std"] for row in rows}


def _restore_ranges(op: Any, node: OpNode, folder: Path) -> None:
    rows = (node.state or {})["ranges"].rows(named=True)
    op.mins = {row["column"]: row["min"] for row in rows}
    op.maxs = {row["column"]: row["max"] for row in rows}


add("Bucketize", Rule(_boundaries, same_arguments))
add("Clip", Rule(attributes("min_value", "max_value"), same_arguments))
add("LogOp", Rule(attributes(), same_arguments))
add("Normalize", Rule(_out_dtype, same_arguments, state=_moments, restore=_restore_moments))
add("NormalizeMinMax", Rule(_out_dtype, same_arguments, state=_ranges, restore=_restore_ranges))
