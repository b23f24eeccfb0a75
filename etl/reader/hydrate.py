"""FeatureGraph to a fitted nvtabular.Workflow that holds our statistics."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from etl.errors import CompileError, ConfigError, Problem
from etl.graph import INPUT, FeatureGraph, OpNode, Ref
from etl.operators.categorical import groups_of
from etl.reader import door
from etl.reader.columns import to_merlin
from etl.reader.rules import RULES


def hydrate(graph: FeatureGraph, folder: Path | None = None) -> Any:
    """Return a fitted nvtabular.Workflow whose transform gives what the graph's plans give.

    Two readings stay NVTabular's own: an empty string is a value, not a null, and a null inside a list is unknown.
    The tables of Categorify are written below `folder`; without one, to a temporary folder that lives as long as the
    workflow. Raises ConfigError for a graph that is not fitted, CompileError for what NVTabular computes otherwise.
    """
    if not graph.is_fitted:
        raise ConfigError("hydrate", expected="a fitted graph", received="one without statistics", hint="Fit it first.")
    problems = [problem for node in graph.nodes if (problem := _refusal(node)) is not None]
    if problems:
        raise CompileError(problems)
    nvtabular = door.nvtabular()
    target = Path(tempfile.mkdtemp(prefix="mews-workflow-")) if folder is None else folder
    # NVTabular caches these tables by path: another graph must never be read from the same one.
    tables = target / "categories" / graph.fingerprint[:12]
    with door.quiet():
        made: dict[str, Any] = {}
        for node in graph.nodes:
            rule = RULES[node.op]
            op = rule.make(nvtabular.ops, node)
            if rule.typed:
                op.dtypes = {ref.column: graph.columns[ref].dtype for ref in node.inputs}
            if node.state is not None and rule.restore is not None:
                rule.restore(op, node, tables)
                op.fitted = True
            made[node.id] = _source(graph, rule.parents(node), made, groups_of(node)) >> op
        workflow = nvtabular.Workflow(_source(graph, graph.outputs, made))
        workflow.fit_schema(to_merlin(graph.inputs))
    if folder is None:
        weakref.finalize(workflow, shutil.rmtree, target, ignore_errors=True)
    return workflow


def _refusal(node: OpNode) -> Problem | None:
    if node.op in RULES:
        found = RULES[node.op].unmakeable(node)
    else:
        found = "the operator is not NVTabular's.", "Use the graph's own plans."
    names = tuple(ref.column for ref in node.inputs)
    return None if found is None else Problem(node.op, names, "nvtabular.Workflow", *found)


def _source(graph: FeatureGraph, refs: Sequence[Ref], made: dict[str, Any], groups: Iterable[list[str]] = ()) -> Any:
    """Return a Merlin node with the columns `refs` in order, joint groups kept together."""
    from merlin.dag import ColumnSelector, Node

    names = [ref.column for ref in refs]
    if all(ref.node == INPUT for ref in refs):
        grouped = [list(group) for group in groups]
        single = [name for name in names if not any(name in group for group in grouped)]
        return Node(ColumnSelector([*single, *grouped]))
    pieces = [_piece(graph, source, refs, made) for source in dict.fromkeys(ref.node for ref in refs)]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    return whole[names] if len(pieces) > 1 else whole


def _piece(graph: FeatureGraph, source: str, refs: Sequence[Ref], made: dict[str, Any]) -> Any:
    from merlin.dag import ColumnSelector, Node

    names = [ref.column for ref in refs if ref.node == source]
    if source == INPUT:
        return Node(ColumnSelector(names))
    outputs = next([column.name for column in node.outputs] for node in graph.nodes if node.id == source)
    return made[source] if names == outputs else made[source][names]
