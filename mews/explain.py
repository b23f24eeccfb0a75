"""A feature graph told to people: operators in order, what they become and hold, and what cannot be served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.dtypes import spelled
from etl.errors import CompileError, Problem

if TYPE_CHECKING:
    from etl.compiler.expr import Expr
    from etl.graph import Column, FeatureGraph, OpNode, Ref


@dataclass(frozen=True)
class Explained:
    """One operator of a graph.

    `primitives` are those that it adds, with how often; `rows` and `bytes` are its state's; `refusals` say why it
    cannot be served, each with its columns.
    """

    id: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    primitives: tuple[tuple[str, int], ...]
    rows: int
    bytes: int
    refusals: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """A graph's operators in the order they run, and every problem of serving it and of running it in batch."""

    operators: tuple[Explained, ...]
    onnx: tuple[Problem, ...]
    polars: tuple[Problem, ...]
    fitted: bool


def explain(graph: FeatureGraph) -> Explanation:
    """Return the explanation of a graph; of one that is not fitted, only what does not depend on statistics."""
    from etl.compiler import to_onnx, to_polars

    if not graph.is_fitted:
        return Explanation(tuple(_explained(graph, node, {}, ()) for node in graph.nodes), (), (), False)
    exprs, problems = _lowered(graph)
    served = tuple(dict.fromkeys((*problems, *_problems(to_onnx, graph))))
    operators = tuple(_explained(graph, node, exprs, served) for node in graph.nodes)
    return Explanation(operators, served, tuple(_problems(to_polars, graph)), True)


def as_json(graph: FeatureGraph, found: Explanation) -> dict[str, Any]:
    """Return the explanation as JSON values."""
    return {
        "fingerprint": graph.fingerprint,
        "fitted": found.fitted,
        "inputs": [_json(column) for column in graph.inputs],
        "features": [_json(column) for column in graph.output_columns],
        "operators": [{**vars(one), "primitives": dict(one.primitives)} for one in found.operators],
        "not_served": [vars(problem) for problem in found.onnx],
        "not_in_batch": [vars(problem) for problem in found.polars],
    }


def rows_of(found: Explanation) -> list[list[str]]:
    """Return the explanation as rows of text: operator, reads, makes, primitives, state, served."""
    return [
        [
            one.operator,
            ", ".join(one.inputs),
            ", ".join(one.outputs),
            ", ".join(name if times == 1 else f"{name} x{times}" for name, times in one.primitives),
            _state(one),
            _served(one, found.fitted),
        ]
        for one in found.operators
    ]


def _served(one: Explained, fitted: bool) -> str:
    if one.refusals:
        return f"no: {' '.join(one.refusals)}"
    return "yes" if fitted else "after fit"


def _state(one: Explained) -> str:
    rows = "1 row" if one.rows == 1 else f"{one.rows:,} rows"
    return f"{rows}, {_size(one.bytes)}" if one.rows else ""


def _size(size: int) -> str:
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} B"


def _json(column: Column) -> dict[str, Any]:
    return {"name": column.name, "type": spelled(column.dtype, column.is_list), "cardinality": column.cardinality}


def _lowered(graph: FeatureGraph) -> tuple[dict[Ref, Expr], list[Problem]]:
    from etl.compiler.lowering import lower
    from etl.graph import Ref

    return lower(graph, [Ref(node.id, column.name) for node in graph.nodes for column in node.outputs], "onnx")


def _problems(compile_: Any, graph: FeatureGraph) -> Iterable[Problem]:
    try:
        compile_(graph)
    except CompileError as error:
        return error.problems
    return ()


def _explained(graph: FeatureGraph, node: OpNode, exprs: dict[Ref, Expr], problems: Iterable[Problem]) -> Explained:
    tables = (node.state or {}).values()
    columns = {ref.column for ref in node.inputs} | {column.name for column in node.outputs}
    ours = [problem for problem in problems if problem.operator == node.op and columns >= set(problem.columns)]
    return Explained(
        node.id,
        node.op,
        tuple(_typed(graph.columns[ref]) for ref in node.inputs),
        tuple(_typed(column) for column in node.outputs),
        _primitives(node, exprs),
        sum(table.height for table in tables),
        sum(int(table.estimated_size()) for table in tables),
        tuple(dict.fromkeys(f"{', '.join(problem.columns)}: {problem.reason}" for problem in ours)),
    )


def _typed(column: Column) -> str:
    return f"{column.name}: {spelled(column.dtype, column.is_list)}"


def _primitives(node: OpNode, exprs: dict[Ref, Expr]) -> tuple[tuple[str, int], ...]:
    """Return what the operator adds to the Exprs that it reads; each object is counted once."""
    from etl.graph import Ref

    known = {id(exprs[ref]) for ref in node.inputs if ref in exprs}
    waiting = [exprs[ref] for column in node.outputs if (ref := Ref(node.id, column.name)) in exprs]
    counted: Counter[str] = Counter()
    while waiting:
        expr = waiting.pop()
        if id(expr) not in known:
            known.add(id(expr))
            counted[type(expr).__name__] += 1
            waiting += expr.parts
    return tuple(sorted(counted.items()))
