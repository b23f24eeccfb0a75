"""Every operator of a folder that NVTabular saved is read as that of the live workflow, or refused with what to do."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.errors import CompileError, ConfigError
from etl.graph import FeatureGraph
from etl.reader import door, read
from etl.reader.saved import load_workflow
from etl.reader.saved.graph_json import read_graph
from etl.reader.saved.unpickle import read_pickle
from tests.conformance.case import FIT, SERVE, Case
from tests.conformance.cases import CASES
from tests.conformance.oracle import columns_of, dataset, transform, workflow
from tests.saved import joins

FUNCTIONS = ("LambdaOp", "Filter")
_TARGET = {"fit": FIT.with_columns(y=pl.Series([1, 0] * 4)), "serve": SERVE.with_columns(y=pl.lit(0))}
OPTIONS = [
    Case("target-folds", lambda o: ["i", ["i8", "s"]] >> o.TargetEncoding("y", kfold=3, p_smooth=2), **_TARGET),
    Case("target-mean", lambda o: ["i"] >> o.TargetEncoding("y", kfold=2, fold_seed=7, out_dtype="float64"), **_TARGET),
    Case("group-of-made-columns", lambda o: ["i"] >> o.JoinGroupby(cont_cols=["f32"], stats=["mean", "max"])),
    Case("tagged", lambda o: ["i"] >> o.TagAsUserID() >> o.AddProperties({"p": [1, 2]})),
    Case("method-as-function", lambda o: ["i"] >> o.Rename(f={"i": "j"}.__getitem__)),
    Case("buckets-of-method", lambda o: ["f"] >> o.Bucketize({"f": [0, 1]}.__getitem__)),
]
# Functions are one matter, whatever they compute: some of them are enough.
_LAMBDAS = [case for case in CASES if case.name.startswith("lambda-")]
SAVED = [case for case in CASES if case not in _LAMBDAS] + OPTIONS + _LAMBDAS[::25]


def saved(case: Case, folder: Path, runs: bool = True) -> tuple[FeatureGraph, Path]:
    """Fit, run and save the case in NVTabular; return the graph of the live workflow, and the folder, moved away."""
    fitted = _fitted(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if runs:
            transform(fitted, case.serve)
        live = read(fitted)  # before it is saved, for saving moves the tables
        fitted.save(str(folder / "written"))
    return live, Path(shutil.move(folder / "written", folder / "moved"))


def _fitted(case: Case) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' and NumPy's remarks on NVTabular's code
        return workflow(case).fit(dataset(case.fit))


@pytest.mark.parametrize("case", SAVED, ids=repr)
def test_a_saved_operator_is_read_as_the_live_one(case: Case, tmp_path: Path) -> None:
    live, folder = saved(case, tmp_path, runs=case not in OPTIONS)
    if not any(node.op in FUNCTIONS for node in live.nodes):
        assert read_pickle(folder, None).fingerprint == live.fingerprint
        return
    with pytest.raises(ConfigError, match=r"nvtabular\.Workflow\.load\(folder\)") as caught:
        read_pickle(folder, None)
    if not isinstance(caught.value, CompileError):  # a function that has a name elsewhere, as NumPy's have
        assert "the pickle asks for numpy." in str(caught.value)
        return
    for problem in caught.value.problems:
        assert problem.operator in FUNCTIONS
        assert "never run from a pickle" in problem.reason


@pytest.mark.parametrize("name", ["filter-frame", "lambda-two-columns", "lambda-chain"])
def test_functions_are_read_as_the_hint_says(name: str, tmp_path: Path) -> None:
    live, folder = saved(next(case for case in CASES if case.name == name), tmp_path)
    (tmp_path / "mine.py").write_text(
        f"import nvtabular\ndef features():\n    return nvtabular.Workflow.load({str(folder)!r})\n"
    )
    assert load_workflow(f"{tmp_path / 'mine.py'}:features").fingerprint == live.fingerprint


def test_tables_and_matrices_come_back_from_the_process_apart(tmp_path: Path) -> None:
    cases = {case.name: case for case in CASES}
    for name in ("external-columns", "similar-cosine", "target-tuple"):
        (tmp_path / name).mkdir()
        live, folder = saved(cases[name], tmp_path / name)
        assert load_workflow(folder, trust_pickle=True).fingerprint == live.fingerprint


def test_a_fault_that_is_repeated_is_read_from_a_folder_too(tmp_path: Path) -> None:
    case = Case("single-table", lambda o: ["s", "t"] >> o.Categorify(single_table=True))
    fitted = _fitted(case)
    live = read(fitted, strict_nvtabular=True)
    fitted.save(str(tmp_path / "saved"))
    with pytest.raises(CompileError, match="strict_nvtabular=True repeats that"):
        load_workflow(tmp_path / "saved", trust_pickle=True)
    found = load_workflow(tmp_path / "saved", trust_pickle=True, strict_nvtabular=True)
    assert found.fingerprint == live.fingerprint


def test_groups_are_read_from_a_graph_json(tmp_path: Path) -> None:
    saved = Path(joins.__file__).parent / "nvtabular_graph_joins"
    found = load_workflow(saved)
    assert found.fingerprint == read(joins.fitted(tmp_path)).fingerprint
    assert [node.params["groups"] for node in found.nodes if node.op == "TargetEncoding"] == [
        [["age"], ["user", "second"]]
    ]


def _forget_the_table_of_a_group(document: dict[str, Any]) -> None:
    one = next(node for node in document["nodes"] if node["op_class"].endswith(".Categorify"))
    one["op_state"]["categories"][0]["key"] = ["first_user"]


def test_a_graph_json_whose_groups_are_not_told_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    shutil.copytree(Path(joins.__file__).parent / "nvtabular_graph_joins", folder)
    document = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    _forget_the_table_of_a_group(document)
    (folder / "graph.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a table for every group of columns"):
        read_graph(folder, None)


def test_tables_that_were_saved_one_over_the_other_are_refused(tmp_path: Path) -> None:
    """NVTabular puts all tables into one folder, by the names of their columns."""

    def twice(ops: Any, threshold: int) -> Any:
        rare = ["s"] >> ops.Categorify(freq_threshold=threshold) >> ops.Rename(postfix="_rare")
        return (["s"] >> ops.Categorify()) + rare

    (tmp_path / "same").mkdir()
    live, folder = saved(Case("same", lambda o: twice(o, 0)), tmp_path / "same")
    assert read_pickle(folder, None).fingerprint == live.fingerprint
    _, folder = saved(Case("other", lambda o: twice(o, 2)), tmp_path)
    with pytest.raises(ConfigError, match=r"unique\.s\.parquet.*read the workflow live, before it is saved"):
        read_pickle(folder, None)


def _unfitted(build: Any, folder: Path) -> Path:
    with door.quiet():
        door.nvtabular().Workflow(build(door.nvtabular().ops)).save(str(folder))
    return folder


def test_a_workflow_that_is_not_fitted_keeps_its_matrices(tmp_path: Path) -> None:
    from scipy.sparse import coo_matrix

    entries = coo_matrix(([1.0, 2.0, 3.0], ([0, 1, 1], [0, 1, 0])), shape=(2, 2))
    frame = pl.DataFrame({"a": [0, 1], "b": [1, 0]})
    folder = _unfitted(lambda o: [["a", "b"]] >> o.ColumnSimilarity(entries, on_device=False), tmp_path / "saved")
    with door.quiet():
        live = door.nvtabular().Workflow(
            [["a", "b"]] >> door.nvtabular().ops.ColumnSimilarity(entries, on_device=False)
        )
    assert read_pickle(folder, columns_of(frame)).fingerprint == read(live, columns_of(frame)).fingerprint


def test_a_matrix_that_points_beyond_itself_is_refused(tmp_path: Path) -> None:
    from scipy.sparse import csr_matrix

    entries = csr_matrix(np.eye(3))
    entries.indices[1] = 10**6
    folder = _unfitted(lambda o: [["a", "b"]] >> o.ColumnSimilarity(entries, on_device=False), tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"the table of ColumnSimilarity in the pickle.*Workflow\.load"):
        read_pickle(folder, columns_of(pl.DataFrame({"a": [0], "b": [1]})))


def _dates() -> Any:
    import pandas as pd

    return pd.DataFrame({"i": [1], "d": pd.to_datetime(["2024-01-01"])})


def _categories() -> Any:
    import pandas as pd

    return pd.DataFrame({"i": [1], "c": pd.Categorical(["a"])})


@pytest.mark.parametrize("table", [_dates, _categories])
def test_a_table_of_other_columns_is_refused_by_name(table: Any, tmp_path: Path) -> None:
    folder = _unfitted(lambda o: ["i"] >> o.JoinExternal(table(), on="i"), tmp_path / "saved")
    with pytest.raises(ConfigError, match="the pickle asks for"):
        read_pickle(folder, columns_of(FIT.select("i")))


def test_a_table_that_lies_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    FIT.select("i", "c").write_parquet(tmp_path / "table.parquet")

    def build(ops: Any) -> Any:
        return ["i"] >> ops.JoinExternal(door.nvtabular().Dataset(str(tmp_path / "table.parquet"), cpu=True), on="i")

    folder = _unfitted(build, tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"asks for merlin\.io\.parquet\.\w+"):
        read_pickle(folder, columns_of(FIT.select("i")))
