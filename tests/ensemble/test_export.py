import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.manifest import load
from ensemble.pbtxt import parse
from ensemble.repository import current, versions
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.spec import Batching, RequestColumn, RequestSchema, TensorSpec
from ensemble.verification import check_version as verify
from etl.errors import ArtifactError

_ONNX_TO_CONFIG = {1: "TYPE_FP32", 6: "TYPE_INT32", 7: "TYPE_INT64", 8: "TYPE_STRING", 9: "TYPE_BOOL"}


def specs(repository: Path) -> dict:
    return {path.parent.name: parse(path.read_text()) for path in repository.glob("*/config.pbtxt")}


@pytest.mark.parametrize("shape", ["chained", "fused"])
def test_every_config_agrees_with_its_graph(parts, tmp_path, shape):
    """Read with Triton's own protobuf and ONNX alone: the repository is right for any Triton, not only for ours."""
    exported = parts.export(tmp_path, shape=shape)
    for name in exported.models:
        config = text_format.Parse((tmp_path / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert (config.name, config.backend, config.platform) == (name, "onnxruntime", "")
        assert config.HasField("dynamic_batching")
        graph = onnx.load(tmp_path / name / "1" / "model.onnx").graph
        said = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
        assert {tensor.name for tensor in config.input} == {value.name for value in graph.input}
        for tensor in (*config.input, *config.output):
            kind = said[tensor.name]
            assert model_config_pb2.DataType.Name(tensor.data_type) == _ONNX_TO_CONFIG[kind.elem_type]
            dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
            assert dims == [-1, *tensor.dims]


@pytest.mark.parametrize("shape", ["chained", "fused"])
def test_the_ensemble_is_the_same_chained_and_fused(parts, tmp_path, shape):
    parts.export(tmp_path, shape=shape, max_batch_size=32)
    spec = specs(tmp_path)["shop"]
    assert (spec.platform, spec.max_batch_size, spec.versions) == ("ensemble", 32, (1,))
    assert spec.inputs == parts.schema.tensors
    assert spec.outputs == (TensorSpec("score", "FP32", (1,)),)
    roles = ["fused"] if shape == "fused" else ["features", "model"]
    assert [step.model for step in spec.steps] == [f"shop_{role}_1" for role in roles]
    assert spec.parameters == {"mews.fingerprint": "f" * 64, "mews.request": json.dumps(parts.schema.to_json())}
    taken = [set(step.output_map.values()) for step in spec.steps]
    assert not taken[0] & {tensor.name for tensor in spec.inputs}, "an inner tensor has the name of a raw column"


@pytest.mark.parametrize(("fused", "shape"), [(True, "fused"), (False, "chained")])
def test_a_configuration_from_before_there_were_shapes_is_read(fused, shape):
    assert ExportConfig.model_validate({"fused": fused}).shape == shape
    assert ExportConfig.model_validate({"fused": fused, "shape": "split"}).shape == "split"


def test_settings_reach_the_composing_models(parts, tmp_path):
    parts.export(
        tmp_path, preferred_batch_sizes=[4, 8], max_queue_delay_microseconds=50, instances=2, device="gpu", threads=3
    )
    for name in ("shop_features_1", "shop_model_1"):
        spec = specs(tmp_path)[name]
        assert spec.batching == Batching((4, 8), 50)
        assert (spec.instances[0].count, spec.instances[0].kind) == (2, "KIND_GPU")
        assert spec.parameters == {"mews.fingerprint": "f" * 64, "intra_op_thread_count": "3"}


def test_warm_up_rows_are_real_and_in_triton_s_raw_format(parts, tmp_path):
    parts.export(tmp_path, warmup_rows=3)
    spec = specs(tmp_path)["shop_features_1"]
    assert [sample.name for sample in spec.warmup] == ["row0", "row1", "row2"]
    tensors = encode(parts.rows(8).head(3), parts.schema)
    sample = {tensor.name: tensor for tensor in spec.warmup[1].inputs}
    folder = tmp_path / "shop_features_1" / "warmup"
    assert sample["tags"].dims == tensors["tags"].shape[1:]
    assert (folder / sample["user"].data).read_bytes() == tensors["user"][1].tobytes()
    item = tensors["item"][1, 0]
    assert (folder / sample["item"].data).read_bytes() == len(item).to_bytes(4, "little") + item
    assert {tensor.name for tensor in specs(tmp_path)["shop_model_1"].warmup[0].inputs} == {
        spec.name for spec in specs(tmp_path)["shop_model_1"].inputs
    }


def test_no_warm_up_rows_mean_no_warm_up(parts, tmp_path):
    parts.export(tmp_path, warmup_rows=0)
    assert not specs(tmp_path)["shop_features_1"].warmup
    assert not (tmp_path / "shop_features_1" / "warmup").exists()


def test_the_example_is_a_request_of_real_rows(parts, tmp_path):
    parts.export(tmp_path)
    example = json.loads((tmp_path / "shop" / "1" / "request.example.json").read_text())
    assert [each["name"] for each in example["inputs"]] == ["user", "item", "price", "tags", "tags__length", "active"]
    assert example["inputs"][0]["datatype"] == "INT64"
    assert example["outputs"] == [{"name": "score"}]
    for each in example["inputs"]:
        assert len(each["data"]) == int(np.prod(each["shape"]))


def test_versions_stand_beside_each_other(parts, tmp_path):
    first = parts.export(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    second = parts.export(tmp_path, shape="fused")
    assert (first.version, second.version) == (1, 2)
    assert second.folder == tmp_path / "shop" / "2"
    assert current(tmp_path, "shop") == 2
    changed = {path for path, data in before.items() if path.read_bytes() != data}
    assert changed == {tmp_path / "shop" / "config.pbtxt"}
    assert verify(first.folder).ok
    assert verify(second.folder).ok


def expect_refusal(parts, repository: Path, message: str, **changes) -> None:
    """Export with another graph or schema, and nothing may be written."""
    given = {"workflow": parts.workflow, "model": parts.model, "schema": parts.schema, **changes}
    with pytest.raises(ArtifactError, match=message):
        export(
            given["workflow"],
            given["model"],
            repository,
            ExportConfig(),
            given["schema"],
            {},
            given.get("rows", parts.rows(2)),
        )
    assert not list(repository.glob("mews*"))


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def test_fingerprints_that_differ_are_refused(parts, tmp_path):
    other = saved(parts.model_graph("0" * 64), tmp_path / "other.onnx")
    expect_refusal(
        parts, tmp_path, f"different feature graphs; expected fingerprint {'f' * 64}.*received {'0' * 64}", model=other
    )
    for target in ("workflow", "model"):
        graph = getattr(parts, f"{'features' if target == 'workflow' else 'model'}_graph")()
        del graph.metadata_props[:]
        expect_refusal(parts, tmp_path, r"\(none\)", **{target: saved(graph, tmp_path / "bare.onnx")})


def test_everything_that_does_not_fit_is_said_at_once(parts, tmp_path):
    graph = parts.model_graph()
    graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    graph.graph.input[3].type.tensor_type.shape.dim[1].dim_value = 9
    graph.graph.input[4].name = "country"
    for node in graph.graph.node:
        node.input[:] = ["country" if name == "active" else name for name in node.input]
    graph.graph.output[0].name = graph.graph.node[-1].output[0] = "probability"
    message = (
        r"(?s)the model needs price FP64\[1\], the features has price FP32\[1\].*"
        r"the model needs tags INT64\[9\], the features has tags INT64\[4\].*"
        r"the model needs country FP32\[1\], which the features lacks.*"
        r"must have an output score FP32\[1\], it has probability FP32\[1\]"
    )
    expect_refusal(parts, tmp_path, message, model=saved(graph, tmp_path / "bad.onnx"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (lambda columns: columns[1:], r"the features needs user INT64\[1\], which the request lacks"),
        (
            lambda columns: (*columns, RequestColumn("age", "int64")),
            r"the request has age INT64\[1\], which the features does",
        ),
        (lambda columns: (RequestColumn("user", "int32"), *columns[1:]), r"the request has user INT32\[1\]"),
    ],
)
def test_a_request_that_the_features_do_not_read_is_refused(parts, tmp_path, columns, message):
    expect_refusal(parts, tmp_path, message, schema=RequestSchema(tuple(columns(parts.schema.columns))))


@pytest.mark.parametrize("damage", [b"", b"not a graph", None])
def test_a_damaged_graph_is_refused(parts, tmp_path, damage):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(parts.workflow.read_bytes()[:-40] if damage is None else damage)
    expect_refusal(parts, tmp_path, r"broken\.onnx", workflow=broken)


def test_a_missing_graph_is_refused(parts, tmp_path):
    expect_refusal(parts, tmp_path, r"nowhere\.onnx is missing", model=tmp_path / "nowhere.onnx")


def test_a_fixed_batch_is_refused(parts, tmp_path):
    graph = parts.model_graph()
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    expect_refusal(parts, tmp_path, "symbolic first dimension", model=saved(graph, tmp_path / "fixed.onnx"))


def test_no_rows_to_try_it_with_are_refused(parts, tmp_path):
    expect_refusal(parts, tmp_path, "no rows to try", rows=parts.rows(0))


_EXPORT = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
import polars, onnxruntime, onnx
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.manifest import load
def run():
    schema = load(Path(sys.argv[4]) / "shop" / "1").request
    rows = polars.read_parquet(sys.argv[5])
    export(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), ExportConfig(name="shop"), schema, {}, rows)
"""
# One export in a fork for each step: os._exit before the nth fsync or rename, until one gets through.
_CRASHES = """
import json, shutil
def crash_at(step, calls=[0]):
    def counting(real):
        def call(*args, **kwargs):
            calls[0] += 1
            if calls[0] == step:
                os._exit(9)
            return real(*args, **kwargs)
        return call
    os.fsync, os.rename = counting(os.fsync), counting(os.rename)
for step in range(1, 200):
    copy = Path(sys.argv[4]).parent / f"crashed-{step}" / "models"
    shutil.copytree(sys.argv[4], copy)
    sys.argv[4] = str(copy)
    child = os.fork()
    if child == 0:
        crash_at(step)
        run()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    sys.argv[4] = str(Path(sys.argv[4]).parent.parent / "models")
print(step - 1)
"""


def arguments(parts, repository: Path) -> list[str]:
    rows = repository.parent / "rows.parquet"
    parts.rows(4).write_parquet(rows)
    return [str(Path.cwd()), str(parts.workflow), str(parts.model), str(repository), str(rows)]


def test_a_crash_at_any_step_leaves_the_version_before(parts, tmp_path):
    repository = tmp_path / "models"
    parts.export(repository)
    command = [sys.executable, "-c", _EXPORT + _CRASHES, *arguments(parts, repository)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    assert steps >= 20
    served = []
    for step in range(1, steps + 1):
        crashed = tmp_path / f"crashed-{step}" / "models"
        served.append(current(crashed, "shop"))
        assert verify(crashed / "shop" / str(served[-1])).ok, step
        assert [path.name for path in crashed.iterdir() if path.is_dir() and path.name.startswith(".")] == []
        models = [path for path in crashed.iterdir() if path.is_dir()]
        assert all((model / "config.pbtxt").is_file() for model in models), step
    assert served == sorted(served)
    assert set(served) == {1, 2}, "the last step is the sync after the rename that makes the new version serve"
    latest = next(step for step, version in enumerate(served, 1) if version == 2) - 1
    crashed = tmp_path / f"crashed-{latest}" / "models"
    assert versions(crashed, "shop") == [1, 2]
    with TritonServer(crashed, models=["shop"]) as server, Client(server.http_url, "shop") as client:
        rows = parts.rows(3)
        np.testing.assert_allclose(client.predict(rows), parts.scores(encode(rows, parts.schema)), atol=1e-6)
    assert parts.export(crashed).version == 3
    assert verify(crashed / "shop" / "3").ok


def test_a_full_disk_is_said_and_leaves_the_version_before(parts, tmp_path):
    """A limit on the size of files answers as a full disk does: a write fails part of the way."""
    repository = tmp_path / "models"
    parts.export(repository)
    script = _EXPORT + (
        "from etl.errors import ArtifactError\ntry:\n    run()\nexcept ArtifactError as error:\n    print(error)\n"
    )
    size = 1000
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments(parts, repository)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    assert "cannot write to the model repository" in done.stdout, done.stderr
    assert versions(repository, "shop") == [1]
    assert verify(repository / "shop" / "1").ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "rows.parquet"]


def test_exports_at_the_same_time_take_different_numbers(parts, tmp_path):
    repository = tmp_path / "models"
    parts.export(repository)
    command = [sys.executable, "-c", _EXPORT + "run()", *arguments(parts, repository)]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert versions(repository, "shop") == [1, 2, 3]
    assert all(verify(repository / "shop" / str(version)).ok for version in (1, 2, 3))
    assert load(repository / "shop" / "3").models == ("shop_features_3", "shop_model_3")
    assert current(repository, "shop") == 3
