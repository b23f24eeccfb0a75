"""A model whose tables are too large for one file is written with them beside it, and is the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from etl.graph import Column
from training.export import large
from training.export.onnx import keras_to_onnx, random_rows
from training.tensorflow import quiet, tensorflow


@pytest.fixture
def model():
    keras = tensorflow().keras
    with quiet():
        return _model(keras)


def _model(keras):
    user = keras.Input((1,), name="user", dtype="int64")
    vectors = keras.layers.Flatten()(keras.layers.Embedding(20_000, 8)(user))
    return keras.Model({"user": user}, keras.layers.Dense(1, activation="sigmoid")(vectors))


@pytest.mark.parametrize("threshold", [1 << 30, 1000])
def test_tables_over_the_threshold_lie_beside_the_graph(model, tmp_path: Path, monkeypatch, threshold: int) -> None:
    monkeypatch.setattr(large.convert, "__defaults__", (threshold,))
    columns = [Column("user", "int64", cardinality=20_000)]
    keras_to_onnx(model, columns, tmp_path / "model.onnx", "f" * 64)
    beside = tmp_path / "model.onnx.data"
    assert beside.exists() == (threshold == 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", *(["model.onnx.data"] * beside.exists())]
    if beside.exists():
        assert beside.stat().st_size == 20_000 * 8 * 4
        assert (tmp_path / "model.onnx").stat().st_size < 4096
    rows = random_rows(columns, 100)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, rows)[0], model(rows), atol=1e-6)
    assert onnx.load(tmp_path / "model.onnx", load_external_data=False).metadata_props[0].value == "f" * 64
