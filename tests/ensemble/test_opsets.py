"""Graphs of different operator sets become one graph, or are refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from ensemble.graphs.fuse import Link, join
from ensemble.graphs.opsets import opsets, same_opsets
from etl.errors import ArtifactError

info = helper.make_tensor_value_info


def model(node: onnx.NodeProto, kinds: tuple[int, int], opset: int, ml: int | None) -> onnx.ModelProto:
    graph = helper.make_graph([node], "g", [info("x", kinds[0], ["n", 1])], [info("y", kinds[1], ["n", 1])])
    domains = [helper.make_opsetid("", opset)] + ([] if ml is None else [helper.make_opsetid("ai.onnx.ml", ml)])
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def encoder(ml: int) -> onnx.ModelProto:
    keys = {"keys_int64s": [1, 2], "values_floats": [0.5, 1.5], "default_float": -1.0}
    old = {"classes_strings": ["a", "b"], "default_string": "z"}
    node = helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **(old if ml == 1 else keys))
    return model(node, (TensorProto.INT64, TensorProto.STRING if ml == 1 else TensorProto.FLOAT), 17, ml)


def scaler(opset: int, ml: int) -> onnx.ModelProto:
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0])
    return model(node, (TensorProto.FLOAT, TensorProto.FLOAT), opset, ml)


@pytest.mark.parametrize(("opset", "ml"), [(17, 1), (11, 1), (17, 3), (19, 4)])
def test_operators_of_an_older_domain_run_in_the_newer_one(opset, ml):
    before = scaler(opset, ml).SerializeToString()
    second = onnx.ModelProto.FromString(before)
    joined = join((Link("a", encoder(4), {"x": "x"}), Link("b", second, {"x": "a/y"})), {"score": "b/y"})
    assert opsets(joined) == {"": max(17, opset), "ai.onnx.ml": 4}
    assert second.SerializeToString() == before, "what was given is left as it is"
    session = ort.InferenceSession(joined.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([[1], [7]])})[0].tolist() == [[-1.0], [-4.0]]


def test_an_operator_that_has_changed_is_refused():
    with pytest.raises(ArtifactError, match=r"expected ai\.onnx\.ml 4 in all of them; received ai\.onnx\.ml 1"):
        same_opsets([encoder(4), encoder(1)])
