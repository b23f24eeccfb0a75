"""Graphs with tensors beside them: saved, copied, opened without reading them, joined, exported, and served."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.graphs.external import copy_graph, move_graph, open_graph, outside, read, save_graph
from ensemble.graphs.fuse import fuse, optimise
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.verification import check_version
from etl.errors import ArtifactError

WIRING = {name: f"{name}__out" for name in ("user", "item", "price", "tags", "active")}
ROWS = 40_000  # of the tables: 3 floats each, so that each is large enough to lie outside


@pytest.fixture(scope="module")
def large(parts):
    """The small model with tables of 480 kB; the features' codes stay in their first rows."""
    model, random = parts.model_graph(), np.random.default_rng(1)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("table_"):
            table = random.normal(size=(ROWS, 3)).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(table, tensor.name))
    return model


@pytest.fixture
def saved(large, tmp_path):
    assert save_graph(large, tmp_path / "model.onnx", 0) == (tmp_path / "model.onnx", tmp_path / "model.onnx.data")
    return tmp_path / "model.onnx"


def scores(model, feed):
    content = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def feed(rows=16):
    random = np.random.default_rng(2)
    codes = {name: random.integers(0, ROWS, (rows, 1)) for name in ("user", "item")}
    floats = {name: random.normal(size=(rows, 1)).astype(np.float32) for name in ("price", "active")}
    return {**codes, **floats, "tags": random.integers(0, ROWS, (rows, 4))}


def test_a_saved_graph_is_small_and_runs_by_its_path_as_it_did(large, saved):
    assert saved.stat().st_size < 4096
    assert saved.with_name("model.onnx.data").stat().st_size >= 3 * ROWS * 12
    np.testing.assert_array_equal(scores(str(saved), feed()), scores(large, feed()))
    onnx.checker.check_model(str(saved))


def test_saving_leaves_the_graph_in_memory_as_it_was(large, tmp_path):
    before = large.SerializeToString()
    save_graph(large, tmp_path / "model.onnx", 0)
    assert large.SerializeToString() == before


def test_below_the_threshold_everything_is_in_one_file(large, saved):
    assert save_graph(large, saved, 1 << 30) == (saved,)
    assert not saved.with_name("model.onnx.data").exists()
    assert onnx.load(saved).SerializeToString() == large.SerializeToString()


def test_saving_twice_does_not_grow_the_file(large, saved):
    size = saved.with_name("model.onnx.data").stat().st_size
    save_graph(large, saved, 0)
    assert saved.with_name("model.onnx.data").stat().st_size == size


def test_opened_tensors_are_mapped_not_read(large, saved):
    model = open_graph(saved)
    assert sorted(tensor.name for tensor in outside(model)) == ["table_item", "table_tags", "table_user"]
    assert model.ByteSize() < 4096
    tables = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in large.graph.initializer}
    for tensor in outside(model):
        assert isinstance(read(tensor), np.memmap)
        np.testing.assert_array_equal(read(tensor), tables[tensor.name])


def test_a_graph_over_the_limit_of_protobuf_is_refused_with_the_size(large, tmp_path, monkeypatch):
    monkeypatch.setattr("etl.onnx_files._LARGEST_MESSAGE", 1000)
    with pytest.raises(ArtifactError, match=r"too large; expected at most 1,000 bytes .* received \d,\d+"):
        save_graph(large, tmp_path / "model.onnx", 0)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("name", ["model.onnx", "other.onnx"])
def test_a_copy_stands_alone(large, saved, tmp_path, name):
    target = tmp_path / "copy" / name
    target.parent.mkdir()
    assert [path.name for path in copy_graph(saved, target)] == [name, f"{name}.data"]
    saved.unlink()
    saved.with_name("model.onnx.data").unlink()
    np.testing.assert_array_equal(scores(str(target), feed()), scores(large, feed()))


def test_a_graph_without_tensors_beside_it_is_copied_as_it_is(parts, tmp_path):
    assert copy_graph(parts.model, tmp_path / "model.onnx") == (tmp_path / "model.onnx",)
    assert (tmp_path / "model.onnx").read_bytes() == parts.model.read_bytes()


def test_graphs_whose_files_have_one_name_are_joined(parts, large, saved, tmp_path):
    whole = fuse(parts.features_graph(), large, WIRING)
    joined = optimise(fuse(parts.features_graph(), open_graph(saved), WIRING))
    assert len(outside(joined)) == 3
    (tmp_path / "joined").mkdir()
    save_graph(joined, tmp_path / "joined" / "model.onnx")
    tensors = encode(parts.rows(32), parts.schema)
    got = OnnxFile.open(tmp_path / "joined" / "model.onnx").run(tensors, ("score",))["score"]
    np.testing.assert_array_equal(got, OnnxFile(saved, whole).run(tensors, ("score",))["score"])


