"""Operators on missing values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from etl.graph import OpNode
from etl.reader.rules import Rule, State, add, attributes, same_arguments


def prepare(op: Any) -> None:
    """Let a FillMedian (of a copy of a workflow) say that integers become float64: the median need not be one."""
    if type(op).__name__ != "FillMedian":
        return
    declare = op._compute_dtype

    def declared(column: Any, schema: Any) -> Any:
        made = declare(column, schema)
        return made.with_dtype("float64") if made.dtype.element_type.value in ("int", "uint") else made

    op._compute_dtype = declared


def _medians(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    names = [ref.column for ref in node.inputs]
    return {"medians": pl.DataFrame({"column": names, "median": [float(op.medians[name]) for name in names]})}


def _restore_medians(op: Any, node: OpNode, folder: Path) -> None:
    op.medians = dict((node.state or {})["medians"].select("column", "median").iter_rows())


add("FillMedian", Rule(attributes("add_binary_cols"), same_arguments, state=_medians, restore=_restore_medians))
add("FillMissing", Rule(attributes("fill_val", "add_binary_cols"), same_arguments))
