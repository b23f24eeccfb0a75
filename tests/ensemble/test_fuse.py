import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from ensemble.graphs.fuse import fingerprint, fuse, optimise
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.requests.encode import encode
from etl.errors import ArtifactError

WIRING = {name: f"{name}__out" for name in ("user", "item", "price", "tags", "active")}


@pytest.fixture(params=[(17, 17), (19, 17), (17, 19)], ids=str)
def fused(request, parts):
    """Also when one opset is newer than the other."""
    features, model = request.param
    return fuse(parts.features_graph(opset=features), parts.model_graph(opset=model), WIRING)


@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_one_graph_answers_like_the_two(parts, fused, optimised, seed):
    graph = optimise(fused) if optimised else fused
    tensors = encode(parts.rows(64, seed), parts.schema)
    got = OnnxFile(parts.workflow, graph).run(tensors, ("score",))["score"].reshape(-1)
    np.testing.assert_allclose(got, parts.scores(tensors), rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimised", [False, True])
def test_inputs_output_and_metadata_stay(fused, optimised):
    graph = optimise(fused) if optimised else fused
    assert [value.name for value in graph.graph.input] == ["user", "item", "price", "tags", "tags__length", "active"]
    assert [value.name for value in graph.graph.output] == ["score"]
    assert fingerprint(graph) == "f" * 64
    onnx.checker.check_model(graph, full_check=True)


def test_features_that_the_model_does_not_read_are_not_computed(fused):
    assert not [node for node in fused.graph.node if "features/extra" in node.output]


def test_the_optimised_graph_is_smaller_and_names_no_runtime(parts):
    features = parts.features_graph()
    features.graph.node.insert(0, helper.make_node("Mul", ["one", "one"], ["uno"]))
    next(node for node in features.graph.node if node.output[0] == "x").input[1] = "uno"
    fused = fuse(features, parts.model_graph(), WIRING)
    graph = optimise(fused)
    assert len(graph.graph.node) < len(fused.graph.node)
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx.ml"}
    assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx.ml"}


def test_an_output_with_the_name_of_a_raw_column_is_refused(parts):
    model = parts.model_graph()
    model.graph.output[0].name = "price"
    with pytest.raises(ArtifactError, match="different names; received price"):
        fuse(parts.features_graph(), model, WIRING)


def test_subgraphs_keep_reading_raw_columns():
    info = helper.make_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Mul", ["a", factor], [f"{name}_y"])],
            name,
            [],
            [info(f"{name}_y", TensorProto.FLOAT, None)],
        )
        for name, factor in (("then", "two"), ("else", "three"))
    }
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["f"], **branches)],
        "features",
        [info("a", TensorProto.FLOAT, ["batch", 1])],
        [info("f", TensorProto.FLOAT, ["batch", 1])],
        [
            helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
            helper.make_tensor("three", TensorProto.FLOAT, [], [3.0]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )
    scorer = helper.make_graph(
        [helper.make_node("Neg", ["f"], ["score"])],
        "model",
        [info("f", TensorProto.FLOAT, ["batch", 1])],
        [info("score", TensorProto.FLOAT, ["batch", 1])],
    )
    opset = [helper.make_opsetid("", 17)]
    models = [helper.make_model(each, opset_imports=opset, ir_version=8) for each in (graph, scorer)]
    joined = fuse(*models, {"f": "f"})
    session = ort.InferenceSession(joined.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"a": np.array([[1.5]], dtype=np.float32)})[0].tolist() == [[-3.0]]
