"""Operators that look rows of tables up: JoinGroupby, TargetEncoding, JoinExternal, ColumnSimilarity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from etl.errors import ConfigError
from etl.operators import Operator, State, add
from etl.operators.categorical import key_columns, name_of
from etl.operators.kinds import (
    COUNTS,
    FLOATS,
    GROUPS,
    KEYS,
    NAME,
    NAMES,
    NUMBER,
    NUMBERS,
    Cells,
    Table,
    by_column,
    by_name,
    either,
    integers,
    list_of,
    one_of,
    optional,
    required,
    whole,
)

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
    """Return the key columns: statistics of others are looked up by them. A fold is for training, and has all."""
    if output == FOLD:
        return node.inputs
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


_STATS = ("count", "sum", "mean", "std", "var", "min", "max")
_MOST_TEXT = 10_000_000
"""Characters of the names that groups, columns and statistics make together."""
_MOST_FOLDS = 10_000
_MOST_ROWS = 2**31 - 1


def _group_tables(node: OpNode) -> dict[str, Table]:
    columns, stats = node.params["cont_cols"], [stat for stat in node.params["stats"] if stat != "count"]
    _refuse_many(node, columns, node.params["stats"])
    made = {f"{stat}_{place}": NUMBERS for place in range(len(columns)) for stat in stats}
    return {f"groups.{name_of(node, group)}": _keyed(group, {"count": COUNTS, **made}) for group in keys_of(node)}


def _target_tables(node: OpNode) -> dict[str, Table]:
    targets = node.params["target"]
    _refuse_many(node, targets, [""])
    made: dict[str, Cells] = {}
    for place in range(len(targets)):
        made |= {f"count_{place}": COUNTS, f"sum_{place}": NUMBERS}
    found = {"means": replace(by_column(mean=NUMBERS), required=False)}
    fold = {"fold": integers(0, _MOST_FOLDS, nulls=False)}
    for group in keys_of(node):
        found[f"groups.{name_of(node, group)}"] = _keyed(group, made)
        found[f"folds.{name_of(node, group)}"] = _keyed(group, made, fold)
    return found


def _keyed(group: Collection[str], made: Mapping[str, Cells], first: Mapping[str, Cells] | None = None) -> Table:
    keys, first = key_columns(group), first or {}
    return Table({**first, **dict.fromkeys(keys, KEYS), **made}, unique=(*first, *keys), required=False)


def _refuse_many(node: OpNode, columns: Collection[str], stats: Collection[str]) -> None:
    """Raise ConfigError where names would fill the memory: every group is joined with every column."""
    parts = [name_of(node, group) for group in keys_of(node)]
    size = len(stats) * (len(columns) * sum(map(len, parts)) + len(parts) * sum(map(len, columns)))
    if size > _MOST_TEXT:
        raise ConfigError(
            f"the outputs of {node.op} {node.id}", expected="fewer", received=f"{size} characters of names"
        )


def _external_tables(node: OpNode) -> dict[str, Table]:
    on = tuple(node.params["on_ext"])
    if len(on) != len(node.params["on"]) or not on:
        raise ConfigError(f"{node.op} {node.id}: on and on_ext", expected="as many keys", received="others")
    return {"external": Table(dict.fromkeys(on, KEYS), others=KEYS, unique=on)}


def _matrix_tables(node: OpNode) -> dict[str, Table]:
    def entries(rows: float) -> Table:
        row, place = integers(0, int(rows) - 1, nulls=False), integers(0, _MOST_ROWS, nulls=False)
        return Table({"row": row, "place": place, "value": NUMBERS}, unique=("row", "place"), ascending=True)

    return {side: entries(node.params[f"{side}_rows"]) for side in ("left", "right")}


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
        params={
            "groups": required(GROUPS),
            "cont_cols": required(NAMES),
            "stats": required(list_of(one_of(*_STATS), len(_STATS))),
            "name_sep": NAME,
        },
        tables=_group_tables,
    ),
    Operator(
        "TargetEncoding",
        "The smoothed mean of a target over the rows with the same key.",
        fitted=True,
        numbered=True,
        strict=True,
        sources=_keys,
        without=_tables,
        params={
            "groups": required(GROUPS),
            "target": required(NAMES),
            "target_mean": optional(either(NUMBER, by_name(NUMBER))),
            "kfold": required(whole(1, _MOST_FOLDS)),
            "fold_seed": optional(whole()),
            "p_smooth": required(NUMBER),
            "out_dtype": optional(FLOATS),
            "out_col": list_of(either(NAME, NAMES), 500),
            "name_sep": NAME,
        },
        tables=_target_tables,
    ),
    Operator(
        "JoinExternal",
        "Columns of another table, by key.",
        sources=_joined_keys,
        without=_whole,
        params={"on": required(NAMES), "on_ext": required(NAMES)},
        tables=_external_tables,
    ),
    Operator(
        "ColumnSimilarity",
        "How alike two rows of feature matrices are.",
        sources=_pair,
        without=_whole,
        params={
            "groups": required(list_of(list_of(NAME, 2), 500)),
            "left_rows": required(whole(0, _MOST_ROWS)),
            "right_rows": required(whole(0, _MOST_ROWS)),
        },
        tables=_matrix_tables,
    ),
)
