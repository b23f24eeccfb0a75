"""nvtabular.Workflow to FeatureGraph.

NVTabular resolves names, tags and wildcards, and computes every node's schema, from the input schema alone. What is
left to do here is to follow each column through the plumbing (selections, `+`, `-`, `[]`, groups, subgraphs) to the
operator that made it.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from etl import graph_check
from etl.errors import CompileError, ConfigError, Problem, SchemaError
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.operators import facts
from etl.reader import door
from etl.reader.columns import from_merlin, to_merlin
from etl.reader.rules import RULES, missing, operator_name, rows, statistics, traced

_PLUMBING = frozenset({"SelectionOp", "ConcatColumns", "SubsetColumns", "SubtractionOp", "GroupingOp"})
_INSTEAD = f"Use {', '.join(sorted(map(str, RULES)))}, or compute the column before the features."

Made = dict[str, Ref]
"""The columns of one Merlin node in order: name to the operator that made it."""


def read(
    workflow: Any,
    inputs: Sequence[Column] | None = None,
    bridge_lambdas: bool = False,
    strict_nvtabular: bool = False,
) -> FeatureGraph:
    """Return an nvtabular.Workflow as a FeatureGraph, with its statistics if it is fitted; the workflow is not changed.

    `inputs` are the raw columns of the data; the graph keeps those that the workflow uses, in this order. A fitted
    workflow knows their types, so they may be left out. `bridge_lambdas` keeps a function that cannot be recorded as
    Python, which runs in batch only and in this process.
    `strict_nvtabular` repeats those faults of NVTabular that can be repeated (etl/compiler/differences.py says which).
    Raises ConfigError for what is not a workflow or what NVTabular refuses, SchemaError for columns that `inputs`
    lacks, CompileError with every operator that a graph cannot hold.
    """
    nvtabular = door.nvtabular()
    if not isinstance(workflow, nvtabular.Workflow):
        raise ConfigError("features", expected="an nvtabular.Workflow", received=type(workflow).__name__)
    inputs = _own_inputs(workflow) if inputs is None else inputs
    known = {column.name: column for column in inputs}
    if workflow.output_schema is not None:
        # Columns that remove_inputs took out must not come back.
        known = {name: column for name, column in known.items() if name in workflow.input_schema.column_names}
    output = copy.deepcopy(workflow.output_node)
    merlin_nodes = list(_walk(output))
    for node in merlin_nodes:
        traced.prepare(node.op, bridge_lambdas)
        rows.prepare(node.op)
        statistics.prepare(node.op)
        missing.prepare(node.op)
    _refuse_missing(merlin_nodes, {column.name for column in inputs})
    _compute_schemas(nvtabular, output, merlin_nodes, known)
    reading = _Reading(known, strict_nvtabular)
    made = reading.columns_of(output)
    if reading.problems:
        raise CompileError(reading.problems)
    used = {
        ref.column for ref in (*made.values(), *(r for node in reading.nodes for r in node.inputs)) if ref.node == INPUT
    }
    kept = tuple(column for name, column in known.items() if name in used)
    outputs = tuple(Ref(ref.node, name if ref.node == INPUT else ref.column) for name, ref in made.items())
    graph = FeatureGraph(kept, tuple(reading.nodes), outputs)
    graph_check.check(graph)
    return graph


def _own_inputs(workflow: Any) -> list[Column]:
    """The raw columns that the workflow was fitted on; ConfigError when it was not, or for unknown types."""
    if workflow.output_schema is None:
        raise ConfigError("features", expected="a fitted workflow, or the raw columns as `inputs`", received="neither")
    columns = [replace(from_merlin(column), tags=()) for column in workflow.input_schema]
    if unknown := [column.name for column in columns if column.dtype == "unknown"]:
        raise ConfigError(
            f"the type of {', '.join(unknown)}",
            expected="one that Mews knows",
            received="what the workflow recorded",
            hint="Give the raw columns as `inputs`.",
        )
    return columns


def _walk(node: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield every Merlin node that `node` needs, subgraphs included, each once."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    for upstream in node.parents_with_dependencies:
        yield from _walk(upstream, seen)
    if node.op.is_subgraph:
        yield from _walk(node.op.graph.output_node, seen)
    yield node


def _refuse_missing(merlin_nodes: list[Any], names: set[str]) -> None:
    """Raise SchemaError for raw columns that are selected but not there; NVTabular would name one of them at most."""
    made_upstream = {id(node) for node in merlin_nodes if node.parents_with_dependencies}
    wanted = {
        name: None
        for node in merlin_nodes
        if type(node.op).__name__ == "SelectionOp" and id(node) not in made_upstream
        for name in (node.selector or node.op.selector).names
    }
    missing = [name for name in wanted if name not in names]
    if missing:
        close = [match for name in missing for match in get_close_matches(name, names, 1)]
        hint = f"Did you mean {', '.join(close)}?" if close else ""
        listed = ", ".join(sorted(names)) or "none"
        raise SchemaError(f"the workflow's columns {', '.join(missing)}", expected=f"some of: {listed}", hint=hint)


def _compute_schemas(nvtabular: Any, output: Any, merlin_nodes: list[Any], known: dict[str, Column]) -> None:
    root = to_merlin(known.values())
    try:
        with door.quiet():
            for node in merlin_nodes:
                if node.op.is_subgraph:
                    node.op.graph.construct_schema(root)
            nvtabular.Workflow(output).fit_schema(root)
    except Exception as error:
        unknown = [node for node in merlin_nodes if not _is_known(node.op)]
        if unknown:
            raise CompileError([_problem(node) for node in unknown]) from error
        raise ConfigError(f"NVTabular refuses the workflow: {error}") from error


def _is_known(op: Any) -> bool:
    name = operator_name(op)
    return name in RULES or name in _PLUMBING or op.is_subgraph


def _problem(node: Any, reason: str = "") -> Problem:
    names = () if node.input_schema is None else tuple(node.input_schema.column_names)
    reason = reason or "the operator is not known."
    return Problem(operator_name(node.op), names, "feature graph", reason, _INSTEAD)


class _Reading:
    """Collects operators and problems while columns are followed from the output to the inputs."""

    def __init__(self, inputs: dict[str, Column], strict: bool) -> None:
        self._strict = strict
        self.nodes: list[OpNode] = []
        self.problems: list[Problem] = []
        self._columns = {Ref(INPUT, name): column for name, column in inputs.items()}
        self._numbers: Counter[str] = Counter()
        self._done: dict[int, Made] = {}
        self._rows: dict[str, str] = {}
        self._root: Made = {name: Ref(INPUT, name) for name in inputs}

    def columns_of(self, node: Any) -> Made:
        """Return what the Merlin node makes, reading everything above it first."""
        if id(node) not in self._done:
            # As NVTabular does: a later parent's column replaces an earlier one's of the same name.
            above: Made = {}
            for upstream in node.parents_with_dependencies:
                above.update(self._of_its_rows(node, upstream, above))
            self._done[id(node)] = self._make(node, {**self._root, **above})
        return self._done[id(node)]

    def _of_its_rows(self, node: Any, upstream: Any, above: Made) -> Made:
        """Return what a node above makes; of a dependency not what a parent has already for other rows."""
        made = self.columns_of(upstream)
        if upstream in node.parents:
            return made
        rows = {self._rows.get(ref.node, INPUT) for ref in above.values()}
        return {n: ref for n, ref in made.items() if n not in above or self._rows.get(ref.node, INPUT) in rows}

    def _make(self, node: Any, above: Made) -> Made:
        names = node.output_schema.column_names
        if type(node.op).__name__ in _PLUMBING:
            return {name: above[name] for name in names}
        if node.op.is_subgraph:
            return self._subgraph(node, above)
        if reason := self._reason(node.op):
            self.problems.append(_problem(node, reason))
            return {name: Ref(INPUT, name) for name in names}
        return self._operator(node, above)

    def _subgraph(self, node: Any, above: Made) -> Made:
        if node.op.loop_until is not None:
            self.problems.append(_problem(node, "loop_until repeats a graph as often as the data asks for."))
        outer, self._root = self._root, above
        try:
            return self.columns_of(node.op.graph.output_node)
        finally:
            self._root = outer

    def _reason(self, op: Any) -> str:
        """Say why an operator cannot be read; nothing if it can."""
        if operator_name(op) not in RULES:
            return "the operator is not known."
        rule = RULES[operator_name(op)]
        fault = "" if self._strict else rule.faults(op)
        return rule.reason(op) or (f"{fault} strict_nvtabular=True repeats that." if fault else "")

    def _operator(self, node: Any, above: Made) -> Made:
        op, selector = node.op, node.input_columns.resolve(node.input_schema)
        name, rule = operator_name(op), RULES[operator_name(op)]
        outputs = tuple(from_merlin(node.output_schema[output]) for output in op.column_mapping(selector))
        names = [*selector.names, *(name for name in node.dependency_columns.names if name not in selector.names)]
        inputs = tuple(above[column] for column in names)
        dtypes = {column: self._columns[ref].dtype for column, ref in zip(names, inputs, strict=True)}
        strict = {"strict_nvtabular": True} if self._strict and facts(name).strict else {}
        read = OpNode(self._id(name), name, inputs, outputs, {**rule.params(op, selector), **strict})
        read = replace(read, outputs=rule.outputs(op, read, dtypes))
        unknown = [column.name for column in read.outputs if column.dtype == "unknown"]
        if unknown:
            self.problems.append(_problem(node, f"columns of an unknown type: {', '.join(unknown)}."))
        elif rule.state is not None and rule.known(op):
            read = replace(read, state=rule.state(op, read, dtypes))
        self.nodes.append(read)
        above_rows = next((self._rows.get(ref.node, INPUT) for ref in inputs), INPUT)
        self._rows[read.id] = above_rows if facts(name).rows == "keeps" else read.id
        made = {column.name: Ref(read.id, column.name) for column in read.outputs}
        self._columns |= {Ref(read.id, column.name): column for column in read.outputs}
        return made

    def _id(self, name: str) -> str:
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        self._numbers[snake] += 1
        return f"{snake}_{self._numbers[snake]}"
