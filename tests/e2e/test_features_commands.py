"""`mews compile`, `mews explain` and `mews operators` on workflows that NVTabular fitted and saved."""

from __future__ import annotations

import importlib
import pkgutil
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
from mews.support import OPERATORS, PLUMBING
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


def test_a_request_may_look_otherwise(frame: pl.DataFrame, expected: pl.DataFrame, tmp_path: Path) -> None:
    """As docs/requests.md says, from a file of forms and from pipeline.yaml alike."""
    import json

    import onnxruntime

    forms = "age: {null: -1, dtype: int32}\ncountry: {null: mask}\ntags: {list: offsets}\n"
    (tmp_path / "forms.yaml").write_text(forms)
    done = mews("compile", SAVED, "--to", "onnx", "--out", tmp_path / "a", "--requests", tmp_path / "forms.yaml")
    assert done.returncode == 0, done.stderr
    indented = "".join(f"    {line}\n" for line in forms.splitlines())
    (tmp_path / "pipeline.yaml").write_text(f"export:\n  max_batch_size: 0\n  requests:\n{indented}")
    done = mews("compile", SAVED, "--to", "onnx", "--out", tmp_path / "b", "-c", tmp_path / "pipeline.yaml")
    assert done.returncode == 0, done.stderr
    models = [(tmp_path / name / "workflow.onnx").read_bytes() for name in ("a", "b")]
    assert models[0] == models[1]
    description = json.loads((tmp_path / "a" / "features.json").read_text(encoding="utf-8"))
    by_name = {column["name"]: column for column in description["inputs"]}
    assert (by_name["age"]["tensor_type"], by_name["age"]["null"]) == ("int32", -1)
    assert by_name["country"]["mask"]["tensor"] == "country__null"
    assert by_name["tags"]["offsets"]["type"] == "int32"
    request = request_of({"inputs": [c for c in description["inputs"] if c["name"] != "tags"]}, frame)
    request["age"] = request["age"].astype(np.int32)
    request["country__null"] = frame["country"].is_null().to_numpy().reshape(-1, 1)
    request["tags__values"] = np.array([tag for tags in frame["tags"] for tag in tags], dtype=object)
    request["tags__offsets"] = np.cumsum([0, *frame["tags"].list.len()]).astype(np.int32)
    session = onnxruntime.InferenceSession(models[0])
    names = [feature["tensor"] for feature in description["features"]]
    for feature, answer in zip(description["features"], session.run(names, request), strict=True):
        wanted = np.array(expected[feature["name"]].to_list()).reshape(answer.shape)
        np.testing.assert_allclose(answer, wanted, rtol=1e-6, atol=1e-6, err_msg=feature["name"])


def test_request_forms_that_cannot_be_are_refused(tmp_path: Path) -> None:
    forms = tmp_path / "forms.yaml"
    for text, said in (
        ("age: {nul: -1}\nprice: {list: pairs}\n", "2 problem(s)"),
        ("[1]\n", "1 problem(s)"),
        ("age: {null: x}\n", "expected a value of type int64"),
        ("height: {null: mask}\n", "no such raw column"),
    ):
        forms.write_text(text)
        done = mews("compile", SAVED, "--to", "onnx", "--out", tmp_path / "out", "--requests", forms)
        assert done.returncode == 2, done.stdout
        assert said in " ".join(done.stderr.split())
    forms.write_text("age: {null: -1}\n")
    batch = mews("compile", SAVED, "--to", "polars", "--out", tmp_path / "out", "--requests", forms)
    assert batch.returncode == 2
    assert "--to onnx" in batch.stderr
    assert not (tmp_path / "out").exists()


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


def test_rows_and_what_follows_them_are_explained(tmp_path: Path) -> None:
    source = (
        "import nvtabular as nvt\n"
        "import pandas as pd\n"
        "from etl.reader import door\n"
        "o = nvt.ops\n"
        "def fit(graph):\n"
        "    frame = pd.DataFrame({'k': [1, 1, 2], 'x': [1.0, 2.0, 4.0], 'y': [0, 1, 1]})\n"
        "    with door.quiet():\n"
        "        return nvt.Workflow(graph).fit(nvt.Dataset(frame))\n"
        "def lagged():\n"
        f"    encoded = ['k'] >> o.TargetEncoding('y', kfold=2, out_path={str(tmp_path / 'tables')!r})\n"
        "    return fit((['x'] >> o.DifferenceLag('k') >> o.FillMissing() >> o.Normalize()) + encoded)\n"
        "def grouped():\n"
        "    return fit(['k', 'x'] >> o.Groupby('k', aggs=['mean', 'sum']) >> o.LogOp())\n"
        "def filtered():\n"
        "    return nvt.Workflow(['x'] >> o.Filter(lambda df: df['x'] > 1) >> o.Normalize())\n"
    )
    (tmp_path / "mine.py").write_text(source)
    told = last_json(mews("explain", f"{tmp_path / 'mine.py'}:lagged", "--json"))
    by_operator = {one["operator"]: one for one in told["operators"]}
    assert by_operator["DifferenceLag"]["effect"] == "looks"
    assert "other rows" in by_operator["DifferenceLag"]["refusals"][0]
    # What is behind it has no fault of its own.
    for name in ("FillMissing", "Normalize"):
        assert by_operator[name]["refusals"] == []
        assert by_operator[name]["follows"] == {"x_difference_lag_1": "DifferenceLag"}
    assert by_operator["TargetEncoding"]["out_of_fold"] is True
    assert by_operator["TargetEncoding"]["refusals"] == []
    assert told["not_served_features"] == ["x_difference_lag_1"]
    assert told["whole_in_batch"] == ["DifferenceLag"]
    assert [problem["operator"] for problem in told["not_served"]] == ["DifferenceLag"]
    shown = mews("explain", f"{tmp_path / 'mine.py'}:lagged", "--svg", tmp_path / "graph.svg").stdout
    assert "1 of 2 features can be served, not x_difference_lag_1" in shown
    assert "made from DifferenceLag" in (tmp_path / "graph.svg").read_text(encoding="utf-8")
    told = last_json(mews("explain", f"{tmp_path / 'mine.py'}:grouped", "--json"))
    assert [one["effect"] for one in told["operators"]] == ["regroups", "keeps"]
    assert len(told["not_served_features"]) == 3
    assert told["whole_in_batch"] == ["Groupby"]
    pl.DataFrame({"x": [1.0]}).write_parquet(tmp_path / "raw.parquet")
    told = last_json(mews("explain", f"{tmp_path / 'mine.py'}:filtered", "--data", tmp_path / "raw.parquet", "--json"))
    assert told["fitted"] is False
    assert [one["effect"] for one in told["operators"]] == ["drops", "keeps"]
    assert told["not_served_features"] == ["x"]


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
    assert {name for name, one in by_name.items() if not one["onnx"]} == {
        "DifferenceLag",
        "Dropna",
        "Filter",
        "Groupby",
    }
    assert {name for name, one in by_name.items() if not one["saved"]} == {"Filter", "LambdaOp"}


def test_the_plumbing_of_merlin_dag_is_listed() -> None:
    from merlin.dag import Operator, ops

    modules = [
        importlib.import_module(module.name) for module in pkgutil.iter_modules(ops.__path__, f"{ops.__name__}.")
    ]
    found = {
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Operator)
    }
    assert found - set(OPERATORS) - {"Operator", "StatOperator", "UDF"} == set(PLUMBING)


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
