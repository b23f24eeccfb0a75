"""NVTabular's `graph.json`, version 1, as a live workflow that is then read like any other.

The file holds `format_version`, `output_node_id` and `nodes`; a node has its `id`, the class of its operator with
arguments and state, the ids of its parents and dependencies, its selector and the schemas it was fitted with. Tables
(Categorify, JoinGroupby, TargetEncoding) lie in `artifacts/node_<id>/`, those of a Subgraph's nodes below the
Subgraph's own. Functions are saved as module and name: they are never imported.

Source: nvtabular/workflow/graph_serializer.py at 08e06339f of NVIDIA-Merlin/NVTabular. It sorts nodes by id, which is a
reversed breadth-first order and not always parents first; here they are sorted by what they need. It loses the groups
of columns that are encoded together; Categorify's storage names still tell them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import NoneType
from typing import Any

from etl.errors import CompileError, ConfigError, Problem
from etl.graph import Column, FeatureGraph
from etl.reader import door, read
from etl.reader.columns import from_merlin, to_merlin
from etl.reader.saved.folder import LIVE, read_json
from etl.reader.saved.json_operators import ARGUMENTS, Saved, make, typed

VERSION = 1
_MOST_NODES, _DEEPEST = 10_000, 10
FUNCTIONS = ("LambdaOp", "UDF", "Filter")
"""Operators that hold a Python function; no saved workflow gives it back without running code."""
_HINT = "Rebuild the workflow in a Python file and give file.py:function."


def read_graph(folder: Path, inputs: Sequence[Column] | None, strict: bool = False) -> FeatureGraph:
    """Return the graph of a folder with NVTabular's graph.json; ConfigError for another version, damage, bad paths."""
    import nvtabular

    document = read_json(folder / "graph.json")
    if document.get("format_version") != VERSION or document.get("format_version") is True:
        received = repr(document.get("format_version"))[:80]
        raise ConfigError(str(folder / "graph.json"), expected=f"format_version {VERSION}", received=received)
    reading = _Reading(folder, "artifacts", document, 0)
    output = reading.output()
    if reading.problems:
        raise CompileError(reading.problems)
    with door.quiet():
        workflow = nvtabular.Workflow(output)
        if inputs is None:
            workflow.fit_schema(to_merlin(reading.raw_columns()))
    return read(workflow, inputs, strict_nvtabular=strict)


