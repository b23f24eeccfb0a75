"""Operators that look at other rows, or change which rows there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl.operators import Operator, add
from etl.operators.kinds import FLAG, NAME, NAME_OR_NAMES, by_name, either, list_of, one_of, required, whole
from etl.operators.traced import TREE, columns_of

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref

AGGREGATIONS = ("list", "first", "last", "count", "nunique", "sum", "mean", "std", "var", "min", "max", "median")
"""Groupby's aggregations, in the order of their columns."""


def names(node: OpNode, option: str) -> list[str]:
    """Return an option that is a column name or a list of them."""
    found = node.params.get(option) or []
    return [found] if isinstance(found, str) else list(found)


def aggregations(params: Mapping[str, Any], column: str) -> list[str]:
    """Return what a Groupby computes of `column`, in the order of AGGREGATIONS."""
    aggs = params.get("aggs") or {}
    wanted = aggs.get("__all__", aggs.get(column, []))
    return [name for name in AGGREGATIONS if name in wanted]


def outputs_of(node: OpNode, columns: list[str]) -> dict[str, tuple[str, str]]:
    """Return (column, aggregation) by the name of a Groupby's output, keys left out."""
    keys, sep = names(node, "groupby_cols"), node.params.get("name_sep", "_")
    found: dict[str, tuple[str, str]] = {}
    for column in columns:
        if column not in keys:
            found |= {f"{column}{sep}{name}": (column, name) for name in aggregations(node.params, column)}
    return found


def _grouped_from(node: OpNode, output: str) -> tuple[Ref, ...]:
    column, _ = outputs_of(node, [ref.column for ref in node.inputs]).get(output, (output, ""))
    read = {column, *names(node, "groupby_cols"), *names(node, "sort_cols")}
    return tuple(ref for ref in node.inputs if ref.column in read)


def _filtered_from(node: OpNode, output: str) -> tuple[Ref, ...]:
    read = {output, *columns_of(node.params["keep"])}
    return tuple(ref for ref in node.inputs if ref.column in read)


def lags(node: OpNode) -> dict[str, tuple[str, int]]:
    """Return (column, shift) by the name of a DifferenceLag's output."""
    shift = node.params.get("shift", 1)
    shifts = [shift] if isinstance(shift, int) else list(shift)
    return {f"{ref.column}_difference_lag_{by}": (ref.column, by) for ref in node.inputs for by in shifts}


def _lagged_from(node: OpNode, output: str) -> tuple[Ref, ...]:
    read = {lags(node)[output][0], *names(node, "partition_cols")}
    return tuple(ref for ref in node.inputs if ref.column in read)


_SHIFT = whole(-(2**31), 2**31)

add(
    Operator(
        "DifferenceLag",
        "The difference to the row so many rows before.",
        sources=_lagged_from,
        params={"partition_cols": NAME_OR_NAMES, "shift": either(_SHIFT, list_of(_SHIFT, 1_000))},
    ),
    Operator("Dropna", "Rows without a null only.", rows="drops", passes_through=True),
    Operator(
        "Filter",
        "The rows for which a function holds.",
        rows="drops",
        passes_through=True,
        sources=_filtered_from,
        params={"keep": required(TREE)},
    ),
    Operator(
        "Groupby",
        "One row per group: lists, counts and other aggregates.",
        rows="regroups",
        sources=_grouped_from,
        params={
            "groupby_cols": NAME_OR_NAMES,
            "sort_cols": NAME_OR_NAMES,
            "aggs": by_name(list_of(one_of(*AGGREGATIONS), len(AGGREGATIONS))),
            "name_sep": NAME,
            "ascending": either(FLAG, list_of(FLAG)),
        },
    ),
)
