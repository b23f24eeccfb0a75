"""The exported model is the trained one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from etl.errors import ArtifactError
from training import data
from training.export.onnx import random_rows, to_onnx
from training.predict import load, predict, read_features
from training.train import Trained, read_training

from .conftest import FINGERPRINT, LENGTH

BOTH = pytest.mark.parametrize("name", ["dlrm", "dcn_v2"])


@pytest.fixture(scope="session")
def exported(trained: Callable[[str], Trained], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("onnx") / f"{name}.onnx"
            to_onnx(trained(name).folder, made[name])
        return made[name]

    return get


def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@BOTH
def test_onnx_equals_tensorflow_on_the_test_rows(
    name: str, exported: Callable[[str], Path], trained: Callable[[str], Trained], features: Path
) -> None:
    inputs = read_features(read_training(trained(name).folder))
    (columns,) = list(data.batches(features / "test", inputs, 10_000))[0:1]
    (found,) = _session(exported(name)).run(["score"], columns)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], predict(trained(name).folder, features / "test")[: len(found)], atol=1e-6)


@BOTH
@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_batch_size_works(
    name: str, count: int, exported: Callable[[str], Path], trained: Callable[[str], Trained]
) -> None:
    folder = trained(name).folder
    inputs = read_features(read_training(folder))
    columns = random_rows(inputs, count, seed=5)
    (found,) = _session(exported(name)).run(None, columns)
    assert found.shape == (count, 1)
    np.testing.assert_allclose(found[:, 0], load(folder, inputs)(columns), atol=1e-6)


@BOTH
def test_inputs_and_output_are_declared_as_triton_needs_them(name: str, exported: Callable[[str], Path]) -> None:
    model = onnx.load(exported(name))
    onnx.checker.check_model(model, full_check=True)

    def declared(values: list[onnx.ValueInfoProto]) -> dict[str, tuple[int, list[str | int]]]:
        return {
            value.name: (
                value.type.tensor_type.elem_type,
                [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
            )
            for value in values
        }

    int64, float32 = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    assert declared(model.graph.input) == {
        "user": (int64, ["batch", 1]),
        "item": (int64, ["batch", 1]),
        "tags": (int64, ["batch", LENGTH]),
        "price": (float32, ["batch", 1]),
    }
    assert declared(model.graph.output) == {"score": (float32, ["batch", 1])}
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert set(said) == {"mews.fingerprint", "mews.tags"}
    assert said["mews.fingerprint"] == FINGERPRINT
    assert json.loads(said["mews.tags"])["user"] == ["categorical", "id", "user"]
    assert [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")] == [17]


def test_dlrm_looks_all_vectors_up_at_once(exported: Callable[[str], Path]) -> None:
    graph = onnx.load(exported("dlrm")).graph
    tables = {value.name for value in graph.initializer if len(value.dims) == 2}
    assert len([node for node in graph.node if node.op_type == "Gather" and node.input[0] in tables]) == 1
    assert not [node for node in graph.node if node.op_type in ("Squeeze", "Where", "NonZero")]


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    from training.config import ModelConfig
    from training.train import train

    from .conftest import SMALL, rows, write_split

    # Only plain columns are renamed here; the schema of `rows` knows them by their old names.
    for split in ("train", "valid"):
        folder = write_split(tmp_path / "features" / split, rows(300))
        schema = folder / ".merlin" / "schema.json"
        schema.write_text(schema.read_text().replace('"price"', '"prix (€)"'))
        for path in folder.glob("*.parquet"):
            _rename(path, {"price": "prix (€)"})
    done = train(tmp_path / "features", ModelConfig(epochs=1, **SMALL), tmp_path / "model")  # type: ignore[arg-type]
    to_onnx(done.folder, tmp_path / "model.onnx")
    assert "prix (€)" in {value.name for value in onnx.load(tmp_path / "model.onnx").graph.input}


def _rename(path: Path, names: dict[str, str]) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)


def test_a_folder_without_a_model_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"training\.json"):
        to_onnx(tmp_path / "nothing", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
