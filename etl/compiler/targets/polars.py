"""Primitives -> Polars expressions, for batch.

Inside a plan floats hold NaN and never null, as Expr promises; the first thing done to a raw column sees to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from etl.compiler import expr as e
from etl.compiler import relational
from etl.compiler.lowering import lower
from etl.compiler.murmur import hash_series
from etl.compiler.registry import Registry
from etl.compiler.targets.lookup_table import LookupTable
from etl.dtypes import dtype as dtype_named
from etl.dtypes import from_polars, is_float, spelled
from etl.errors import CompileError, ConfigError, SchemaError
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.names import ROW
from etl.operators import facts

RULES: Registry[Callable[..., pl.Expr]] = Registry("primitive")

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
    memo = _Memo(out_of_fold, engine)
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


class _Memo(dict[e.Expr, pl.Expr]):
    """What has been spelled, and for which rows."""

    def __init__(self, out_of_fold: bool, engine: Engine = "cpu") -> None:
        self.out_of_fold, self.engine = out_of_fold, engine
        super().__init__()

    def rule(self, kind: type[e.Expr]) -> Callable[..., pl.Expr]:
        """Return how the engine has a primitive spelled."""
        return _GPU_RULES[kind] if self.engine == "gpu" and kind in _GPU_RULES else RULES[kind]


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


def spell(expr: e.Expr, memo: _Memo) -> pl.Expr:
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
    return spell(expr, _Memo(False))


def spell_for(exprs: Mapping[Ref, e.Expr], engine: Engine) -> dict[Ref, pl.Expr]:
    """Return the Polars expressions that `engine` is given."""
    memo = _Memo(out_of_fold=False, engine=engine)
    return {ref: spell(expr, memo) for ref, expr in exprs.items()}


def _spell_elements(expr: e.Expr, memo: _Memo) -> pl.Expr:
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


def _literal(value: Any, dtype: str) -> pl.Expr:
    return pl.lit(value, dtype=dtype_named(dtype).polars)


@RULES.register(e.Col)
def _col(expr: e.Col) -> pl.Expr:
    inner = dtype_named(expr.of.dtype).polars
    if expr.rows:  # made by an operator, so as Exprs promise already
        return pl.col(expr.name)
    if not expr.of.is_list:
        return _without_sentinel(pl.col(expr.name).cast(inner), expr.of.dtype)
    listed = pl.List(inner)
    found = pl.col(expr.name).cast(listed).fill_null(pl.lit([], dtype=listed))
    if is_float(expr.of.dtype) or dtype_named(expr.of.dtype).null is not None:
        found = found.list.eval(_without_sentinel(pl.element(), expr.of.dtype))
    return found


def _without_sentinel(x: pl.Expr, dtype: str) -> pl.Expr:
    """Return x with the value that means null in a request as null (NaN for floats), as serving reads it."""
    null = dtype_named(dtype).null
    if is_float(dtype):
        return x.fill_null(float("nan"))
    if null is None or dtype == "datetime":
        return x
    return pl.when(x != _literal(null, dtype)).then(x)


@RULES.register(e.Const)
def _const(expr: e.Const) -> pl.Expr:
    return _literal(expr.value, expr.dtype)


@RULES.register(e.Cast)
def _cast(expr: e.Cast, x: pl.Expr) -> pl.Expr:
    cast = x.cast(dtype_named(expr.dtype).polars)
    return cast.fill_null(float("nan")) if is_float(expr.dtype) and expr.x.type.nullable else cast


@RULES.register(e.Sub)
def _sub(expr: e.Sub, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x - y


@RULES.register(e.Div)
def _div(expr: e.Div, x: pl.Expr, y: pl.Expr) -> pl.Expr:
    return x / y


@RULES.register(e.Log1p)
def _log1p(expr: e.Log1p, x: pl.Expr) -> pl.Expr:
    # Polars' own float32 logarithm is off by more than one unit of rounding now and then.
    return (x + _literal(1, expr.type.dtype)).cast(pl.Float64).log().cast(dtype_named(expr.type.dtype).polars)


@RULES.register(e.Clip)
def _clip(expr: e.Clip, x: pl.Expr) -> pl.Expr:
    dtype = expr.type.dtype
    if expr.low is not None:
        x = pl.when(x < _literal(expr.low, dtype)).then(_literal(expr.low, dtype)).otherwise(x)
    if expr.high is not None:
        above = x > _literal(expr.high, dtype)
        if is_float(dtype):
            above = above & x.is_not_nan()  # to Polars NaN is larger than every number
        x = pl.when(above).then(_literal(expr.high, dtype)).otherwise(x)
    return x


@RULES.register(e.IsNull)
def _is_null(expr: e.IsNull, x: pl.Expr) -> pl.Expr:
    return x.is_nan() if is_float(expr.x.type.dtype) else x.is_null()


@RULES.register(e.FillNull)
def _fill_null(expr: e.FillNull, x: pl.Expr) -> pl.Expr:
    value = _literal(expr.value, expr.type.dtype)
    return x.fill_nan(value) if is_float(expr.type.dtype) else x.fill_null(value)


@RULES.register(e.Hash)
def _hash(expr: e.Hash, x: pl.Expr) -> pl.Expr:
    def bucket(values: pl.Series) -> pl.Series:
        return pl.Series(hash_series(values) % expr.buckets + expr.first, dtype=pl.Int64)

    return x.map_batches(bucket, return_dtype=pl.Int64(), is_elementwise=True)


@RULES.register(e.Lookup)
def _lookup(expr: e.Lookup, x: pl.Expr, unknown: pl.Expr) -> pl.Expr:
    known = int(expr.unknown.value) if isinstance(expr.unknown, e.Const) else None
    table = LookupTable(expr.keys, expr.codes, expr.null, known)
    codes = x.map_batches(table, return_dtype=pl.Int64(), is_elementwise=True)
    return codes if known is not None else codes.fill_null(unknown)


def _lookup_gpu(expr: e.Lookup, x: pl.Expr, unknown: pl.Expr) -> pl.Expr:
    keys = pl.concat([expr.keys, pl.Series(expr.keys.name, [None], dtype=expr.keys.dtype)])
    codes = pl.Series([*expr.codes, expr.null], dtype=pl.Int64)
    x = x.fill_nan(None) if is_float(expr.x.type.dtype) else x
    return x.replace_strict(keys, codes, default=unknown, return_dtype=pl.Int64())


@RULES.register(e.Bucket)
def _bucket(expr: e.Bucket, x: pl.Expr) -> pl.Expr:
    if len(expr.boundaries) <= _FEW:
        return _bucket_gpu(expr, x)
    edges = np.array(expr.boundaries)

    def reached(values: pl.Series) -> pl.Series:
        # NaN is sorted after every number, which is what Bucket asks for.
        return pl.Series(edges.searchsorted(values.to_numpy(), side="right").astype(np.int32))

    return x.map_batches(reached, return_dtype=pl.Int32(), is_elementwise=True)


def _bucket_gpu(expr: e.Bucket, x: pl.Expr) -> pl.Expr:
    # NaN >= anything holds in Polars, which is what Bucket asks for.
    reached = [(x >= _literal(edge, "float64")).cast(pl.Int32) for edge in expr.boundaries]
    return pl.sum_horizontal(x.is_null().cast(pl.Int32), *reached)


_FEW = 8
"""Boundaries up to which comparing with each is the fastest."""

_GPU_RULES: dict[type[e.Expr], Callable[..., pl.Expr]] = {e.Lookup: _lookup_gpu, e.Bucket: _bucket_gpu}


@RULES.register(e.Slice)
def _slice(expr: e.Slice, x: pl.Expr) -> pl.Expr:
    start, end = expr.start, expr.end
    if start >= 0 and (end is None or end >= 0):
        return x.list.slice(start, None if end is None else max(end - start, 0))
    if start < 0 and end is None:
        return x.list.tail(-start)
    length = x.list.len().cast(pl.Int64)
    first, stop = _place(start, length), _place(end, length)
    cut = x.list.slice(first, pl.max_horizontal(stop - first, pl.lit(0, pl.Int64)))
    # Without rows Polars makes it a list of nulls, and drops a cast as needless; joining a typed empty list repairs it.
    return pl.concat_list(cut, pl.lit([], dtype=pl.List(dtype_named(expr.type.dtype).polars)))


def _place(place: int | None, length: pl.Expr) -> pl.Expr:
    """Return where a Python slice's `place` falls in a list of `length`, from 0 to its length."""
    if place is None:
        return length
    if place >= 0:
        return pl.min_horizontal(pl.lit(place, pl.Int64), length)
    return pl.max_horizontal(length + place, pl.lit(0, pl.Int64))


@RULES.register(e.Pad)
def _pad(expr: e.Pad, x: pl.Expr) -> pl.Expr:
    inner = dtype_named(expr.type.dtype).polars
    padding = pl.lit(pl.Series([[expr.value] * expr.length], dtype=pl.List(inner)))
    return pl.concat_list(x, padding).list.head(expr.length)


@RULES.register(e.RowNumber)
def _row_number(expr: e.RowNumber) -> pl.Expr:
    return pl.col(ROW).cast(pl.Int64)


@RULES.register(e.Shift)
def _shift(expr: e.Shift, x: pl.Expr) -> pl.Expr:
    missing = float("nan") if is_float(expr.type.dtype) else None
    return x.shift(expr.by, fill_value=missing)


from etl.compiler.targets import polars_arithmetic, polars_tables  # noqa: E402, F401 - fills RULES
