"""What a graph's columns are once it is fitted: ReduceDtypeSize changes types, DropLowCardinality takes columns out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from etl.compiler.expr import Col, Expr, Refusal
from etl.compiler.lowering import RULES, Refusals, type_of
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.operators import facts


def settled(graph: FeatureGraph) -> FeatureGraph:
    """Return a fitted graph with the types and the columns that its statistics decide."""
    if any(node.op == "ReduceDtypeSize" for node in graph.nodes):
        graph = _retyped(graph)
    return _without_low_cardinality(graph)


def _retyped(graph: FeatureGraph) -> FeatureGraph:
    """Carry the types of ReduceDtypeSize down the graph, to every column that had the type its operator makes."""
    before: dict[Ref, Expr] = {Ref(INPUT, c.name): Col(c.name, type_of(c)) for c in graph.inputs}
    after, nodes = dict(before), []
    for node in graph.nodes:
        was, now = _made(node, before), _made(node, after)
        outputs = tuple(_with_type(node, column, was, now) for column in node.outputs)
        for old, new in zip(node.outputs, outputs, strict=True):
            before[Ref(node.id, old.name)] = Col(old.name, type_of(old), node.id)
            after[Ref(node.id, old.name)] = Col(new.name, type_of(new), node.id)
        nodes.append(replace(node, outputs=outputs))
    return replace(graph, nodes=tuple(nodes))


def _made(node: OpNode, known: Mapping[Ref, Expr]) -> dict[str, Expr]:
    inputs = {ref.column: known[ref] for ref in node.inputs}
    if facts(node.op).rows != "keeps":
        return {column.name: inputs[column.name] for column in node.outputs if column.name in inputs}
    try:
        return RULES[node.op](node, inputs)
    except Refusal:
        return {}
    except Refusals as several:
        return several.lowered


def _with_type(node: OpNode, column: Column, was: Mapping[str, Expr], now: Mapping[str, Expr]) -> Column:
    if column.name not in was or column.name not in now:
        return column
    natural = node.op == "ReduceDtypeSize" or was[column.name].type.dtype == column.dtype
    return replace(column, dtype=now[column.name].type.dtype) if natural else column


def _without_low_cardinality(graph: FeatureGraph) -> FeatureGraph:
    gone = set()
    for node in graph.nodes:
        least = node.params.get("min_cardinality", 4) if node.op == "DropLowCardinality" else 0
        for column in node.outputs if least else ():
            codes = graph.columns[Ref(node.id, column.name)].cardinality
            if "categorical" in column.tags and codes is not None and codes - 1 < least:
                gone.add(Ref(node.id, column.name))
    return graph.without(gone) if gone else graph
