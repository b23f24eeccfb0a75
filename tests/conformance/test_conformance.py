"""Every case in every target against live NVTabular, and our fit against NVTabular's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

from etl.errors import CompileError
from etl.fit import fit
from etl.graph import FeatureGraph, Ref
from etl.reader import hydrate
from tests.conformance.case import Case
from tests.conformance.cases import CASES
from tests.conformance.compare import assert_same, plain
from tests.conformance.oracle import answer, columns_of, transform, workflow
from tests.conformance.targets import TARGETS, padded

WIDTH = 9
"""Ragged outputs are padded to so many for ONNX: more than any list in the cases has."""

by_name = pytest.mark.parametrize("case", CASES, ids=repr)


@by_name
@pytest.mark.parametrize("target", TARGETS)
def test_target_gives_what_nvtabular_gives(case: Case, target: str) -> None:
    if target in case.gaps:
        with pytest.raises(CompileError):
            _refused(case, target)
        return
    found = answer(case)
    graph = padded(found.graph, WIDTH) if target == "onnx" else found.graph
    ragged = {a.name for a, b in zip(graph.output_columns, found.graph.output_columns, strict=True) if a != b}
    received = TARGETS[target](graph, case.serve)
    # Groupby's columns are in the order of a set in NVTabular.
    assert (sorted if case.whole else list)(received) == (sorted if case.whole else list)(found.expected.columns)
    for name in received:
        expected = found.expected[name].tolist()
        if name in ragged:
            padding = None if graph.columns[_ref(graph, name)].dtype == "string" else 0  # "" is null in a request
            expected = [[*row, *[padding] * (WIDTH - len(row))] for row in expected]
        _compare(case, name, expected, received[name])
    _check_batches(target, graph, case, received)


def _refused(case: Case, target: str) -> None:
    """Reading, fitting or compiling must refuse."""
    from etl.reader import read

    TARGETS[target](read(workflow(case), columns_of(case.fit)), case.serve)


def _ref(graph: FeatureGraph, name: str) -> Ref:
    return next(ref for ref in graph.outputs if ref.column == name)


def _compare(case: Case, name: str, expected: list[Any], received: list[Any]) -> None:
    if name in case.hashed:
        flat = [code for value in received for code in (value if isinstance(value, list) else [value])]
        assert all(0 <= code < case.hashed[name] for code in flat)
        assert len(received) == len(expected)
        return
    if name in case.buckets:
        # NVTabular's hash is another one: what is unknown there must be unknown here, in the same range.
        last = 1 + case.buckets[name]
        assert all(2 <= value <= last for value, wanted in zip(received, expected, strict=True) if 2 <= wanted <= last)
        pairs = [pair for pair in zip(expected, received, strict=True) if not 2 <= pair[0] <= last]
        expected, received = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert_same(name, expected, received)


def _check_batches(target: str, graph: FeatureGraph, case: Case, whole: dict[str, list[Any]]) -> None:
    """One row alone gives what it gives among others, and no rows give no rows."""
    for rows in (case.serve.clear(),) if case.whole else (case.serve.tail(1), case.serve.clear()):
        for name, values in TARGETS[target](graph, rows).items():
            assert_same(name, whole[name][len(whole[name]) - len(rows) :], values)


@by_name
def test_polars_and_onnx_agree(case: Case) -> None:
    if case.gaps:
        return
    graph = padded(answer(case).graph, WIDTH)
    first, second = (run(graph, case.serve) for run in TARGETS.values())
    for name in first:
        # A string that is null is sent, and answered, as "".
        nulls = [[None if v == "" else v for v in row] if isinstance(row, list) else row for row in first[name]]
        assert_same(name, nulls, second[name])


@by_name
def test_fit_finds_what_nvtabular_finds(case: Case) -> None:
    if "polars" in case.gaps:
        return
    found = answer(case)
    ours = _fit(case)
    for mine, theirs in zip(ours.nodes, found.graph.nodes, strict=True):
        assert (mine.state is None) == (theirs.state is None)
        for key, table in (mine.state or {}).items():
            _same_state(key, table, (theirs.state or {})[key])


def _same_state(key: str, mine: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """Vocabularies in the same order but for ties, which NVTabular leaves open and a limit may cut differently."""
    assert mine.height == theirs.height, key
    if key in ("external", "left", "right"):
        assert mine.equals(theirs)
        return
    if key.startswith(("groups.", "folds.")) or key == "means":
        _same_groups(mine, theirs)
        return
    if "column" not in mine.columns:
        assert mine["count"].to_list() == theirs["count"].to_list()
        last = mine["count"].min() or 0
        rows = [sorted(table.filter(pl.col("count") > pl.lit(last)).rows(), key=str) for table in (mine, theirs)]
        assert rows[0] == rows[1]
        return
    assert mine["column"].to_list() == theirs["column"].to_list()
    for column in set(mine.columns) - {"column", "count", "range"}:
        # NVTabular sums float32 columns in float32, and squares before it subtracts.
        for a, b in zip(mine[column], theirs[column], strict=True):
            wanted = pytest.approx(b, rel=1e-5, abs=1e-9, nan_ok=True) if isinstance(b, float) else b
            assert a == wanted, (key, column)


def _same_groups(mine: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """The same statistics of every group; those of a null NVTabular divides by 0."""
    keys = [name for name in mine.columns if name.startswith("value")]
    assert set(mine.columns) >= set(theirs.columns)
    if keys:
        mine, theirs = (table.filter(pl.col(keys[0]).is_not_null()).sort(keys) for table in (mine, theirs))
        assert mine.select(keys).equals(theirs.select(keys))
    for column in set(theirs.columns) - {*keys, "column", "count"}:
        for a, b in zip(mine[column], theirs[column], strict=True):
            assert a == pytest.approx(b, rel=1e-12, abs=1e-12, nan_ok=True), column


@by_name
def test_hydrated_workflow_gives_what_polars_gives(case: Case, tmp_path: Path) -> None:
    if "polars" in case.gaps:
        return
    graph = _fit(case)
    expected = transform(hydrate(graph, tmp_path / "workflow"), case.serve)
    received = TARGETS["polars"](graph, case.serve)
    assert (sorted if case.whole else list)(received) == (sorted if case.whole else list)(expected.columns)
    for name in received:
        assert_same(name, plain(expected[name].tolist()), received[name])


@cache
def _fit(case: Case) -> FeatureGraph:
    """Our fit of the case, on two files in slices of two rows; memoised."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / "a.parquet", Path(folder) / "b.parquet"]
        case.fit.head(3).write_parquet(paths[0])
        case.fit.tail(-3).write_parquet(paths[1])
        return fit(answer(case).unfitted, paths, rows_per_slice=2)
