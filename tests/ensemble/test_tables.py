"""Towers as tables: equal to the whole within 1e-6, and nothing else changed."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble.graphs.external import save_graph
from ensemble.graphs.tables import tabulate
from etl.errors import ArtifactError

ITEMS, USERS, WIDTH = 300, 200, 8


def towers(*, together: bool = False, batch_norm: bool = False) -> onnx.ModelProto:
    """score = sigmoid(sum(user tower * item tower)); the item tower reads item, category, price and the batch's size.

    `together` joins the inputs first, so that nothing belongs to the item alone; `batch_norm` lets the item tower
    subtract the mean over the batch.
    """
    node, random = helper.make_node, np.random.default_rng(0)
    weights = {
        "items": random.normal(size=(ITEMS, WIDTH)),
        "categories": random.normal(size=(20, WIDTH)),
        "users": random.normal(size=(USERS, WIDTH)),
        "w1": random.normal(size=(2 * WIDTH + 1, 32)) / 4,
        "w2": random.normal(size=(32, WIDTH)) / 4,
    }
    item = "all" if together else "item_hidden"
    nodes = [
        node("Gather", ["items", "item"], ["i3"]),
        node("Gather", ["categories", "category"], ["c3"]),
        node("Squeeze", ["i3", "axis"], ["i"]),
        node("Squeeze", ["c3", "axis"], ["c"]),
        node("Concat", ["i", "c", "price"], ["item_x"], axis=1),
        *([node("Add", ["item_x", "age"], ["shifted"])] if together else []),
        node("MatMul", ["shifted" if together else "item_x", "w1"], ["item_h"]),
        node("Relu", ["item_h"], [item]),
        node("MatMul", [item, "w2"], ["item_vector"]),
        *(
            [node("ReduceMean", ["item_vector"], ["mean"], axes=[0]), node("Sub", ["item_vector", "mean"], ["vector"])]
            if batch_norm
            else [node("Identity", ["item_vector"], ["vector"])]
        ),
        node("Gather", ["users", "user"], ["u3"]),
        node("Squeeze", ["u3", "axis"], ["u"]),
        node("Mul", ["u", "age"], ["user_vector"]),
        node("Mul", ["user_vector", "vector"], ["products"]),
        node("ReduceSum", ["products", "axis"], ["logit"]),
        node("Shape", ["price"], ["size"]),  # follows from an item's feature, but is not one row an item
        node("Reshape", ["logit", "size"], ["reshaped"]),
        node("Sigmoid", ["reshaped"], ["score"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "towers",
        [
            *(info(name, TensorProto.INT64, ["batch", 1]) for name in ("user", "item", "category")),
            *(info(name, TensorProto.FLOAT, ["batch", 1]) for name in ("price", "age")),
        ],
        [info("score", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


RANDOM = np.random.default_rng(1)
FEATURES = {
    "item": np.arange(ITEMS).reshape(-1, 1),
    "category": RANDOM.integers(0, 20, (ITEMS, 1)),
    "price": RANDOM.normal(size=(ITEMS, 1)).astype(np.float32),
}
OTHERS = {
    "user": RANDOM.integers(0, USERS, (500, 1)),
    "age": RANDOM.normal(size=(500, 1)).astype(np.float32),
}


def run(model, feed):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feed)[0]


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_the_tower_is_one_look_up_and_the_scores_are_the_same(rows):
    whole = towers()
    made = tabulate(whole, "item", FEATURES, OTHERS)
    assert [value.name for value in made.graph.input] == ["user", "age", "item"]
    assert not [node for node in made.graph.node if node.op_type == "MatMul"]
    ids = np.random.default_rng(2).integers(0, ITEMS, (rows, 1))
    fed = {name: values[:rows] for name, values in OTHERS.items()}
    expected = run(whole, {**fed, **{name: values[ids[:, 0]] for name, values in FEATURES.items()}})
    np.testing.assert_allclose(run(made, {**fed, "item": ids}), expected, rtol=0, atol=1e-6)


def test_weights_of_the_tower_are_gone():
    made = tabulate(towers(), "item", FEATURES, OTHERS)
    names = {tensor.name for tensor in made.graph.initializer}
    assert {"users", "axis"} <= names
    assert not names & {"items", "categories", "w1", "w2"}


def test_the_entity_may_be_an_id_that_the_graph_does_not_read():
    made = tabulate(towers(), "row", FEATURES, OTHERS)
    assert [value.name for value in made.graph.input] == ["user", "age", "row"]
    ids = np.array([[3], [299]])
    fed = {name: values[:2] for name, values in OTHERS.items()}
    expected = run(towers(), {**fed, **{name: values[ids[:, 0]] for name, values in FEATURES.items()}})
    np.testing.assert_allclose(run(made, {**fed, "row": ids}), expected, rtol=0, atol=1e-6)


def test_what_depends_on_the_batch_is_not_put_into_a_table():
    """The mean over a batch is computed as before; what is before it is looked up."""
    whole = towers(batch_norm=True)
    made = tabulate(whole, "item", FEATURES, OTHERS)
    assert [node.op_type for node in made.graph.node if node.op_type in ("ReduceMean", "MatMul")] == ["ReduceMean"]
    ids = np.arange(40).reshape(-1, 1)
    fed = {name: values[:40] for name, values in OTHERS.items()}
    expected = run(whole, {**fed, **{name: values[ids[:, 0]] for name, values in FEATURES.items()}})
    np.testing.assert_allclose(run(made, {**fed, "item": ids}), expected, rtol=0, atol=1e-6)


def test_only_what_is_the_items_is_looked_up():
    made = tabulate(towers(together=True), "item", FEATURES, OTHERS)
    assert len([node for node in made.graph.node if node.op_type == "MatMul"]) == 2


def test_an_unknown_id_is_an_error():
    made = tabulate(towers(), "item", FEATURES, OTHERS)
    fed = {name: values[:1] for name, values in OTHERS.items()}
    with pytest.raises(Exception, match="out of"):
        run(made, {**fed, "item": np.array([[ITEMS]])})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"price": FEATURES["price"][:5]}, r"one row an id; received lengths \[5, 300\]"),
        ({"weight": FEATURES["price"]}, "inputs of the graph; received weight"),
    ],
)
def test_features_that_do_not_fit_are_refused(change, says):
    with pytest.raises(ArtifactError, match=says):
        tabulate(towers(), "item", {**FEATURES, **change}, OTHERS)


def test_missing_rows_of_the_other_inputs_are_named():
    with pytest.raises(ArtifactError, match="rows of the other inputs; expected age; received none"):
        tabulate(towers(), "item", FEATURES, {"user": OTHERS["user"]})


def test_nothing_to_look_up_is_said():
    with pytest.raises(ArtifactError, match="a node that reads only price; received none"):
        tabulate(
            towers(), "row", {"price": FEATURES["price"]}, {**OTHERS, **{k: FEATURES[k] for k in ("item", "category")}}
        )


def test_tables_beside_the_graph_are_refused(tmp_path):
    from ensemble.graphs.external import open_graph

    large = towers()
    table = next(tensor for tensor in large.graph.initializer if tensor.name == "users")
    table.CopyFrom(numpy_helper.from_array(np.zeros((20_000, WIDTH), np.float32), "users"))
    save_graph(large, tmp_path / "model.onnx", 0)
    with pytest.raises(ArtifactError, match="in the graph's own file; received beside it"):
        tabulate(open_graph(tmp_path / "model.onnx"), "item", FEATURES, OTHERS)
