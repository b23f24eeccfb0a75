"""A feature graph told to people: operators in order, what they become and hold, and what cannot be served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from etl.dtypes import spelled
from etl.errors import CompileError, Problem

if TYPE_CHECKING:
    from etl.compiler.expr import Expr
    from etl.graph import Column, FeatureGraph, OpNode, Ref


Effect = Literal["keeps", "drops", "regroups", "looks"]
"""What an operator has to do with rows: each by itself, fewer of them, others, or it looks at others than its own."""

_EFFECTS: Mapping[Effect, str] = {"keeps": "", "drops": "fewer", "regroups": "others", "looks": "looks at others"}
_ROWS_CHANGE = "it changes which rows there are, and a request's rows must all be answered."


@dataclass(frozen=True)
class Explained:
    """One operator of a graph.

    `primitives` are those that it adds, with how often; `rows` and `bytes` are its state's; `refusals` say why it
    cannot be served, each with its columns; `follows` has, by input column, the operator above that is in the way.
    `out_of_fold`: rows that a model is trained on are computed otherwise, without what their own label tells.
    """

    id: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    primitives: tuple[tuple[str, int], ...]
    rows: int
    bytes: int
    refusals: tuple[str, ...]
    effect: Effect = "keeps"
    out_of_fold: bool = False
    follows: tuple[tuple[str, str], ...] = ()

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why it, or some of its columns, cannot be served: its own reasons, then what is above it."""
        by_operator: dict[str, list[str]] = {}
        for column, operator in self.follows:
            by_operator.setdefault(operator, []).append(column)
        above = (f"{', '.join(columns)}: made from {operator}." for operator, columns in by_operator.items())
        return (*self.refusals, *above)


@dataclass(frozen=True)
class Explanation:
    """A graph's operators in the order they run, and every problem of serving it and of running it in batch."""

    operators: tuple[Explained, ...]
    onnx: tuple[Problem, ...]
    polars: tuple[Problem, ...]
    fitted: bool
    unserved: tuple[str, ...] = ()
    """The features that cannot be served."""

    @property
    def whole(self) -> tuple[str, ...]:
        """The operators for which batch needs all rows at once."""
        return tuple(dict.fromkeys(one.operator for one in self.operators if one.effect in ("regroups", "looks")))


def explain(graph: FeatureGraph) -> Explanation:
    """Return the explanation of a graph; of one that is not fitted, only what does not depend on statistics."""
    from etl.compiler import to_onnx, to_polars
    from etl.compiler.targets.onnx import RAGGED

    exprs: dict[Ref, Expr] = {}
    problems = list(_row_problems(graph))
    if graph.is_fitted:
        exprs, problems = _lowered(graph)
        problems = list(dict.fromkeys((*problems, *_problems(to_onnx, graph))))
    blocked: dict[Ref, str] = {}
    operators = tuple(_explained(graph, node, exprs, problems, blocked) for node in graph.nodes)
    ragged = {name for problem in problems if problem.reason == RAGGED for name in problem.columns}
    unserved = tuple(ref.column for ref in graph.outputs if ref in blocked or ref.column in ragged)
    batch = tuple(_problems(to_polars, graph)) if graph.is_fitted else ()
    return Explanation(operators, tuple(problems), batch, graph.is_fitted, unserved)


def _row_problems(graph: FeatureGraph) -> Iterable[Problem]:
    """Yield what is known to be in the way of serving without any statistics."""
    from etl.operators import facts

    instead = "Take what follows it as the raw columns to serve."
    for node in graph.nodes:
        if facts(node.op).rows != "keeps":
            yield Problem(node.op, tuple(ref.column for ref in node.inputs), "onnx", _ROWS_CHANGE, instead)


def as_json(graph: FeatureGraph, found: Explanation) -> dict[str, Any]:
    """Return the explanation as JSON values."""
    return {
        "fingerprint": graph.fingerprint,
        "fitted": found.fitted,
        "inputs": [_json(column) for column in graph.inputs],
        "features": [_json(column) for column in graph.output_columns],
        "operators": [
            {**vars(one), "primitives": dict(one.primitives), "follows": dict(one.follows)} for one in found.operators
        ],
        "not_served_features": list(found.unserved),
        "whole_in_batch": list(found.whole),
        "not_served": [vars(problem) for problem in found.onnx],
        "not_in_batch": [vars(problem) for problem in found.polars],
    }


