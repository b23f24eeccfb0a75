"""Vocabularies as mapped tensors answer like LabelEncoder, for every key and for none."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble.graphs.external import open_graph, outside
from ensemble.graphs.vocabularies import map_vocabularies, save_features

NULL = -(2**63)
KEYS = {
    "random": np.unique(np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 20_000)),
    "in a row": np.arange(30_000),
    "far apart": np.arange(-5_000, 5_000) * 2**40,
    "with null": np.array([NULL, 2**63 - 1, 0, -1, 1]),
    "one": np.array([7]),
}


def graph(keys: np.ndarray, default: int = 2) -> onnx.ModelProto:
    values = np.random.default_rng(1).permutation(len(keys)).astype(np.int64) + 3
    node = helper.make_node(
        "LabelEncoder",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        keys_tensor=numpy_helper.from_array(np.random.default_rng(2).permutation(keys).astype(np.int64), "keys"),
        values_tensor=numpy_helper.from_array(values, "values"),
        default_tensor=numpy_helper.from_array(np.array([default], np.int64), "default"),
    )
    info = helper.make_tensor_value_info
    shape = ["batch", "width"]
    made = helper.make_graph([node], "g", [info("x", TensorProto.INT64, shape)], [info("y", TensorProto.INT64, shape)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 4)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def run(model, values):
    content = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": values})[0]


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("default", [2, -1])
def test_every_key_and_every_stranger_has_the_code_it_had(keys, default):
    model = graph(keys, default)
    mapped = map_vocabularies(model, smallest=1)
    strangers = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 1000)
    asked = np.concatenate([keys, strangers, keys[:1] + 1, [NULL, 2**63 - 1, 0, 1, -1]]).reshape(-1, 1)
    np.testing.assert_array_equal(run(mapped, asked), run(model, asked))
    assert "LabelEncoder" not in {node.op_type for node in mapped.graph.node}


@pytest.mark.parametrize("shape", [(0, 1), (1, 1), (3, 4), (2, 0)])
def test_lists_and_empty_batches_keep_their_shape(shape):
    model = graph(KEYS["in a row"])
    asked = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(run(map_vocabularies(model, smallest=1), asked), run(model, asked))


def test_small_vocabularies_stay_as_they_are():
    model = graph(KEYS["one"])
    assert map_vocabularies(model) is model


def test_text_stays_as_it_is(parts):
    mapped = map_vocabularies(parts.features_graph(), smallest=1)
    assert [node.op_type for node in mapped.graph.node].count("LabelEncoder") == 2


def test_saved_vocabularies_lie_beside_the_graph(tmp_path):
    model = graph(KEYS["in a row"])
    save_features(model, tmp_path / "workflow.onnx", "mapped", smallest=1)
    opened = open_graph(tmp_path / "workflow.onnx")
    assert {tensor.name for tensor in outside(opened)} == {"y/keys", "y/codes", "y/starts"}
    asked = np.arange(-5, 100).reshape(-1, 1)
    np.testing.assert_array_equal(run(str(tmp_path / "workflow.onnx"), asked), run(model, asked))
    save_features(model, tmp_path / "workflow.onnx", "inline")
    assert not (tmp_path / "workflow.onnx.data").exists()
