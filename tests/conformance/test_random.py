"""Random frames through random graphs: both targets agree, and agree with NVTabular."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.compiler.expr import Col, Slice, Type
from etl.fit import fit
from etl.graph import Column, FeatureGraph, OpNode, Ref
from tests.conformance.case import Case
from tests.conformance.chain import Chain, chains
from tests.conformance.compare import plain
from tests.conformance.oracle import answer
from tests.conformance.targets import TARGETS, padded


def close(a: object, b: object) -> bool:
    """As compare.same, but a last bit that a logarithm leaves open may be magnified by what follows.

    The empty string and null are one thing (etl/dtypes.py); a list of strings is padded with it.
    """
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and a == pytest.approx(b, rel=2e-5, abs=2e-5)
    return (a or None) == (b or None) if isinstance(a, str) or isinstance(b, str) else a == b


def assert_close(chain: Chain, expected: list[object], received: list[object]) -> None:
    assert len(expected) == len(received)
    for a, b in zip(plain(expected), plain(received), strict=True):
        assert close(a, b), (chain, a, b)


def fitted(chain: Chain) -> FeatureGraph:
    with tempfile.TemporaryDirectory() as folder:
        chain.frame.write_parquet(Path(folder) / "rows.parquet")
        return fit(chain.graph(), [Path(folder) / "rows.parquet"], rows_per_slice=5)


@settings(max_examples=100)
@given(chain=st.booleans().flatmap(lambda lists: chains(lists)))
def test_polars_and_onnx_agree(chain: Chain) -> None:
    graph = padded(fitted(chain), 6)
    first, second = (run(graph, chain.frame)["x"] for run in TARGETS.values())
    assert_close(chain, first, second)


@settings(max_examples=30)
@given(chain=chains(min_rows=1))
def test_nvtabular_agrees(chain: Chain) -> None:
    if all(value is None or value != value for value in chain.values):
        return  # NVTabular cannot take a column of nothing but nulls
    try:
        found = answer(Case("random", chain.build, fit=chain.frame, serve=chain.frame))
    except Exception as error:
        pytest.fail(f"{chain}: {error}")
    for run in TARGETS.values():
        assert_close(chain, found.expected["x"].tolist(), run(found.graph, chain.frame)["x"])


@settings(max_examples=150)
@given(
    rows=st.lists(st.lists(st.integers(-5, 5), max_size=6), max_size=6),
    start=st.integers(-7, 7),
    end=st.none() | st.integers(-7, 7),
)
def test_slices_are_python_slices(rows: list[list[int]], start: int, end: int | None) -> None:
    if start > 0 and end is None:
        start, end = 0, start
    node = OpNode("n", "ListSlice", (Ref("input", "x"),), (Column("x", "int64", True),), {"start": start, "end": end})
    graph = padded(FeatureGraph((Column("x", "int64", True),), (node,), (Ref("n", "x"),)), 6)
    frame = pl.DataFrame({"x": pl.Series(rows, dtype=pl.List(pl.Int64))})
    expected = [row[start:end] + [0] * (6 - len(row[start:end])) for row in rows]
    for run in TARGETS.values():
        assert run(graph, frame)["x"] == expected
    assert Slice(Col("x", Type("int64", True)), start, end).type == Type("int64", True, None, nullable=True)
