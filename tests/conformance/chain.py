"""Random chains of operators: what hypothesis draws, as a FeatureGraph and as an NVTabular graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from hypothesis import strategies as st

from etl.dtypes import dtype, is_float
from etl.graph import Column, FeatureGraph, OpNode, Ref

Step = tuple[str, dict[str, Any]]

_FLOATS = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, float("inf"), float("-inf"), float("nan")])
_INTS = st.integers(-(2**40), 2**40) | st.integers(-3, 3)
_STRINGS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9) | st.sampled_from(
    "abc"
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int64": _INTS,
    "int32": st.integers(-(2**31) + 1, 2**31 - 1) | st.integers(-3, 3),
    "int8": st.integers(-127, 127),
    "uint16": st.integers(0, 2**16 - 1),
    "float64": _FLOATS,
    "float32": _FLOATS,
    "string": _STRINGS,
}


@dataclass(frozen=True)
class Chain:
    """One raw column `x`, and the operators on it one after the other."""

    column: Column
    steps: tuple[Step, ...]
    values: tuple[Any, ...]

    @property
    def frame(self) -> pl.DataFrame:
        """The rows."""
        inner = dtype(self.column.dtype).polars
        return pl.DataFrame({"x": pl.Series(self.values, dtype=pl.List(inner) if self.column.is_list else inner)})

    def graph(self) -> FeatureGraph:
        """The chain as a graph, unfitted."""
        nodes: list[OpNode] = []
        ref, column = Ref("input", "x"), self.column
        for number, (op, params) in enumerate(self.steps):
            column = after(column, op, params)
            nodes.append(OpNode(f"n{number}", op, (ref,), (column,), params))
            ref = Ref(f"n{number}", "x")
        return FeatureGraph((self.column,), tuple(nodes), (ref,))

    def build(self, ops: Any) -> Any:
        """The chain as NVTabular users write it."""
        made: Any = ["x"]
        for op, params in self.steps:
            made = made >> getattr(ops, op)(**params)
        return made


def after(column: Column, op: str, params: dict[str, Any]) -> Column:
    """Return what an operator makes of a column."""
    dtypes = {"Categorify": "int64", "Bucketize": "int32", "LogOp": "float32"}
    if op in ("Normalize", "NormalizeMinMax"):
        return replace(column, dtype=params.get("out_dtype") or "float64")
    if op == "ListSlice":
        start, end = params["start"], params.get("end")
        longest = -start if start < 0 else start if end is None else end - start
        return replace(column, length=max(0, longest) if params.get("pad") else None)
    return replace(column, dtype=dtypes.get(op, column.dtype))


@st.composite
def steps(draw: st.DrawFn, column: Column, most: int = 4) -> tuple[Step, ...]:
    """Draw operators that fit on one another."""
    found: list[Step] = []
    for _ in range(draw(st.integers(1, most))):
        step = draw(_step(column))
        found.append(step)
        column = after(column, *step)
    return tuple(found)


def _step(column: Column) -> st.SearchStrategy[Step]:
    number = column.dtype != "string"
    bound = st.floats(-100, 100, width=16) if is_float(column.dtype) else st.integers(0, 100)
    edges = st.lists(st.integers(-9, 9).map(lambda whole: whole + 0.37), max_size=4).map(sorted)
    choices: list[st.SearchStrategy[Step]] = []
    if not is_float(column.dtype):  # a category should not hang on the last bit of a logarithm
        choices.append(_op("Categorify", freq_threshold=st.integers(0, 2)))
    if number:
        choices += [_op("LogOp"), _op("Normalize", out_dtype=st.sampled_from([None, "float32"]))]
    if number and not column.is_list:
        choices += [
            _op("FillMissing", fill_val=st.integers(0, 5)),
            _op("Clip", min_value=bound),
            _op("Clip", max_value=bound),
            _op("Bucketize", boundaries=edges),
        ]
    if column.is_list and column.length is None:
        choices.append(_op("ListSlice", start=st.sampled_from([1, 2, 3, -1, -2])))
    return st.one_of(choices)


def _op(name: str, **params: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.fixed_dictionaries(params))


@st.composite
def chains(draw: st.DrawFn, lists: bool = False, min_rows: int = 0) -> Chain:
    """Draw a column, its rows and its operators."""
    column = Column("x", draw(st.sampled_from(sorted(VALUES))), is_list=lists)
    value = VALUES[column.dtype]
    # A request cannot say that an unsigned integer is null.
    nullable = value if dtype(column.dtype).null is None else st.none() | value
    row = st.lists(value, max_size=5) if lists else nullable
    values = draw(st.lists(row, min_size=min_rows, max_size=12))
    return Chain(column, draw(steps(column)), tuple(values))
