"""What a graph must be to be used at all, from wherever it comes: sizes, names, params and state of every operator.

What an operator's params and state may be is a fact of it (`params` and `tables` in etl/operators); whether its inputs
have the right types is for the compiler to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import polars as pl

from etl.errors import ConfigError
from etl.graph import Column, FeatureGraph, OpNode
from etl.operators import OPERATORS, Operator, position
from etl.operators.kinds import LONGEST_LIST, LONGEST_NAME, Table

MOST_NODES = 10_000
MOST_COLUMNS = 50_000
MOST_COLUMNS_OF_ONE = 5_000
"""Columns that one operator reads or makes; also raw columns, and features."""
_STRICT = "strict_nvtabular"
_Schema = Mapping[str, pl.DataType]


def check(graph: FeatureGraph) -> None:
    """Raise ConfigError for params, names or state tables that no operator has, and for sizes that no graph has."""
    check_sizes([graph.inputs, graph.outputs, *((*node.inputs, *node.outputs) for node in graph.nodes)])
    for column in graph.inputs:
        _check_column(column)
    for node in graph.nodes:
        check_node(node)
        if node.state is not None:
            check_keys(node, node.state)
        for key, table in (node.state or {}).items():
            check_values(node, key, table)


def check_sizes(found: Iterable[Any]) -> None:
    """Raise ConfigError for more operators or columns than a graph may have."""
    sizes = [len(each) for each in found]
    if len(sizes) > MOST_NODES:
        raise ConfigError("the graph", expected=f"at most {MOST_NODES} operators", received=str(len(sizes)))
    if max(sizes, default=0) > 2 * MOST_COLUMNS_OF_ONE or sum(sizes) > MOST_COLUMNS:
        expected = f"at most {MOST_COLUMNS_OF_ONE} columns at once, {MOST_COLUMNS} in all"
        raise ConfigError("the graph", expected=expected, received=f"{max(sizes)}, {sum(sizes)}")


def check_node(node: OpNode) -> None:
    """Raise ConfigError unless the operator is known, and has such params and outputs."""
    where = f"{node.op} {node.id}"
    if node.op not in OPERATORS:
        raise ConfigError(where, expected=f"one of {', '.join(OPERATORS)}", received=repr(node.op)[:80])
    operator = OPERATORS[node.op]
    _check_params(operator, node.params, where)
    for column in node.outputs:
        _check_column(column)
    operator.tables(node)  # refuses params that do not go together, before anything is made of them
    _check_sources(operator, node, where)


def check_keys(node: OpNode, keys: Collection[str]) -> None:
    """Raise ConfigError unless a state of the tables `keys` is one of the operator."""
    where, tables = f"{node.op} {node.id}", OPERATORS[node.op].tables(node)
    if wrong := [key for key in keys if key not in tables]:
        raise ConfigError(f"{where}: state {wrong[0]!r}", expected=", ".join(tables)[:200] or "no state")
    if missing := [key for key, table in tables.items() if table.required and key not in keys]:
        raise ConfigError(f"{where}: its state", expected=missing[0], received="nothing of that name")


def _check_params(operator: Operator, params: Mapping[str, Any], where: str) -> None:
    for name, kind in operator.params.items():
        if kind.required and name not in params:
            raise ConfigError(f"{where}: {name}", expected=kind.expected, received="nothing")
    for name, value in params.items():
        if name == _STRICT and operator.strict and isinstance(value, bool):
            continue
        if name not in operator.params:
            raise ConfigError(f"{where}: {name!r}", expected=", ".join(operator.params) or "no params")
        if not operator.params[name].holds(value):
            expected = operator.params[name].expected
            raise ConfigError(f"{where}: {name}", expected=expected, received=repr(value)[:80])


def _check_column(column: Column) -> None:
    name = column.name
    if not 0 < len(name) <= LONGEST_NAME or (not name.isprintable() and any(letter < " " for letter in name)):
        expected = f"1 to {LONGEST_NAME} characters, none of them a control character"
        raise ConfigError("a column's name", expected=expected, received=repr(name)[:80], hint="Rename the column.")
    if column.length is not None and not 0 <= column.length <= LONGEST_LIST:
        raise ConfigError(f"length of {name!r}", expected=f"0 to {LONGEST_LIST}", received=str(column.length)[:80])
    if column.cardinality is not None and not 0 <= column.cardinality < 2**63:
        raise ConfigError(f"cardinality of {name!r}", expected="0 to 2**63", received=str(column.cardinality)[:80])


def _check_sources(operator: Operator, node: OpNode, where: str) -> None:
    """Raise ConfigError for outputs that the operator cannot make of its inputs, by number and name."""
    one_by_one = operator.sources is position and len(node.inputs) != len(node.outputs)
    if one_by_one or (operator.single and len(node.outputs) != 1):
        expected = "one" if operator.single else f"as many as inputs, {len(node.inputs)}"
        raise ConfigError(f"{where}: its outputs", expected=expected, received=str(len(node.outputs)))
    for column in node.outputs:
        try:
            sources = node.sources(column.name)
        except (LookupError, TypeError, ValueError):
            sources = ()
        if not sources:
            raise ConfigError(f"{where}: output {column.name!r}", expected="one that it makes of its inputs")


def check_schema(node: OpNode, key: str, schema: _Schema) -> Table:
    """Return what a state table must be; ConfigError if its columns or their types are others."""
    where, table = f"{node.op} {node.id}: state {key!r}", OPERATORS[node.op].tables(node)[key]
    for name, cells in table.columns.items():
        if name not in schema and cells.required:
            raise ConfigError(where, expected=f"a column {name!r}", received=", ".join(schema)[:80])
    for name, dtype in schema.items():
        known = table.columns.get(name, table.others)
        if known is None:
            raise ConfigError(f"{where}: column {name!r}", expected=", ".join(table.columns)[:200])
        if not known.takes(dtype):
            raise ConfigError(f"{where}: column {name!r}", expected=known.expected, received=str(dtype)[:80])
    return table


def check_values(node: OpNode, key: str, values: pl.DataFrame) -> None:
    """Raise ConfigError for a state table whose columns, types or values are not those of its operator."""
    table, where = check_schema(node, key, values.schema), f"{node.op} {node.id}: state {key!r}"
    for name, cells in table.columns.items():
        if name in values.columns and not cells.holds(values[name]):
            raise ConfigError(f"{where}: column {name!r}", expected=cells.expected, received="other values")
    keys = values.select(table.unique)
    if "active" in values.columns:
        keys = keys.filter(values["active"])
    if table.unique and keys.is_duplicated().any():
        raise ConfigError(f"{where}: {', '.join(table.unique)}", expected="each once", received="one twice")
    if table.ascending and not keys.equals(keys.sort(table.unique)):
        raise ConfigError(f"{where}: rows", expected=f"in the order of {', '.join(table.unique)}", received="another")
