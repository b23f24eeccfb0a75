"""One test for each deliberate difference from NVTabular, which shows both sides where NVTabular can be asked."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.compiler import to_polars
from etl.compiler.differences import DIFFERENCES
from etl.errors import CompileError
from etl.fit import fit
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.reader import hydrate, read
from tests.conformance.case import LARGEST, NAN, Case
from tests.conformance.compare import assert_same, plain
from tests.conformance.oracle import answer, columns_of, transform, workflow
from tests.conformance.targets import TARGETS

SHOWN: set[str] = set()


def shows(difference: str) -> Any:
    """Say which row of the table a test shows."""
    SHOWN.add(difference)
    return lambda test: test


def node(op: str, column: str, dtype: str = "int64", is_list: bool = False, **params: Any) -> OpNode:
    length = params.get("end") if params.get("pad") else None
    return OpNode("op", op, (Ref("input", column),), (Column(column, dtype, is_list, length),), params)


def fitted(frame: pl.DataFrame, folder: Path, *nodes: OpNode) -> FeatureGraph:
    frame.write_parquet(folder / "rows.parquet")
    outputs = tuple(Ref(each.id, column.name) for each in nodes for column in each.outputs)
    return fit(FeatureGraph(tuple(columns_of(frame)), nodes, outputs), [folder / "rows.parquet"])


def both(graph: FeatureGraph, frame: pl.DataFrame, column: str) -> list[Any]:
    """What both targets give for one column; they must agree."""
    first, second = (plain(run(graph, frame)[column]) for run in TARGETS.values())
    assert_same(column, first, second)
    return list(first)


@shows("ties")
def test_ties_break_by_value(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["c", "a", "b", "é", "Z"]})
    assert both(fitted(frame, tmp_path, node("Categorify", "s")), frame, "s") == [6, 4, 5, 7, 3]


@shows("null-in-list")
def test_a_null_in_a_list_is_null() -> None:
    frame = pl.DataFrame({"l": [["a", None], ["a", "q"]]})
    fit_frame = pl.DataFrame({"l": [["a", "b"], ["a"]]})
    found = answer(Case("null-in-list", lambda o: ["l"] >> o.Categorify(), fit=fit_frame, serve=frame))
    assert plain(found.expected["l"].tolist()) == [[3, 2], [3, 2]]
    assert TARGETS["polars"](found.graph, frame)["l"] == [[3, 1], [3, 2]]


@shows("null-list")
def test_a_null_list_is_empty(tmp_path: Path) -> None:
    frame = pl.DataFrame({"l": [["a"], None, []]})
    case = Case("null-list", lambda o: ["l"] >> o.Categorify(), fit=frame, serve=frame)
    with pytest.raises(Exception, match=r"object is not iterable|has no len"):
        answer(case)
    assert TARGETS["polars"](fitted(frame, tmp_path, node("Categorify", "l", is_list=True)), frame)["l"] == [
        [3],
        [],
        [],
    ]


@shows("sentinels")
@pytest.mark.parametrize("values", [["", "a", "a"], [-(2**63), 5, 5]])
def test_what_means_null_in_a_request_is_null_everywhere(values: list[Any], tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": values})
    found = answer(Case("sentinels", lambda o: ["x"] >> o.Categorify(), fit=frame, serve=frame))
    assert found.expected["x"].tolist() == [4, 3, 3]
    with pytest.raises(CompileError, match="means null in a request"):
        to_polars(found.graph)
    assert both(fitted(frame, tmp_path, node("Categorify", "x")), frame, "x") == [1, 3, 3]


@shows("nullable-integers")
def test_integers_with_nulls_stay_integers(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [2**53, 2**53 + 1, None, 2**53 + 1]})
    found = answer(Case("nullable", lambda o: ["x"] >> o.FillMissing(), fit=frame, serve=frame))
    assert found.expected["x"].dtype == np.float64
    assert both(found.graph, frame, "x") == [2**53, 2**53 + 1, 0, 2**53 + 1]
    assert both(fitted(frame, tmp_path, node("Categorify", "x")), frame, "x") == [4, 3, 1, 3]


@shows("hash")
def test_unknown_values_share_buckets_by_our_hash(tmp_path: Path) -> None:
    serve = pl.DataFrame({"s": ["a", *(f"unknown {number}" for number in range(50)), "日本"]})
    graph = fitted(pl.DataFrame({"s": ["a", "a", "b"]}), tmp_path, node("Categorify", "s", num_buckets=7))
    codes = both(graph, serve, "s")
    assert codes[0] == 9
    assert set(codes[1:]) == set(range(2, 9))
    assert transform(hydrate(graph, tmp_path / "workflow"), serve)["s"].tolist() == codes
    found = answer(Case("hash", lambda o: ["s"] >> o.HashBucket(1000), fit=serve, serve=serve))
    assert found.expected["s"].tolist() != both(found.graph, serve, "s")


@shows("single-table")
def test_a_single_table_is_refused() -> None:
    frame = pl.DataFrame({"s": ["a"]})
    case = Case("single", lambda o: ["s"] >> o.Categorify(single_table=True), fit=frame, serve=frame)
    with pytest.raises(CompileError, match="single_table"):
        read(workflow(case), columns_of(frame))
    state = {"s": pl.DataFrame({"value": ["a"], "count": [1]})}
    made = OpNode("op", "Categorify", (Ref("input", "s"),), (Column("s", "int64"),), {"single_table": True}, state)
    graph = FeatureGraph((Column("s", "string"),), (made,), (Ref("op", "s"),))
    for run in TARGETS.values():
        with pytest.raises(CompileError, match="single_table"):
            run(graph, frame)


@shows("no-rows")
def test_fit_on_no_rows_knows_nothing(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["a", None], "f": [1.0, None], "g": [1.0, None]})
    nodes = (node("Categorify", "s"), node("Normalize", "f", "float64"), node("NormalizeMinMax", "g", "float64"))
    nodes = tuple(OpNode(each.op, each.op, each.inputs, each.outputs) for each in nodes)
    for rows in (frame.clear(), frame.tail(1)):
        graph = fitted(rows, tmp_path, *nodes)
        assert both(graph, frame, "s") == [2, 1]
        assert both(graph, frame, "f") == [None, None]
        assert both(graph, frame, "g") == [None, None]


@shows("moments-in-float64")
def test_moments_do_not_cancel(tmp_path: Path) -> None:
    frame = pl.DataFrame({"f": [1e8 + value for value in (0.0, 1.0, 2.0, 3.0)]})
    theirs = answer(Case("moments", lambda o: ["f"] >> o.Normalize(), fit=frame, serve=frame)).graph
    ours = fitted(frame, tmp_path, node("Normalize", "f", "float64"))
    exact = np.std([0, 1, 2, 3], ddof=1)
    assert ours.nodes[0].state["moments"]["std"].item() == pytest.approx(exact, rel=1e-12)
    assert theirs.nodes[0].state["moments"]["std"].item() != pytest.approx(exact, rel=1e-3)


@shows("integer-overflow")
def test_statistics_of_large_integers_do_not_wrap(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [LARGEST, LARGEST, LARGEST - 2**60, 0]})
    theirs = answer(Case("overflow", lambda o: ["x"] >> o.Normalize(), fit=frame, serve=frame)).graph
    ours = fitted(frame, tmp_path, node("Normalize", "x", "float64"))
    mean = ours.nodes[0].state["moments"]["mean"].item()
    assert mean == pytest.approx(sum(frame["x"].to_list()) / 4)
    assert theirs.nodes[0].state["moments"]["mean"].item() != pytest.approx(mean)


@shows("constant-zero")
def test_a_constant_column_of_zeros_is_half() -> None:
    frame = pl.DataFrame({"f": [0.0, 0.0, None]})
    found = answer(Case("constant", lambda o: ["f"] >> o.NormalizeMinMax(), fit=frame, serve=frame))
    assert plain(found.expected["f"].tolist()) == [None, None, None]
    assert both(found.graph, frame, "f") == [0.5, 0.5, None]
    other = pl.DataFrame({"f": [3.0, NAN, float("inf"), -1.0]})
    assert both(found.graph, other, "f") == [0.5, None, None, 0.5]


@shows("slice-padding")
def test_padding_pads(tmp_path: Path) -> None:
    frame = pl.DataFrame({"l": [[1, 2, 3], [], [4]]})
    case = Case("pad", lambda o: ["l"] >> o.ListSlice(2, pad=True, pad_value=-1), fit=frame, serve=frame)
    found = answer(case)
    assert plain(found.expected["l"].tolist()) == [[1, 2], [], [4]]
    assert both(found.graph, frame, "l") == [[1, 2], [-1, -1], [4, -1]]
    # The workflow that is written back has a ListSlice of ours that pads.
    assert plain(transform(hydrate(found.graph, tmp_path / "w"), frame)["l"].tolist()) == both(found.graph, frame, "l")


@shows("clip-fraction")
def test_a_fractional_bound_on_integers_is_refused() -> None:
    frame = pl.DataFrame({"x": [1, 2]})
    fitted_workflow = workflow(Case("clip", lambda o: ["x"] >> o.Clip(min_value=0.5), fit=frame, serve=frame))
    graph = read(fitted_workflow, columns_of(frame))
    for run in TARGETS.values():
        with pytest.raises(CompileError, match=r"0\.5 is not a value of type int64"):
            run(graph, frame)


def test_every_difference_is_shown() -> None:
    for path in Path(__file__).parent.glob("test_differences_*.py"):
        import_module(f"tests.conformance.{path.stem}")
    from tests.conformance import test_differences_categorical  # noqa: F401 - it shows some

    assert {difference.id for difference in DIFFERENCES} == SHOWN
    assert len({difference.id for difference in DIFFERENCES}) == len(DIFFERENCES)


def test_missing_in_the_last_bin_is_kept() -> None:
    """Not a difference: an odd choice of NVTabular that models were trained with, so it stays."""
    frame = pl.DataFrame({"f": [None, NAN, 5.0, -5.0]})
    found = answer(Case("nan-bin", lambda o: ["f"] >> o.Bucketize([0, 1]), fit=frame, serve=frame))
    assert found.expected["f"].tolist() == both(found.graph, frame, "f") == [2, 2, 2, 0]
