"""Variants of a model's graph: close to the original, smaller, refused when they lose too much."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble.graphs.accuracy import accuracy, change, refuse_if_over, scores
from ensemble.graphs.external import open_graph, outside, save_graph
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.graphs.variants import PRECISIONS, variant
from etl.errors import ArtifactError, MewsError

USERS, LENGTH, WIDTH = 5000, 4, 16

# Largest change of a score; what is smaller is smaller by this factor at least.
LIMITS = {"float32": 0, "float16": 5e-3, "float16_tables": 1e-3, "int8": 0.1, "int8_static": 0.15, "int8_tables": 0.01}
LIMITS["extended"] = 1e-6
SMALLER = {"float16": 1.8, "float16_tables": 1.7, "int8": 3, "int8_static": 3, "int8_tables": 2.3}


def graph(tables_scale: float = 1.0) -> onnx.ModelProto:
    """Two tables, a list that is summed, a number, two layers; the count of the list's codes is made of integers."""
    node, random = helper.make_node, np.random.default_rng(0)
    weights = {
        "user_table": random.normal(size=(USERS, WIDTH)) * tables_scale,
        "tag_table": random.normal(size=(500, WIDTH)),
        "w1": random.normal(size=(2 * WIDTH + 2, 64)) / 8,
        "b1": random.normal(size=64),
        "w2": random.normal(size=(64, 1)) / 8,
        "one": np.array(1.0),
    }
    nodes = [
        node("Gather", ["user_table", "user"], ["u"]),
        node("Gather", ["tag_table", "tags"], ["t"]),
        node("ReduceSum", ["u", "axis"], ["us"], keepdims=0),
        node("ReduceSum", ["t", "axis"], ["ts"], keepdims=0),
        node("Cast", ["user"], ["as_float"], to=TensorProto.FLOAT),
        node("Min", ["as_float", "one"], ["known"]),
        node("Concat", ["us", "ts", "price", "known"], ["x"], axis=1),
        node("MatMul", ["x", "w1"], ["h"]),
        node("Add", ["h", "b1"], ["hb"]),
        node("Relu", ["hb"], ["r"]),
        node("MatMul", ["r", "w2"], ["logit"]),
        node("Sigmoid", ["logit"], ["score"]),
    ]
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "model",
        [
            info("user", TensorProto.INT64, ["batch", 1]),
            info("tags", TensorProto.INT64, ["batch", LENGTH]),
            info("price", TensorProto.FLOAT, ["batch", 1]),
        ],
        [info("score", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            *(numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"mews.fingerprint": "f" * 64})
    return model


def rows(count: int = 3000, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "user": random.integers(0, USERS, (count, 1)),
        "tags": random.integers(0, 500, (count, LENGTH)),
        "price": random.normal(size=(count, 1)).astype(np.float32),
    }


@pytest.fixture
def model(tmp_path):
    onnx.save(graph(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def labels(model):
    """Drawn by the model's own scores, so that AUC means something."""
    return (np.random.default_rng(2).random(3000) < scores(model, rows())).astype(np.int8)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_variant_keeps_to_its_limit(model, labels, precision):
    made = variant(model, precision, rows(512, seed=3))
    found = change(labels, scores(model, rows()), scores(made, rows()))
    assert found.largest_change <= LIMITS[precision]
    assert abs(found.auc_drop) < 0.01
    assert model.stat().st_size / made.stat().st_size >= SMALLER.get(precision, 0.9)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inputs_outputs_and_metadata_stay(model, precision):
    before, after = OnnxFile.open(model), OnnxFile.open(variant(model, precision, rows(64)))
    assert (after.inputs, after.outputs, after.fingerprint) == (before.inputs, before.outputs, before.fingerprint)
    assert {prop.key for prop in after.model.metadata_props} == {"mews.fingerprint"}


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p not in ("extended", "float32")])
def test_variants_are_written_with_onnx_operators_alone(model, precision):
    assert {node.domain for node in onnx.load(variant(model, precision, rows(64))).graph.node} <= {"", "ai.onnx"}


@pytest.mark.parametrize("precision", ["float16", "int8", "int8_static"])
def test_codes_beyond_a_float16_stay_codes(model, precision):
    """65,520 and more would be infinite in a float16."""
    big = graph()
    table = next(t for t in big.graph.initializer if t.name == "user_table")
    table.CopyFrom(numpy_helper.from_array(np.zeros((100_000, WIDTH), np.float32), "user_table"))
    onnx.save(big, model)
    fed = {**rows(64), "user": np.full((64, 1), 99_999)}
    made = scores(variant(model, precision, rows(64)), fed)
    assert np.abs(made - scores(model, fed)).max() <= LIMITS[precision]


def test_a_row_of_large_values_does_not_coarsen_the_others(model):
    """Each row of an int8 table has a scale of its own."""
    loud = graph()
    table = next(t for t in loud.graph.initializer if t.name == "user_table")
    values = numpy_helper.to_array(table).copy()
    values[0] *= 1000
    table.CopyFrom(numpy_helper.from_array(values, "user_table"))
    onnx.save(loud, model)
    fed = rows()
    fed["user"][fed["user"] == 0] = 1
    made = variant(model, "int8_tables", {})
    assert np.abs(scores(made, fed) - scores(model, fed)).max() <= LIMITS["int8_tables"]


@pytest.mark.parametrize("precision", ["float16_tables", "int8_tables"])
def test_tables_beside_the_graph_are_changed_one_by_one(model, tmp_path, precision):
    (tmp_path / "large").mkdir()
    save_graph(graph(), tmp_path / "large" / "model.onnx", 0)
    made = variant(tmp_path / "large" / "model.onnx", precision, {})
    assert outside(open_graph(made))
    assert np.abs(scores(made, rows()) - scores(model, rows())).max() <= LIMITS[precision]


def test_other_precisions_of_such_a_graph_are_refused(tmp_path):
    save_graph(graph(), tmp_path / "model.onnx", 0)
    with pytest.raises(ArtifactError, match=r"tables beside it\. float16_tables and int8_tables take such a graph"):
        variant(tmp_path / "model.onnx", "float16", {})


def test_a_table_that_something_else_reads_stays(model, tmp_path):
    shared = graph()
    shared.graph.node.insert(0, helper.make_node("Shape", ["user_table"], ["unused"]))
    shared.graph.node.insert(0, helper.make_node("Shape", ["tag_table"], ["unused2"]))
    onnx.save(shared, model)
    with pytest.raises(ArtifactError, match="at least one float32 table"):
        variant(model, "int8_tables", {})


def test_static_ranges_need_rows(model):
    with pytest.raises(ArtifactError, match="rows to find the ranges of values with; received none"):
        variant(model, "int8_static", {})


def test_a_variant_that_loses_more_than_the_limit_is_refused_with_the_figures(model, labels):
    found = change(labels, scores(model, rows()), np.random.default_rng(5).random(3000).astype(np.float32))
    with pytest.raises(MewsError, match=r"as int8; expected an AUC at most 0.001 below 0\.\d+; received 0\.\d+, with"):
        refuse_if_over("int8", found, 0.001)
    refuse_if_over("int8", found, 0.6)


def test_scores_that_are_not_numbers_are_refused(labels):
    with pytest.raises(MewsError, match="changed by up to nan"):
        refuse_if_over("float16", change(labels, np.zeros(3000), np.full(3000, np.nan)), 1)


def test_accuracy_is_that_of_scikit_learn(labels):
    from sklearn.metrics import log_loss, roc_auc_score

    scored = np.round(np.random.default_rng(4).random(3000), 2).astype(np.float32)  # with ties
    found = accuracy(labels, scored)
    assert found.auc == pytest.approx(roc_auc_score(labels, scored), abs=1e-12)
    clipped = np.clip(scored.astype(np.float64), 1e-7, 1 - 1e-7)
    assert found.logloss == pytest.approx(log_loss(labels, clipped), abs=1e-9)


def test_scores_do_not_depend_on_the_batch_but_for_int8(model):
    """Why int8_static is there: int8 takes its ranges from whatever is in the batch."""
    static = variant(model, "int8_static", rows(512, seed=3))
    np.testing.assert_allclose(scores(static, rows(), 7), scores(static, rows(), 1024), rtol=0, atol=1e-6)
    dynamic = variant(model, "int8", {})
    assert np.abs(scores(dynamic, rows(), 7) - scores(dynamic, rows(), 1024)).max() > 1e-6


def test_the_machine_of_an_extended_graph_is_said(model):
    assert onnx.load(variant(model, "extended", {})).doc_string.startswith(f"For ONNX Runtime {ort.__version__}")
