"""A graph -> a Polars plan, for batch: expressions over the rows, and steps that change which rows there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from etl.compiler import expr as e
from etl.compiler import relational
from etl.compiler.lowering import lower
from etl.compiler.targets import polars_arithmetic, polars_tables  # noqa: F401 - fill RULES
from etl.compiler.targets.polars_rules import GPU_RULES, RULES
from etl.dtypes import from_polars, spelled
from etl.errors import CompileError, ConfigError, SchemaError
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.names import ROW
from etl.operators import facts

Engine = Literal["cpu", "gpu"]
"""What a plan is for: a GPU runs no Python functions, so some primitives are spelled otherwise for it."""


@dataclass(frozen=True)
class Step:
    """An operator that changes rows, with the expressions of its inputs over the rows before it."""

    node: OpNode
    exprs: Mapping[str, pl.Expr]

    @property
    def regroups(self) -> bool:
        """True when it makes other rows, and not only fewer."""
        return facts(self.node.op).rows == "regroups"

    def apply(self, frame: pl.LazyFrame, carried: Sequence[str]) -> pl.LazyFrame:
        """Return the outputs after the columns `carried`, which only an operator that drops rows can keep."""
        if not self.regroups:
            return relational.RULES[self.node.op].apply(self.node, frame.select(*carried, **self.exprs))
        if lost := [name for name in carried if name != ROW]:
            expected = "no raw columns beside the features"
            received = f"columns to keep: {', '.join(lost)}"
            raise ConfigError(f"{self.node.op} makes other rows", expected=expected, received=received)
        made = relational.RULES[self.node.op].apply(self.node, frame.select(**self.exprs))
        return made.with_row_index(ROW) if carried else made


@dataclass(frozen=True)
class PolarsPlan:
    """A graph as Polars expressions by feature name, over the raw columns `inputs` or what `steps` make of them.

    `is_local` says that the rows may be worked on in parts; `is_numbered` that it needs the number of every row.
    """

    inputs: tuple[Column, ...]
    exprs: Mapping[str, pl.Expr]
    steps: tuple[Step, ...] = ()
    is_local: bool = True
    is_numbered: bool = False

    def apply(
        self,
        frame: pl.LazyFrame,
        keep: Sequence[str] = (),
        first_row: int = 0,
        between: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows,
    ) -> pl.LazyFrame:
        """Return the features of `frame`, in its row order, after the raw columns `keep`.

        `first_row` is the number of its first row in the data set. `between` is given what each step makes, and may
        put it aside. Columns that the plan does not read are ignored.
        SchemaError lists every column that is missing or mistyped.
        """
        check(frame.collect_schema(), self.inputs)
        carried = list(keep)
        if self.is_numbered:
            frame, carried = frame.with_row_index(ROW, offset=first_row), [*keep, ROW]
        for step in self.steps:
            frame = between(step.apply(frame, carried))
        if not self.exprs:
            return frame.select(keep)
        return frame.select(*keep, **self.exprs)


def compile(graph: FeatureGraph, out_of_fold: bool = False, engine: Engine = "cpu") -> PolarsPlan:
    """Return the plan of a fitted graph; CompileError with every problem.

    `out_of_fold` is for the rows that a model is trained on: what an operator knows of the label then comes from other
    folds than the row's own.
    """
    return plan(graph, {ref.column: ref for ref in graph.outputs}, out_of_fold, engine=engine)


def plan(
    graph: FeatureGraph,
    named: Mapping[str, Ref],
    out_of_fold: bool = False,
    numbered: bool = False,
    engine: Engine = "cpu",
) -> PolarsPlan:
    """Return the plan of the columns `named` only, all of the same rows; what they do not need may be unfitted.

    With `numbered` the plan also gives the number of every row, as the column names.ROW.
    """
    changes = _row_changes(graph, named.values())
    refs = [*named.values(), *(ref for node in changes for ref in node.inputs)]
    lowered, problems = lower(graph, refs, "polars")
    if problems:
        raise CompileError(problems)
    memo = Memo(out_of_fold, engine)
    steps = tuple(Step(node, {r.column: spell(lowered[r], memo) for r in node.inputs}) for node in changes)
    exprs = {name: spell(lowered[ref], memo) for name, ref in named.items()}
    if numbered:
        exprs[ROW] = pl.col(ROW)
    read = {expr.name for expr in memo if isinstance(expr, e.Col) and not expr.rows}
    return PolarsPlan(
        tuple(column for column in graph.inputs if column.name in read),
        exprs,
        steps,
        is_local=all(expr.is_local for expr in memo) and not any(step.regroups for step in steps),
        is_numbered=numbered or any(isinstance(expr, e.RowNumber) for expr in memo),
    )


def _row_changes(graph: FeatureGraph, refs: Iterable[Ref]) -> list[OpNode]:
    """Return the operators that change rows on the way to `refs`, the first one first."""
    nodes = {node.id: node for node in graph.nodes}
    found: list[OpNode] = []
    rows = next((graph.rows[ref.node] for ref in refs), INPUT)
    while rows != INPUT:
        found.append(nodes[rows])
        rows = next((graph.rows[ref.node] for ref in nodes[rows].inputs), INPUT)
    return found[::-1]


class Memo(dict[e.Expr, pl.Expr]):
    """What has been spelled, and for which rows."""

    def __init__(self, out_of_fold: bool, engine: Engine = "cpu") -> None:
        self.out_of_fold, self.engine = out_of_fold, engine
        super().__init__()

    def rule(self, kind: type[e.Expr]) -> Callable[..., pl.Expr]:
        """Return how the engine has a primitive spelled."""
        return GPU_RULES[kind] if self.engine == "gpu" and kind in GPU_RULES else RULES[kind]


def check(schema: Mapping[str, pl.DataType], columns: Sequence[Column]) -> None:
    """Raise SchemaError unless `schema` has every one of `columns` with its type."""
    wrong = []
    for column in columns:
        wanted = (column.dtype, column.is_list)
        if column.name not in schema:
            wrong.append(f"{column.name!r} is missing")
        elif not _is_untyped(schema[column.name]) and from_polars(schema[column.name]) != wanted:
            wrong.append(f"{column.name!r} is {schema[column.name]}, not {spelled(*wanted)}")
    if wrong:
        raise SchemaError("; ".join(wrong), hint=f"The data has: {', '.join(schema)}.")


def spell(expr: e.Expr, memo: Memo) -> pl.Expr:
    """Return the Polars expression of `expr`; each Expr object is spelled once."""
    if expr not in memo:
        if isinstance(expr, e.OutOfFold):
            memo[expr] = spell(expr.training if memo.out_of_fold else expr.serving, memo)
        elif expr.type.is_list and isinstance(expr, e.Elementwise):
            memo[expr] = _spell_elements(expr, memo)
        else:
            memo[expr] = memo.rule(type(expr))(expr, *(spell(part, memo) for part in expr.parts))
    return memo[expr]


def spell_one(expr: e.Expr) -> pl.Expr:
    """Return the Polars expression of an Expr by itself, as for rows that no model is trained on."""
    return spell(expr, Memo(False))


def spell_for(exprs: Mapping[Ref, e.Expr], engine: Engine) -> dict[Ref, pl.Expr]:
    """Return the Polars expressions that `engine` is given."""
    memo = Memo(out_of_fold=False, engine=engine)
    return {ref: spell(expr, memo) for ref, expr in exprs.items()}


def _spell_elements(expr: e.Expr, memo: Memo) -> pl.Expr:
    """Spell a tree of elementwise primitives once over the elements of the one list that it starts from."""
    (leaf,) = set(_list_leaves(expr))
    elements: dict[e.Expr, pl.Expr] = {leaf: pl.element()}

    def inside(part: e.Expr) -> pl.Expr:
        if part not in elements:
            elements[part] = memo.rule(type(part))(part, *(inside(each) for each in part.parts))
        return elements[part]

    return spell(leaf, memo).list.eval(inside(expr))


def _list_leaves(expr: e.Expr) -> list[e.Expr]:
    if not isinstance(expr, e.Elementwise):
        return [expr]
    return [leaf for part in expr.parts if part.type.is_list for leaf in _list_leaves(part)]


def _is_untyped(found: pl.DataType) -> bool:
    """True for a column of nothing but nulls, which Polars gives the type Null."""
    return found == pl.Null or (isinstance(found, pl.List) and found.inner == pl.Null)