class _Reading:
    """One graph of the file: the whole, or that of a Subgraph, whose tables lie below `tables`."""

    def __init__(self, folder: Path, tables: str, document: Mapping[str, Any], depth: int) -> None:
        self.problems: list[Problem] = []
        self._folder, self._tables, self._depth = folder, tables, depth
        self._output = typed(document.get("output_node_id"), int, "output_node_id")
        self._records = self._by_id(typed(document.get("nodes"), list, "nodes"))

    def output(self) -> Any:
        """Return the output's Merlin node, with every node that it needs."""
        if self._output not in self._records:
            raise ConfigError("graph.json: output_node_id", expected="a node's id", received=str(self._output))
        made: dict[int, Any] = {}
        for number in self._order():
            made[number] = self._node(self._records[number], made)
        return made[self._output]

    def raw_columns(self) -> list[Column]:
        """Return the columns that the nodes without parents read: what the workflow was fitted on."""
        found: dict[str, Column] = {}
        for record in self._records.values():
            if not record["parent_ids"]:
                found |= {column.name: column for column in self._schema(record, "input_schema")}
        unknown = [column.name for column in found.values() if column.dtype == "unknown"]
        if unknown:
            hint = "Give the raw columns as `inputs`."
            raise ConfigError(f"the type of {', '.join(unknown)}", expected="one that Mews knows", hint=hint)
        return list(found.values())

    def _by_id(self, nodes: list[Any]) -> dict[int, dict[str, Any]]:
        if len(nodes) > _MOST_NODES:
            raise ConfigError("graph.json", expected=f"at most {_MOST_NODES:,} nodes", received=f"{len(nodes):,}")
        records: dict[int, dict[str, Any]] = {}
        for node in nodes:
            number = typed(typed(node, dict, "node").get("id"), int, "id of a node")
            if number in records or number < 0:
                raise ConfigError(f"graph.json: node {number}", expected="one of that id", received="two, or below 0")
            records[number] = node
        for node in records.values():
            for key in ("parent_ids", "dependency_ids"):
                for number in typed(node.get(key), list, key):
                    if typed(number, int, key) not in records:
                        raise ConfigError(
                            f"graph.json: {key} of node {node['id']}", expected="ids of nodes", received=str(number)
                        )
        return records

    def _order(self) -> list[int]:
        needs = {number: _needs(node) for number, node in self._records.items()}
        try:
            return list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            received = " -> ".join(map(str, error.args[1]))[:200]
            raise ConfigError("graph.json", expected="a graph without cycles", received=received) from error

    def _node(self, record: Mapping[str, Any], made: Mapping[int, Any]) -> Any:
        from merlin.dag import Node

        node = Node()
        node.op = self._operator(record)
        selector = typed(record.get("selector"), (dict, NoneType), "selector")
        names = [] if selector is None else _names(selector)
        read = names or [column.name for column in self._schema(record, "input_schema")]
        groups = _groups(node.op, read)
        if names:
            node.selector = _grouped(names, groups)
        for number in record["parent_ids"]:
            node.add_parent(made[number])
            _group(made[number], groups)
        for number in record["dependency_ids"]:
            node.add_dependency(made[number])
        return node

    def _operator(self, record: Mapping[str, Any]) -> Any:
        from merlin.dag import ColumnSelector
        from merlin.dag.ops.concat_columns import ConcatColumns
        from merlin.dag.ops.selection import SelectionOp

        path = typed(record.get("op_class"), str, f"op_class of node {record['id']}")
        package, _, name = path.rpartition(".")
        ours = package.startswith(("nvtabular.ops", "merlin.dag.ops"))
        params = typed(record.get("op_params"), dict, f"op_params of node {record['id']}")
        if ours and name == "SelectionOp":
            return SelectionOp(ColumnSelector([column.name for column in self._schema(record, "output_schema")]))
        if ours and name == "ConcatColumns":
            return ConcatColumns()
        if ours and name == "Subgraph":
            return self._subgraph(record, params)
        if ours and name in ARGUMENTS:
            return make(self._saved(name, record, params))
        return self._refuse(record, path if not ours else name)

    def _saved(self, name: str, record: Mapping[str, Any], params: Mapping[str, Any]) -> Saved:
        state = typed(record.get("op_state"), dict, f"op_state of node {record['id']}")
        before, after = self._schema(record, "input_schema"), self._schema(record, "output_schema")
        renamed = {one.name: other.name for one, other in zip(before, after, strict=False)}
        return Saved(name, params, state, self._folder, f"{self._tables}/node_{record['id']}", renamed)

    def _subgraph(self, record: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        from merlin.dag.ops.subgraph import Subgraph

        if params.get("loop_until") is not None:
            return self._refuse(record, "Subgraph")
        if self._depth >= _DEEPEST:
            raise ConfigError("graph.json", expected=f"at most {_DEEPEST} subgraphs in each other", received="more")
        inner = typed(params.get("inner_graph"), dict, "inner_graph")
        tables = f"{self._tables}/node_{record['id']}/artifacts"
        reading = _Reading(self._folder, tables, inner, self._depth + 1)
        output = reading.output()
        self.problems += reading.problems
        return Subgraph(typed(params.get("name"), str, "name of a Subgraph"), output)

    def _refuse(self, record: Mapping[str, Any], name: str) -> Any:
        """Note the problem, and go on with an operator that does nothing, so that every problem is told at once."""
        import nvtabular.ops

        reason, instead = "the operator is not known.", _HINT
        if name in FUNCTIONS or name == "Subgraph":
            reason, instead = "it holds a Python function, which is never imported from a file.", LIVE
            name = "LambdaOp" if name == "UDF" else name
        columns = tuple(column.name for column in self._schema(record, "input_schema"))
        self.problems.append(Problem(name[:100], columns, "feature graph", reason, instead))
        return nvtabular.ops.LogOp()

    def _schema(self, record: Mapping[str, Any], key: str) -> list[Column]:
        return _columns(record.get(key), key)


def _names(selector: Mapping[str, Any]) -> list[str]:
    return [typed(name, str, "selector") for name in typed(selector.get("names"), list, "selector")]


def _needs(record: Mapping[str, Any]) -> list[int]:
    return [*record["parent_ids"], *record["dependency_ids"]]


def _grouped(names: Sequence[str], groups: Sequence[Sequence[str]]) -> Any:
    from merlin.dag import ColumnSelector

    groups = [list(group) for group in groups if set(group) <= set(names)]
    return ColumnSelector([*(name for name in names if not any(name in group for group in groups)), *groups])


def _group(parent: Any, groups: Sequence[Sequence[str]]) -> None:
    """Give the groups of an operator to the selection above it, where NVTabular looks for them."""
    if groups and type(parent.op).__name__ == "SelectionOp":
        parent.op.selector = parent.selector = _grouped(parent.op.selector.names, groups)


def _groups(op: Any, names: Sequence[str]) -> list[list[str]]:
    """Return the groups of the columns `names` that an operator takes together, as its stored tables tell."""
    operator, names = type(op).__name__, list(dict.fromkeys(names))
    if operator not in ("Categorify", "JoinGroupby", "TargetEncoding"):
        return []
    # A table is called by the names of its group, which stand side by side in a selector.
    tables = set(op.stats if operator == "TargetEncoding" else op.categories) - set(names)
    tables |= set(op.storage_name.values()) if operator == "Categorify" else set()
    spans = [names[first:last] for first in range(len(names)) for last in range(first + 2, len(names) + 1)]
    groups = {op.name_sep.join(span): span for span in spans if op.name_sep.join(span) in tables}
    if unknown := [str(name) for name in tables - set(groups) if operator == "Categorify"]:
        received = f"a table {unknown[0]}, of columns that are not known"
        raise ConfigError(f"graph.json: {operator}", expected="a table for every group of columns", received=received)
    return list(groups.values())


def _columns(schema: Any, key: str) -> list[Column]:
    """Return a saved schema as columns; a type that is not known is "unknown"."""
    from merlin import dtypes
    from merlin.schema import ColumnSchema

    found = []
    for saved in typed(schema, (list, NoneType), key) or []:
        name = typed(typed(saved, dict, key).get("name"), str, f"name in {key}")
        dtype = typed(saved.get("dtype"), (dict, str, NoneType), f"dtype in {key}")
        spelled = dtype.get("name") if isinstance(dtype, dict) else dtype
        try:
            kind = dtypes.dtype(spelled)
        except (TypeError, KeyError, ValueError):
            kind = dtypes.unknown
        dims = _dims(dtype.get("shape") if isinstance(dtype, dict) else None, bool(saved.get("is_list")))
        found.append(from_merlin(ColumnSchema(name, dtype=kind, dims=dims)))
    return found


def _dims(shape: Any, is_list: bool) -> tuple[Any, ...]:
    """Return Merlin's dims: (None,), or (None, length) and (None, None) for lists of a fixed length and ragged ones."""
    dims = [typed(dim, dict, "shape") for dim in typed(shape, (list, NoneType), "shape") or []]
    if len(dims) < 2 and not is_list:
        return (None,)
    if len(dims) != 2:
        return (None, None)
    low, high = (typed(dims[1].get(end), (int, NoneType), "shape") for end in ("min", "max"))
    return (None, low if low and low == high else None)