def rows_of(found: Explanation) -> list[list[str]]:
    """Return the explanation as rows of text: operator, reads, makes, primitives, state, rows, served."""
    return [
        [
            one.operator,
            ", ".join(one.inputs),
            ", ".join(one.outputs),
            ", ".join(name if times == 1 else f"{name} x{times}" for name, times in one.primitives),
            _state(one),
            _EFFECTS[one.effect] or ("out of fold in training" if one.out_of_fold else ""),
            _served(one, found.fitted),
        ]
        for one in found.operators
    ]


def lines_of(graph: FeatureGraph, found: Explanation) -> list[str]:
    """Return what is to be said below the rows: what can be served, and every problem with what to do instead."""
    lines = []
    if found.unserved:
        served, total = len(graph.outputs) - len(found.unserved), len(graph.outputs)
        which = f"{served} of {total} features can be served, not" if served else "no feature can be served:"
        lines.append(f"{which} {', '.join(found.unserved)}")
    if found.whole:
        lines.append(f"batch needs all rows at once: {', '.join(found.whole)}")
    lines += [f"not served: {problem}" for problem in found.onnx]
    return lines + [f"not in batch: {problem}" for problem in found.polars]


def _served(one: Explained, fitted: bool) -> str:
    if one.obstacles:
        return f"no: {' '.join(one.obstacles)}"
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


def _explained(
    graph: FeatureGraph,
    node: OpNode,
    exprs: Mapping[Ref, Expr],
    problems: Iterable[Problem],
    blocked: dict[Ref, str],
) -> Explained:
    """Return one operator; `blocked` has what cannot be served above it, and is given what it adds to that."""
    from etl.compiler.expr import OutOfFold
    from etl.compiler.targets.onnx import RAGGED
    from etl.operators import facts

    tables = (node.state or {}).values()
    columns = {ref.column for ref in node.inputs} | {column.name for column in node.outputs}
    ours = [problem for problem in problems if problem.operator == node.op and columns >= set(problem.columns)]
    keeps = facts(node.op).rows == "keeps"
    added = _added(node, exprs) if keeps else []
    follows = tuple((ref.column, blocked[ref]) for ref in node.inputs if ref in blocked)
    _block(node, {name for problem in ours if problem.reason != RAGGED for name in problem.columns}, blocked)
    return Explained(
        node.id,
        node.op,
        tuple(_typed(graph.columns[ref]) for ref in node.inputs),
        tuple(_typed(column) for column in node.outputs),
        tuple(sorted(Counter(type(expr).__name__ for expr in added).items())),
        sum(table.height for table in tables),
        sum(int(table.estimated_size()) for table in tables),
        tuple(dict.fromkeys(f"{', '.join(problem.columns)}: {problem.reason}" for problem in ours)),
        facts(node.op).rows if keeps is False else "keeps" if all(expr.is_local for expr in added) else "looks",
        any(isinstance(expr, OutOfFold) for expr in added),
        follows,
    )


def _block(node: OpNode, refused: set[str], blocked: dict[Ref, str]) -> None:
    """Add the outputs of `node` that cannot be served: refused by it, or made from what cannot be served."""
    from etl.graph import Ref

    for column in node.outputs:
        sources = node.sources(column.name)
        above = next((blocked[ref] for ref in sources if ref in blocked), None)
        if above is not None:
            blocked[Ref(node.id, column.name)] = above
        elif refused & {column.name, *(ref.column for ref in sources)}:
            blocked[Ref(node.id, column.name)] = node.op


def _typed(column: Column) -> str:
    return f"{column.name}: {spelled(column.dtype, column.is_list)}"


def _added(node: OpNode, exprs: Mapping[Ref, Expr]) -> list[Expr]:
    """Return what the operator adds to the Exprs that it reads, as they are served; each object once."""
    from etl.compiler.expr import OutOfFold
    from etl.graph import Ref

    known = {id(exprs[ref]) for ref in node.inputs if ref in exprs}
    waiting = [exprs[ref] for column in node.outputs if (ref := Ref(node.id, column.name)) in exprs]
    added: list[Expr] = []
    while waiting:
        expr = waiting.pop()
        if id(expr) not in known:
            known.add(id(expr))
            added.append(expr)
            waiting += (expr.serving,) if isinstance(expr, OutOfFold) else expr.parts
    return added
