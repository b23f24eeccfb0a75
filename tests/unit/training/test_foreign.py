"""Models that Mews did not train, as ONNX: Keras in memory, SavedModel folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from etl.errors import ArtifactError, ConfigError
from etl.graph import Column
from training.export.foreign import network as read_network
from training.export.onnx import keras_to_onnx, network_to_onnx, random_rows
from training.tensorflow import quiet, tensorflow

COLUMNS = (
    Column("user", "int64", tags=("categorical",), cardinality=40),
    Column("words", "int64", is_list=True, length=3, tags=("categorical",), cardinality=9),
    Column("price", "float64", tags=("continuous",)),
    Column("unused", "float32", tags=("continuous",)),
)


def network(outputs: int = 1, width: int = 1) -> Any:
    """Return a functional Keras model of user, words and price, with shapes and types of its own."""
    keras = tensorflow().keras
    keras.utils.set_random_seed(3)
    inputs = {
        "user": keras.Input((1,), name="user", dtype="int64"),
        "words": keras.Input((3,), name="words", dtype="int64"),
        "price": keras.Input((), name="price", dtype="float32"),
    }
    with quiet():
        users = keras.layers.Flatten()(keras.layers.Embedding(40, 4)(inputs["user"]))
        words = keras.layers.Flatten()(keras.layers.Embedding(9, 4)(inputs["words"]))
        joined = keras.layers.Concatenate()([users, words, keras.layers.Reshape((1,))(inputs["price"])])
        made = [keras.layers.Dense(width, activation="sigmoid")(joined) for _ in range(outputs)]
    return keras.Model(inputs, made if outputs > 1 else made[0])


def scores(path: Path, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Run the ONNX file on those of `rows` that it reads."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["score"], {value.name: rows[value.name] for value in session.get_inputs()})
    return np.asarray(found)


def test_a_keras_model_in_memory_and_its_saved_model_give_the_same_scores_in_onnx(tmp_path: Path) -> None:
    model, rows = network(), random_rows(COLUMNS, 50, seed=8)
    with quiet():
        model.save(tmp_path / "saved")
        wanted = model({name: rows[name] for name in ("user", "words")} | {"price": rows["price"][:, 0]}).numpy()
    for source in (model, tmp_path / "saved", str(tmp_path / "saved")):
        keras_to_onnx(source, COLUMNS, tmp_path / "model.onnx", "f" * 64)
        np.testing.assert_allclose(scores(tmp_path / "model.onnx", rows), wanted, rtol=0, atol=1e-6)
        proto = onnx.load(tmp_path / "model.onnx")
        shapes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*proto.graph.input, *proto.graph.output)
        }
        assert shapes == {"user": ["batch", 1], "words": ["batch", 3], "price": ["batch", 1], "score": ["batch", 1]}
        types = {value.name: value.type.tensor_type.elem_type for value in proto.graph.input}
        assert types["price"] == onnx.TensorProto.DOUBLE, "as the features have it; the model's own cast is inside"
        assert {prop.key: prop.value for prop in proto.metadata_props}["mews.fingerprint"] == "f" * 64


def test_what_a_model_cannot_be_given_or_does_not_give_is_named(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with pytest.raises(ConfigError, match=r"the model reads words; expected columns of the features: user, price"):
        keras_to_onnx(network(), [COLUMNS[0], COLUMNS[2]], target, "")
    ragged = Column("words", "int64", is_list=True, cardinality=9)
    with pytest.raises(ConfigError, match=r"lists words.*ListSlice"):
        keras_to_onnx(network(), [COLUMNS[0], ragged, COLUMNS[2]], target, "")
    for model in (network(outputs=2), network(width=2)):
        with pytest.raises(ConfigError, match="one number a row"):
            keras_to_onnx(model, COLUMNS, target, "")
    clash = (*COLUMNS, Column("score", "float32"))
    with pytest.raises(ConfigError, match=r"column 'score'; expected another name"):
        keras_to_onnx(lambda columns, training: columns["score"], clash, target, "")
    with pytest.raises(ArtifactError, match=r"saved_model\.pb"):
        keras_to_onnx(tmp_path / "nothing", COLUMNS, target, "")
    with pytest.raises(ConfigError, match="a Keras model"):
        keras_to_onnx(7, COLUMNS, target, "")
    assert not target.exists()


def test_a_model_with_several_outputs_and_vectors_keeps_them_all(tmp_path: Path) -> None:
    rows = random_rows(COLUMNS, 20, seed=2)
    model = network(outputs=2, width=5)
    read = read_network(model, COLUMNS)
    assert {column.name for column in read.columns} == {"user", "words", "price"}
    assert [(column.is_list, column.length) for column in read.made] == [(True, 5), (True, 5)]
    network_to_onnx(read, tmp_path / "model.onnx", "f" * 64)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert tuple(value.name for value in session.get_outputs()) == read.names
    found = session.run(list(read.names), {value.name: rows[value.name] for value in session.get_inputs()})
    with quiet():
        wanted = model({name: rows[name] for name in ("user", "words")} | {"price": rows["price"][:, 0]})
    for answer, values in zip(found, wanted, strict=True):
        np.testing.assert_allclose(answer, values.numpy(), rtol=0, atol=1e-6)


def test_a_single_output_takes_the_name_that_is_given() -> None:
    assert read_network(network(), COLUMNS, ["click"]).names == ("click",)


def test_a_saved_model_of_ragged_lists_is_refused_with_the_reason() -> None:
    tf = tensorflow()

    class Ragged(tf.Module):  # type: ignore[misc, name-defined]
        input_names = ("words__values", "words__offsets")
        inputs = (None, None)

        def __call__(self, columns: Any, training: bool) -> Any:
            return columns

    with pytest.raises(ConfigError, match="saved for lists of any length"):
        read_network(Ragged(), COLUMNS)
