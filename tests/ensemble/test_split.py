"""Models cut into sub-networks: where, and that they answer as the whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export_plan
from ensemble.export.plan import Piece, Plan
from ensemble.graphs.external import open_graph, save_graph
from ensemble.graphs.fuse import join
from ensemble.graphs.split import cut, cuts_of
from ensemble.manifest import load
from ensemble.pbtxt import parse
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from etl.errors import ArtifactError

node, info = helper.make_node, helper.make_tensor_value_info
CODES, NUMBERS = ("user_id", "country", "item_id", "brand"), ("age", "price")


def weights(**shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    random = np.random.default_rng(1)
    made = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return [numpy_helper.from_array(value, name) for name, value in made.items()]


def model_of(nodes, inputs, outputs, constants, **tags: list[str]) -> onnx.ModelProto:
    kinds = {name: TensorProto.INT64 if name in CODES else TensorProto.FLOAT for name in inputs}
    graph = helper.make_graph(
        nodes,
        "model",
        [info(name, kind, ["n", 1]) for name, kind in kinds.items()],
        [info(name, TensorProto.FLOAT, ["n", width]) for name, width in outputs.items()],
        [*constants, numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if tags:
        helper.set_model_props(model, {"mews.tags": json.dumps(tags)})
    return model


def embedded(names) -> list[onnx.NodeProto]:
    gathers = [node("Gather", [f"table_{name}", name], [f"row_{name}"], axis=0) for name in names]
    return gathers + [node("Squeeze", [f"row_{name}", "axis"], [f"vector_{name}"]) for name in names]


def dlrm() -> onnx.ModelProto:
    """Embeddings of codes, a layer for numbers, and what reads both."""
    nodes = [
        *embedded(CODES),
        node("Concat", NUMBERS, ["numbers"], axis=1),
        node("MatMul", ["numbers", "below"], ["product"]),
        node("Relu", ["product"], ["bottom"]),
        node("Unsqueeze", ["bottom", "axis"], ["bottom_row"]),
        node("Concat", [*(f"row_{name}" for name in CODES), "bottom_row"], ["rows"], axis=1),
        node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["rows", "turned"], ["dots"]),
        node("Flatten", ["dots"], ["flat"]),
        node("Concat", ["flat", "bottom"], ["x"], axis=1),
        node("MatMul", ["x", "above"], ["y"]),
        node("Sigmoid", ["y"], ["score"]),
    ]
    tables = {f"table_{name}": (12, 4) for name in CODES}
    return model_of(nodes, (*CODES, *NUMBERS), {"score": 1}, weights(**tables, below=(2, 4), above=(29, 1)))


def two_towers(inputs=("user_id", "age", "item_id", "price"), **tags: list[str]) -> onnx.ModelProto:
    """A layer over codes and numbers of each side, and their dot product."""
    sides = {"a": inputs[:2], "b": inputs[2:]}
    nodes = embedded([name for name in inputs if name in CODES])
    for side, names in sides.items():
        parts = [f"vector_{name}" if name in CODES else name for name in names]
        nodes += [
            node("Concat", parts, [f"{side}_x"], axis=1),
            node("MatMul", [f"{side}_x", f"{side}_weights"], [f"{side}_y"]),
            node("Relu", [f"{side}_y"], [f"{side}_tower"]),
            node("Unsqueeze", [f"{side}_tower", "axis"], [f"{side}_row"]),
        ]
    nodes += [
        node("Mul", ["a_row", "b_row"], ["product"]),
        node("Squeeze", ["product", "axis"], ["products"]),
        node("ReduceSum", ["products", "axis"], ["dot"], keepdims=1),
        node("Sigmoid", ["dot"], ["score"]),
    ]
    tables = {f"table_{name}": (12, 4) for name in inputs if name in CODES}
    constants = weights(**tables, a_weights=(5, 3), b_weights=(5, 3))
    return model_of(nodes, inputs, {"score": 1}, constants, **tags)


def rows(model: onnx.ModelProto, count: int = 64) -> dict[str, np.ndarray]:
    random = np.random.default_rng(2)
    return {
        value.name: random.integers(0, 12, (count, 1))
        if value.type.tensor_type.elem_type == TensorProto.INT64
        else random.normal(size=(count, 1)).astype(np.float32)
        for value in model.graph.input
    }


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def parts_of(model: onnx.ModelProto, cuts) -> dict[str, tuple[list[str], list[str]]]:
    """Inputs and outputs by role, after checking that the parts together answer exactly as the whole."""
    links, outputs = cut(model, cuts)
    feed = rows(model)
    values = dict(feed)
    for link in links:
        made = run(link.model, {name: values[source] for name, source in link.wiring.items()})
        values |= {f"{link.role}/{name}": value for name, value in made.items()}
    for name, value in run(model, feed).items():
        np.testing.assert_array_equal(values[outputs[name]], value)
        np.testing.assert_array_equal(run(join(links, outputs), feed)[name], value)
    return {
        link.role: ([v.name for v in link.model.graph.input], [v.name for v in link.model.graph.output])
        for link in links
    }


def test_dlrm_is_cut_into_embeddings_bottom_and_top():
    found = parts_of(dlrm(), cuts_of(dlrm()))
    assert list(found) == ["embeddings", "bottom", "top"]
    assert found["embeddings"] == (list(CODES), [f"row_{name}" for name in CODES])
    assert found["bottom"] == (list(NUMBERS), ["bottom"])
    assert sorted(found["top"][0]) == sorted(["bottom", *(f"row_{name}" for name in CODES)])


def test_weights_are_in_one_part_only():
    links, _ = cut(dlrm(), cuts_of(dlrm()))
    held = {link.role: {tensor.name for tensor in link.model.graph.initializer} for link in links}
    assert held["embeddings"] == {f"table_{name}" for name in CODES}
    assert {"below"} <= held["bottom"]
    assert "above" in held["top"]
    assert not held["top"] & (held["embeddings"] | {"below"})


@pytest.mark.parametrize(
    ("model", "towers"),
    [
        (two_towers(), ("user", "item")),
        (two_towers(("item_id", "price", "user_id", "age")), ("item", "user")),
        (two_towers(("country", "age", "brand", "price")), ("left", "right")),
        (
            two_towers(
                ("country", "age", "brand", "price"),
                country=["categorical", "item"],
                age=["continuous"],
                brand=["user_id"],
                price=["user"],
            ),
            ("item", "user"),
        ),
    ],
)
def test_two_towers_are_named_by_tags_and_else_by_the_names_of_their_inputs(model, towers):
    found = parts_of(model, cuts_of(model))
    assert list(found) == [*towers, "top"]
    assert found[towers[0]][1] == ["a_tower"]
    assert found["top"] == (["a_tower", "b_tower"], ["score"])


def test_a_model_is_cut_at_tensors_that_are_named():
    found = parts_of(dlrm(), cuts_of(dlrm(), {"lower": ["rows"], "middle": ["flat"]}))
    assert found["lower"][1] == ["rows"]
    assert found["middle"] == (["rows"], ["flat"])
    assert found["top"] == (["flat", "age", "price"], ["score"]), "the bottom layer is in both parts that read it"


def test_a_model_is_cut_by_the_inputs_that_a_part_alone_reads():
    found = parts_of(dlrm(), cuts_of(dlrm(), {"user": ["user_id", "country"], "item": ["item_id"]}))
    assert found["user"] == (["user_id", "country"], ["row_user_id", "row_country"])
    assert found["item"] == (["item_id"], ["row_item_id"])
    assert "brand" in found["top"][0]


def test_an_output_that_a_part_makes_is_the_whole_model_s():
    model = two_towers()
    model.graph.output.append(info("a_tower", TensorProto.FLOAT, ["n", 3]))
    links, outputs = cut(model, cuts_of(model))
    assert outputs == {"score": "top/score", "a_tower": "user/a_tower"}
    assert [value.name for value in links[-1].model.graph.output] == ["score"]
    parts_of(model, cuts_of(model))


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ({"a": ["nowhere"]}, "received nowhere"),
        ({"a": ["user_id", "rows"]}, "received user_id"),
        ({"a": ["rows"], "b": ["rows"]}, "role 'b' .*received rows"),
        ({"a": []}, "received none"),
    ],
)
def test_what_the_model_does_not_make_is_refused(cuts, message):
    with pytest.raises(ArtifactError, match=message):
        cut(dlrm(), cuts)


def test_a_tensor_that_is_not_of_the_batch_is_refused():
    model = dlrm()
    model.graph.node.insert(0, node("Relu", ["above"], ["constant"]))
    with pytest.raises(ArtifactError, match="expected one row for each row; received always 29"):
        cut(model, {"a": ["constant"]})


def test_a_table_that_lies_beside_its_graph_goes_where_it_is_read(tmp_path):
    model = dlrm()
    for tensor in model.graph.initializer:
        if tensor.name == "table_user_id":
            tensor.CopyFrom(numpy_helper.from_array(np.ones((20_000, 4), np.float32), tensor.name))
    save_graph(model, tmp_path / "model.onnx", threshold_bytes=0)
    links, _ = cut(open_graph(tmp_path / "model.onnx"), cuts_of(model))
    sizes = {}
    for link in links:
        (tmp_path / link.role).mkdir()
        save_graph(link.model, tmp_path / link.role / "model.onnx")
        beside = tmp_path / link.role / "model.onnx.data"
        sizes[link.role] = beside.stat().st_size if beside.exists() else 0
        ort.InferenceSession(tmp_path / link.role / "model.onnx", providers=["CPUExecutionProvider"])
    assert sizes == {"embeddings": 20_000 * 4 * 4, "bottom": 0, "top": 0}


def plan_of(parts, folder: Path) -> Plan:
    raw = {spec.name: spec.name for spec in parts.schema.tensors}
    onnx.save(parts.model_graph(), folder / "model.onnx")
    names = ("user", "item", "price", "tags", "active")
    model = Piece("model", folder / "model.onnx", {name: f"features/{name}__out" for name in names})
    return Plan((Piece("features", parts.workflow, raw), model), {"score": "model/score"}, "f" * 64)


def test_triton_scores_with_the_parts_as_with_the_whole(parts, tmp_path):
    """The embeddings are three instances of their own; what reads them is another model."""
    config = ExportConfig.model_validate(
        {"name": "cut", "shape": "split", "max_batch_size": 16, "placement": {"embeddings": {"instances": 3}}}
    )
    repository = tmp_path / "models"
    exported = export_plan(plan_of(parts, tmp_path), repository, config, parts.schema, {}, parts.rows(8))
    assert exported.models == ("cut_features_1", "cut_embeddings_1", "cut_top_1")
    assert load(exported.folder).shape == "split"
    spec = parse((repository / "cut_embeddings_1" / "config.pbtxt").read_text())
    assert spec.instances[0].count == 3
    rows = parts.rows(40, seed=3)
    with TritonServer(repository, models=["cut"]) as server, Client(server.http_url, "cut") as client:
        np.testing.assert_allclose(client.predict(rows), parts.scores(encode(rows, parts.schema)), rtol=0, atol=1e-6)


def test_what_cannot_be_cut_is_said(parts, tmp_path):
    for split, message in (
        ({"user": ["usr"]}, "expected a model with usr"),
        ({"user": ["vectors_user"], "top": ["sum_item"]}, "cannot be split"),
    ):
        config = ExportConfig.model_validate({"shape": "split", "split": split})
        with pytest.raises(ArtifactError, match=message):
            export_plan(plan_of(parts, tmp_path), tmp_path / "models", config, parts.schema, {}, parts.rows(8))
