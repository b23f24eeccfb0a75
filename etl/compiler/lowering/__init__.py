"""OpNode -> Expr: what each operator means, in one rule per operator. Targets only spell the result.

A rule takes the node and its inputs' Exprs by column name and returns the Exprs of its outputs by name; it raises
Refusal (or Refusals) for what it cannot do. `per_column` makes a rule of a function of one column.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import polars as pl

from etl.compiler import relational
from etl.compiler.expr import Cast, Col, Expr, Refusal, Type, bounded
from etl.compiler.registry import Registry
from etl.dtypes import is_float, is_integer, spelled
from etl.errors import MewsError, Problem
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.operators import facts

Rule = Callable[[OpNode, Mapping[str, Expr]], dict[str, Expr]]

RULES: Registry[Rule] = Registry("operator")


class Refusals(Exception):  # noqa: N818 - like Refusal
    """Several Refusals of one operator, with what could be lowered beside them."""

    def __init__(self, refusals: list[Refusal], lowered: dict[str, Expr]) -> None:
        self.refusals, self.lowered = refusals, lowered
        super().__init__(*refusals)


def per_column(rule: Callable[[OpNode, str, Expr], Expr]) -> Rule:
    """Return the operator rule that applies `rule(node, column, x)` to each input; outputs are in the same order."""

    def lower_each(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
        lowered: dict[str, Expr] = {}
        refusals = []
        for ref, output in zip(node.inputs, node.outputs, strict=True):
            if ref.column not in inputs:
                continue
            try:
                lowered[output.name] = rule(node, ref.column, inputs[ref.column])
            except Refusal as refusal:
                refusal.columns = refusal.columns or (ref.column,)
                refusals.append(refusal)
        if refusals:
            raise Refusals(refusals, lowered)
        return lowered

    return lower_each


def lower(graph: FeatureGraph, refs: Iterable[Ref], target: str) -> tuple[dict[Ref, Expr], list[Problem]]:
    """Return the Expr of every column that can be lowered, and a Problem for every operator column that cannot.

    Only the operators that `refs` are made from are looked at. What depends on a refused column is left out without a
    Problem of its own.
    """
    exprs: dict[Ref, Expr] = {Ref(INPUT, column.name): Col(column.name, type_of(column)) for column in graph.inputs}
    problems: list[Problem] = []
    for node in _needed(graph, set(refs)):
        inputs = {ref.column: exprs[ref] for ref in node.inputs if ref in exprs}
        if not inputs:
            continue
        if facts(node.op).rows != "keeps":
            problems += _row_problems(node, inputs, target)
            exprs |= {Ref(node.id, column.name): Col(column.name, type_of(column), node.id) for column in node.outputs}
            continue
        try:
            lowered = _declared(node, RULES[node.op](node, inputs))
        except MewsError as error:
            lowered, refusals = {}, [Refusal(f"there is no rule for it: {error}", columns=tuple(inputs))]
        except (pl.exceptions.PolarsError, OverflowError, RecursionError) as error:
            lowered, refusals = {}, [Refusal(f"its state or arguments do not fit its columns: {error}")]
        except Refusal as refusal:
            lowered, refusals = {}, [refusal]
        except Refusals as several:
            lowered, refusals = several.lowered, several.refusals
        else:
            refusals = []
        problems += [problem_of(node, refusal, target) for refusal in refusals]
        exprs |= {Ref(node.id, name): expr for name, expr in lowered.items()}
    return exprs, problems or _not_made(graph, set(refs) - set(exprs), target)


def _not_made(graph: FeatureGraph, refs: Collection[Ref], target: str) -> list[Problem]:
    """Return a Problem for each column that an operator should make and did not, though nothing was refused."""
    nodes = {node.id: node for node in graph.nodes}
    return [
        problem_of(nodes[ref.node], Refusal(f"it does not make {ref.column!r}.", columns=(ref.column,)), target)
        for ref in sorted(refs)
    ]


def _row_problems(node: OpNode, inputs: Mapping[str, Expr], target: str) -> list[Problem]:
    """Return what keeps an operator that changes rows from a target: serving never does that."""
    if target != "polars":
        refusal = Refusal("it changes which rows there are.", "Take what follows it as the raw columns to serve.")
        return [problem_of(node, refusal, target)]
    if node.op not in relational.RULES:
        return [problem_of(node, Refusal("there is no rule for it."), target)]
    try:
        relational.check(node, inputs)
        if facts(node.op).rows == "drops":
            _declared_as(node.outputs, inputs)
    except Refusal as refusal:
        return [problem_of(node, refusal, target)]
    return []


def _declared_as(outputs: Iterable[Column], inputs: Mapping[str, Expr]) -> None:
    """Refuse columns that should be passed on, and are declared under other names or with other types."""
    for column in outputs:
        found = inputs[column.name].type if column.name in inputs else None
        if found is None or (found.dtype, found.is_list) != (column.dtype, column.is_list):
            wanted = spelled(column.dtype, column.is_list)
            raise Refusal(f"it gets no {wanted} called {column.name!r}, which it declares.", columns=(column.name,))


def _needed(graph: FeatureGraph, refs: set[Ref]) -> list[OpNode]:
    """Return the operators that `refs` are made from, in order."""
    needed = []
    for node in reversed(graph.nodes):
        if any(ref.node == node.id for ref in refs):
            needed.append(node)
            refs = refs | set(node.inputs)
    return needed[::-1]


def type_of(column: Column) -> Type:
    """Return the Type of a declared column."""
    return Type(column.dtype, column.is_list, column.length)


def problem_of(node: OpNode, refusal: Refusal, target: str) -> Problem:
    """Return the Problem that a Refusal of `node` is."""
    columns = refusal.columns or tuple(ref.column for ref in node.inputs)
    return Problem(node.op, columns, target, refusal.reason, refusal.instead)


def _declared(node: OpNode, lowered: dict[str, Expr]) -> dict[str, Expr]:
    """Return `lowered` as the types that `node.outputs` declares; a number may be widened to a float, nothing else."""
    found = {}
    for column in node.outputs:
        if column.name not in lowered:
            continue
        made = lowered[column.name].type
        widened = is_float(column.dtype) and (is_float(made.dtype) or is_integer(made.dtype))
        if made.is_list != column.is_list or (made.dtype != column.dtype and not widened):
            was, wanted = ("a " * what.is_list + spelled(what.dtype, what.is_list) for what in (made, column))
            raise Refusal(f"it makes {was}, but the graph declares {wanted}.", columns=(column.name,))
        same = made.dtype == column.dtype
        found[column.name] = bounded(lowered[column.name] if same else Cast(lowered[column.name], column.dtype))
    return found


from etl.compiler.lowering import (  # noqa: E402, F401 - fill RULES
    categorical,
    continuous,
    joins,
    missing,
    rows,
    sequence,
    statistics,
    structural,
    traced,
)
