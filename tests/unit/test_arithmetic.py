"""Arithmetic and dates in both targets: exact for every date from 1700 to 2200 and for every integer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.compiler.arithmetic import DATE_PARTS
from etl.graph import Column, FeatureGraph, OpNode, Ref
from tests.conformance.targets import TARGETS


def graph(trees: dict[str, Any], dtypes: dict[str, str], column: Column) -> FeatureGraph:
    """One LambdaOp of `column` with an output for each tree."""
    outputs = tuple(Column(name, dtypes.get(name, column.dtype)) for name in trees)
    node = OpNode("op", "LambdaOp", (Ref("input", column.name),), outputs, {"columns": trees})
    return FeatureGraph((column,), (node,), tuple(Ref("op", name) for name in trees))


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.none() | st.datetimes(datetime(1700, 1, 1), datetime(2200, 12, 31)), min_size=1, max_size=40))
def test_parts_of_dates_are_those_of_pandas(times: list[datetime | None]) -> None:
    trees = {part: ["date", ["column", "d"], part] for part in DATE_PARTS}
    made = graph(trees, dict.fromkeys(DATE_PARTS, "int32"), Column("d", "datetime"))
    frame = pl.DataFrame({"d": pl.Series(times, dtype=pl.Datetime("us"))})
    first, second = (run(made, frame) for run in TARGETS.values())
    assert first == second
    theirs = frame["d"].to_pandas()
    for part in DATE_PARTS:
        expected = [None if value != value else int(value) for value in getattr(theirs.dt, part).tolist()]
        assert first[part] == expected, part


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=20),
    by=st.integers(-1000, 1000).filter(bool),
)
def test_whole_division_is_pythons(values: list[int], by: int) -> None:
    column, divisor = ["column", "x"], ["value", by]
    made = graph({"q": ["floordiv", column, divisor], "r": ["mod", column, divisor]}, {}, Column("x", "int64"))
    for run in TARGETS.values():
        found = run(made, pl.DataFrame({"x": values}))
        assert found == {"q": [value // by for value in values], "r": [value % by for value in values]}


@pytest.mark.parametrize("name", ["log1p", "expm1"])
def test_logarithms_near_one_are_exact(name: str) -> None:
    values = [0.0, -0.0, 1e-300, 1e-17, -1e-12, 1e-8, 0.5, -0.5, 3.0, 700.0, float("inf"), float("nan")]
    made = graph({"x": [name, ["column", "x"]]}, {}, Column("x", "float64"))
    for run in TARGETS.values():
        found = run(made, pl.DataFrame({"x": values}))["x"]
        assert np.allclose(found, getattr(np, name)(np.array(values)), rtol=1e-14, atol=0, equal_nan=True)


def test_what_wraps_around_to_null_is_null_in_both() -> None:
    made = graph({"x": ["add", ["column", "x"], ["value", 1]]}, {}, Column("x", "int64"))
    for run in TARGETS.values():
        assert run(made, pl.DataFrame({"x": [2**63 - 1, None, 5]}))["x"] == [None, None, 6]


def test_signs_and_sizes_of_large_integers() -> None:
    values = [2**31, -(2**31), 2**32, 2**62, -(2**40), 0, 1, -1, None]
    made = graph({"s": ["sign", ["column", "x"]], "a": ["abs", ["column", "x"]]}, {}, Column("x", "int64"))
    for run in TARGETS.values():
        found = run(made, pl.DataFrame({"x": values}))
        assert found["s"] == [None if value is None else (value > 0) - (value < 0) for value in values]
        assert found["a"] == [None if value is None else abs(value) for value in values]