def edit(path, **said):
    """Change what the first outside tensor says of its place."""
    model = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    for entry in tensor.external_data:
        entry.value = said.get(entry.key, entry.value)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("../model.onnx.data", "expected a file in the graph's folder"),
        ("/etc/passwd", "expected a file in the graph's folder"),
        ("inner/../../x", "expected a file in the graph's folder"),
        ("..\\x", "expected a file in the graph's folder"),
        ("", "expected a file in the graph's folder"),
        ("gone.data", "gone.data is missing"),
        ("link.data", "a symbolic link"),
        ("linked/model.onnx.data", "a symbolic link"),
        (".", "expected a file in the graph's folder"),
        ("folder", "expected a regular file"),
    ],
)
def test_places_that_are_not_in_the_folder_are_refused(saved, location, says):
    saved.with_name("link.data").symlink_to("/etc/passwd")
    saved.with_name("linked").symlink_to(saved.parent)
    saved.with_name("folder").mkdir()
    edit(saved, location=location)
    with pytest.raises(ArtifactError, match=says):
        OnnxFile.open(saved)


@pytest.mark.parametrize(
    "said", [{"offset": "-1"}, {"offset": str(1 << 40)}, {"length": "8"}, {"offset": "x"}, {"length": str(1 << 62)}]
)
def test_places_that_lie_are_refused(saved, said):
    edit(saved, **said)
    with pytest.raises(ArtifactError, match="tensor 'table_"):
        OnnxFile.open(saved)


def test_a_file_that_was_cut_is_refused(saved):
    os.truncate(saved.with_name("model.onnx.data"), 1000)
    with pytest.raises(ArtifactError, match="which has 1000"):
        OnnxFile.open(saved)


def test_a_vocabulary_in_another_file_is_refused(parts, tmp_path):
    model = parts.features_graph()
    tensor = next(a.t for node in model.graph.node for a in node.attribute if a.name == "keys_tensor")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="keys")
    onnx.save(model, tmp_path / "workflow.onnx")
    with pytest.raises(ArtifactError, match="'keys' in another file; expected only initializers"):
        OnnxFile.open(tmp_path / "workflow.onnx")


@pytest.fixture(scope="module")
def repository(parts, large, tmp_path_factory):
    """`chained` and `fused`, with the tables beside their graphs."""
    folder = tmp_path_factory.mktemp("large")
    save_graph(large, folder / "model.onnx", 0)
    settings = {"max_batch_size": 64, "warmup_rows": 2}
    for shape in ("chained", "fused"):
        config = ExportConfig(name=shape, shape=shape, **settings)
        export(parts.workflow, folder / "model.onnx", folder / "models", config, parts.schema, {}, parts.rows(8))
    return folder / "models"


def test_triton_serves_tables_beside_the_graph(parts, large, repository):
    rows = parts.rows(50)
    joined = fuse(parts.features_graph(), large, WIRING)
    expected = OnnxFile(repository, joined).run(encode(rows, parts.schema), ("score",))["score"].reshape(-1)
    with TritonServer(repository, models=["chained", "fused"]) as server:
        for name in ("chained", "fused"):
            with Client(server.http_url, name) as client:
                np.testing.assert_allclose(client.predict(rows), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["chained", "fused"])
def test_tables_beside_the_graph_are_in_the_manifest(repository, tmp_path, name):
    repository = shutil.copytree(repository, tmp_path / "models")
    version = repository / name / "1"
    manifest = json.loads((version / "manifest.json").read_text())
    (beside,) = [path for path in manifest["files"] if path.endswith(".onnx.data")]
    assert check_version(version).ok
    with (repository / beside).open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    assert any(beside in problem for problem in check_version(version).problems)


def test_moving_a_graph_moves_its_tables(large, saved, tmp_path):
    target = tmp_path / "elsewhere" / "other.onnx"
    target.parent.mkdir()
    move_graph(saved, target)
    assert [path.name for path in sorted(target.parent.iterdir())] == ["other.onnx", "other.onnx.data"]
    assert not list(tmp_path.glob("model.onnx*"))
    np.testing.assert_array_equal(scores(str(target), feed()), scores(large, feed()))
