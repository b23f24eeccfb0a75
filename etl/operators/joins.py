"""Operators that look rows of tables up: JoinGroupby, TargetEncoding, JoinExternal, ColumnSimilarity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from etl.operators import Operator, State, add
from etl.operators.categorical import name_of

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref

FOLD = "__fold__"
"""The output that tells a row's fold, where drop_folds is False."""

GROUP_DTYPES = {"count": "int32", "mean": "float32", "std": "float32", "var": "float32"}
"""NVTabular's types of a group's statistics; the others have that of their column."""


def keys_of(node: OpNode) -> list[list[str]]:
    """Return the groups of key columns, in the order of the outputs."""
    return [list(group) for group in node.params["groups"]]


def group_outputs(node: OpNode) -> dict[str, tuple[list[str], str, str]]:
    """Return a JoinGroupby's outputs by name: the key columns, the column ("" for a count) and the statistic."""
    found = {}
    for group in keys_of(node):
        name = name_of(node, group)
        for column in node.params["cont_cols"]:
            for stat in node.params["stats"]:
                of = "" if stat == "count" else column
                found[f"{name}_{of}_{stat}" if of else f"{name}_{stat}"] = (group, of, stat)
    return found


def encoded_outputs(node: OpNode) -> dict[str, tuple[list[str], str]]:
    """Return a TargetEncoding's outputs by name, without its folds: the key columns and the target."""
    found = {}
    for place, group in enumerate(keys_of(node)):
        for number, target in enumerate(node.params["target"]):
            name = f"TE_{name_of(node, group)}_{target}"
            if node.params.get("out_col"):
                given = node.params["out_col"][place]
                name = given if isinstance(given, str) else given[number]
            found[name] = (group, target)
    return found


def has_folds(node: OpNode) -> bool:
    """Return True for a TargetEncoding whose rows are encoded by other folds than their own."""
    return int(node.params["kfold"]) > 1


def _outputs(node: OpNode) -> Mapping[str, list[str]]:
    """Return the key columns of every output."""
    found = group_outputs(node) if node.op == "JoinGroupby" else encoded_outputs(node)
    return {name: parts[0] for name, parts in found.items()}


def _keys(node: OpNode, output: str) -> tuple[Ref, ...]:
    """Return the key columns only: statistics of other columns are looked up by them."""
    group = _outputs(node).get(output, [])
    return tuple(ref for ref in node.inputs if ref.column in group)


def _tables(node: OpNode, state: State, kept: Collection[str]) -> State:
    groups = {name_of(node, group) for name, group in _outputs(node).items() if name in kept}
    return {key: table for key, table in state.items() if key == "means" or key.partition(".")[2] in groups}


def _joined_keys(node: OpNode, output: str) -> tuple[Ref, ...]:
    """Return the input that a JoinExternal passes on, or the keys of a joined column."""
    same = tuple(ref for ref in node.inputs if ref.column == output)
    return same or tuple(ref for ref in node.inputs if ref.column in node.params["on"])


def _pair(node: OpNode, output: str) -> tuple[Ref, ...]:
    left, right = similar_outputs(node)[output]
    return tuple(ref for ref in node.inputs if ref.column in (left, right))


def similar_outputs(node: OpNode) -> dict[str, tuple[str, str]]:
    """Return a ColumnSimilarity's outputs by name: the left and the right column."""
    return {f"{left}_{right}_sim": (left, right) for left, right in keys_of(node)}


def _whole(node: OpNode, state: State, kept: Collection[str]) -> State:
    return state


add(
    Operator(
        "JoinGroupby",
        "Statistics of columns over the rows with the same key.",
        fitted=True,
        strict=True,
        sources=_keys,
        without=_tables,
    ),
    Operator(
        "TargetEncoding",
        "The smoothed mean of a target over the rows with the same key.",
        fitted=True,
        numbered=True,
        strict=True,
        sources=_keys,
        without=_tables,
    ),
    Operator("JoinExternal", "Columns of another table, by key.", sources=_joined_keys, without=_whole),
    Operator("ColumnSimilarity", "How alike two rows of feature matrices are.", sources=_pair, without=_whole),
)
