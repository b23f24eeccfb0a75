"""`mews compile`, `mews explain` and `mews operators` on workflows that NVTabular fitted and saved."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.compiler import to_polars
from etl.graph import FeatureGraph
from etl.reader import door, read
from mews.support import OPERATORS
from tests.e2e.conftest import ROOT, last_json, leftovers, mews
from tests.saved.workflow import fitted, rows

SAVED = ROOT / "tests" / "saved" / "nvtabular_graph"


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    raw = rows()
    return pl.DataFrame({name: raw[name].tolist() for name in raw.columns}, schema_overrides={"price": pl.Float32})


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> FeatureGraph:
    """What NVTabular itself fits on the same rows."""
    return read(fitted(tmp_path_factory.mktemp("live")))


@pytest.fixture(scope="module")
def expected(graph: FeatureGraph, frame: pl.DataFrame) -> pl.DataFrame:
    return to_polars(graph).apply(frame.lazy()).collect()


def request_of(description: dict[str, Any], frame: pl.DataFrame) -> dict[str, Any]:
    """The rows as the tensors that features.json describes."""
    tensors: dict[str, Any] = {}
    for column in description["inputs"]:
        values = frame[column["name"]]
        if not column["list"]:
            filled = values.fill_null(column["null"]) if isinstance(column["null"], str) else values
            kind = object if column["type"] == "string" else column["type"]
            tensors[column["tensor"]] = np.array(filled.to_list(), dtype=kind).reshape(-1, 1)
            continue
        width = max(map(len, values))
        padded = [[*value, *[""] * (width - len(value))] for value in values.to_list()]
        tensors[column["tensor"]] = np.array(padded, dtype=object)
        tensors[column["lengths"]["tensor"]] = np.array([[len(value)] for value in values.to_list()], dtype=np.int32)
    return tensors


def test_an_onnx_model_answers_as_described(frame: pl.DataFrame, expected: pl.DataFrame, tmp_path: Path) -> None:
    import json

    import onnxruntime

    out = tmp_path / "onnx"
    done = mews("compile", SAVED, "--to", "onnx", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert last_json(done)["files"] == ["graph/", "features.json", "workflow.onnx"]
    description = json.loads((out / "features.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession((out / "workflow.onnx").read_bytes())
    names = [feature["tensor"] for feature in description["features"]]
    answers = session.run(names, request_of(description, frame))
    assert [feature["name"] for feature in description["features"]] == expected.columns
    for feature, answer in zip(description["features"], answers, strict=True):
        assert answer.shape[1:] == tuple(feature["shape"][1:])
        wanted = np.array(expected[feature["name"]].to_list()).reshape(answer.shape)
        np.testing.assert_allclose(answer, wanted, rtol=1e-6, atol=1e-6, err_msg=feature["name"])
    assert FeatureGraph.load(out / "graph").fingerprint == description["fingerprint"]


def test_a_batch_folder_runs_by_itself(frame: pl.DataFrame, expected: pl.DataFrame, tmp_path: Path) -> None:
    out, raw, features = tmp_path / "batch", tmp_path / "raw.parquet", tmp_path / "features"
    frame.write_parquet(raw)
    done = mews("compile", SAVED, "--to", "polars", "--out", out)
    assert done.returncode == 0, done.stderr

    def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(out / "features.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    done = run(raw, features)
    assert done.returncode == 0, done.stderr
    written = pl.read_parquet(features / "part_*.parquet")
    assert written.to_dict(as_series=False) == expected.cast(dict(written.schema)).to_dict(as_series=False)
    again = run(raw, features)
    assert again.returncode == 1
    assert "exists" in again.stderr
    frame.drop("age").write_parquet(raw)
    wrong = run(raw, tmp_path / "other")
    assert wrong.returncode == 3
    assert "'age' is missing" in wrong.stderr
    assert not (tmp_path / "other").exists()


def test_a_pickle_is_compiled_only_when_trusted(graph: FeatureGraph, tmp_path: Path) -> None:
    workflow = fitted(tmp_path / "tables")
    workflow.save(str(tmp_path / "saved"))
    refused = mews("compile", tmp_path / "saved", "--to", "polars", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "--trust-pickle" in refused.stderr
    assert not (tmp_path / "out").exists()
    done = mews("compile", tmp_path / "saved", "--to", "polars", "--out", tmp_path / "out", "--trust-pickle", "--json")
    assert done.returncode == 0, done.stderr
    assert last_json(done)["fingerprint"] == graph.fingerprint


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    done = mews("compile", SAVED, "--to", "onnx", "--out", theirs, "--replace")
    assert done.returncode == 2
    assert [path.name for path in theirs.iterdir()] == ["thesis.txt"]
    ours = ("compile", SAVED, "--to", "onnx", "--out", tmp_path / "ours")
    assert mews(*ours).returncode == 0
    refused = mews(*ours)
    assert refused.returncode == 2
    assert "--replace" in refused.stderr
    replaced = mews(*ours, "--replace")
    assert replaced.returncode == 0
    assert "replaced" in replaced.stdout


def test_what_cannot_be_served_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    source = (
        "import nvtabular as nvt\n"
        "import pandas as pd\n"
        "from etl.reader import door\n"
        "def features():\n"
        f"    tags = ['tags'] >> nvt.ops.Categorify(out_path={str(tmp_path / 'tables')!r})\n"
        "    with door.quiet():\n"
        "        return nvt.Workflow(tags).fit(nvt.Dataset(pd.DataFrame({'tags': [['a'], ['b', 'c']]})))\n"
    )
    (tmp_path / "mine.py").write_text(source)
    workflow = f"{tmp_path / 'mine.py'}:features"
    done = mews("compile", workflow, "--to", "onnx", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "ragged" in done.stderr
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []
    told = mews("explain", workflow, "--svg", tmp_path / "graph.svg", "--json")
    assert told.returncode == 0, told.stderr
    (problem,) = last_json(told)["not_served"]
    assert problem["operator"] == "Categorify"
    assert "ragged" in problem["reason"]
    assert "ListSlice" in problem["instead"]
    assert last_json(told)["not_in_batch"] == []
    assert "refused" in (tmp_path / "graph.svg").read_text(encoding="utf-8")


def test_a_graph_is_explained_as_text_json_and_picture(graph: FeatureGraph, tmp_path: Path) -> None:
    picture = tmp_path / "graph.svg"
    done = mews("explain", SAVED, "--svg", picture, "--json")
    assert done.returncode == 0, done.stderr
    told = last_json(done)
    assert told["fingerprint"] == graph.fingerprint
    assert [one["operator"] for one in told["operators"]] == [node.op for node in graph.nodes]
    categorify = told["operators"][0]
    assert categorify["inputs"] == ["user: int64", "country: string"]
    assert categorify["rows"] == 6
    assert categorify["primitives"]["Lookup"] == 2
    text = mews("explain", SAVED).stdout
    assert "Lookup x2" in text
    assert "6 rows" in text
    root = ElementTree.parse(picture).getroot()
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"country · 6", "Categorify × 2", "price"} <= set(shown)
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any("freq_threshold" in title for title in titles)
    assert "prefers-color-scheme: dark" in picture.read_text(encoding="utf-8")


def test_a_workflow_that_is_not_fitted_is_explained_with_the_types_of_the_data(
    frame: pl.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "import nvtabular as nvt\ndef features():\n    return nvt.Workflow(['price'] >> nvt.ops.Normalize())\n"
    )
    frame.write_parquet(tmp_path / "raw.parquet")
    workflow = f"{tmp_path / 'mine.py'}:features"
    assert "`inputs`" in mews("explain", workflow).stderr
    done = mews("explain", workflow, "--data", tmp_path / "raw.parquet")
    assert done.returncode == 0, done.stderr
    assert "price: float32" in done.stdout
    assert "after fit" in done.stdout
    refused = mews("compile", workflow, "--data", tmp_path / "raw.parquet", "--to", "onnx", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "without statistics" in refused.stderr


def test_the_matrix_lists_every_public_operator_of_nvtabular() -> None:
    from merlin.dag import Operator

    ops = door.nvtabular().ops
    public = {name for name, value in vars(ops).items() if isinstance(value, type) and issubclass(value, Operator)}
    assert set(OPERATORS) == public - {"Operator", "StatOperator"}
    done = mews("operators", "--json")
    assert done.returncode == 0, done.stderr
    by_name = {one["name"]: one for one in last_json(done)}
    assert set(by_name) == set(OPERATORS)
    assert by_name["Categorify"]["onnx"] is True
    assert all(one["reason"] for one in by_name.values() if not one["onnx"])


def test_the_documented_matrix_is_what_the_registries_say(tmp_path: Path) -> None:
    done = mews("operators", "--check", ROOT / "docs" / "operators.md")
    assert done.returncode == 0, done.stderr
    old = tmp_path / "operators.md"
    assert mews("operators", "--check", old).returncode == 2
    assert mews("operators", "--write", old).returncode == 0
    assert mews("operators", "--check", old).returncode == 0
    old.write_text(old.read_text(encoding="utf-8").replace("| yes |", "| no |", 1), encoding="utf-8")
    stale = mews("operators", "--check", old)
    assert stale.returncode == 2
    assert "mews operators --write" in stale.stderr
