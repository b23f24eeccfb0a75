"""Plans of several graphs and outputs, in every shape, answered by a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest
from onnx import TensorProto, helper

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export_plan
from ensemble.export.plan import Piece, Plan
from ensemble.manifest import load
from ensemble.pbtxt import parse
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestColumn, RequestSchema, TensorSpec
from ensemble.verification import check_version as verify
from etl.errors import ArtifactError, ConfigError

CLICK = {name: f"features/{name}__out" for name in ("user", "item", "price", "tags", "active")}
SECOND = {"click": "click/score", "price": "features/price__out", "weight": "weight"}
OUTPUTS = {"score": "click/score", "value": "second/value", "rank": "second/rank"}
SHAPES = {
    "chained": {},
    "fused": {"shape": "fused"},
    "split": {"shape": "split", "split": {"users": ["user"], "words": ["item", "tags"]}},
    "packed": {"signature": "packed"},
    "packed_fused": {"shape": "fused", "signature": "packed"},
}


APART = RequestSchema((RequestColumn("left", "float32"), RequestColumn("right", "float32")))
X, Y = [("x", ["n", 1])], [("y", ["n", 1])]


def second_graph() -> onnx.ModelProto:
    """On a feature, another model's answer and a raw column: `value` [batch, 2] and `rank` int64 [batch, 1]."""
    node, info = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Cast", ["weight"], ["narrow"], to=TensorProto.FLOAT),
        node("Mul", ["click", "narrow"], ["weighted"]),
        node("Concat", ["weighted", "price"], ["value"], axis=1),
        node("ArgMax", ["value"], ["rank"], axis=1, keepdims=1),
    ]
    inputs = [
        info(name, kind, ["n", 1])
        for name, kind in (("click", TensorProto.FLOAT), ("price", TensorProto.FLOAT), ("weight", TensorProto.DOUBLE))
    ]
    outputs = [info("value", TensorProto.FLOAT, ["n", 2]), info("rank", TensorProto.INT64, ["n", 1])]
    graph = helper.make_graph(nodes, "second", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def plan(parts, tmp_path_factory) -> Plan:
    second = tmp_path_factory.mktemp("plan") / "second.onnx"
    onnx.save(second_graph(), second)
    raw = {spec.name: spec.name for spec in parts.schema.tensors}
    pieces = (
        Piece("features", parts.workflow, raw),
        Piece("click", parts.model, CLICK),
        Piece("second", second, SECOND),
    )
    return Plan(pieces, OUTPUTS, "f" * 64, {"source": "a test"})


def written(plan: Plan, parts, repository: Path, name: str = "shop", **settings):
    config = ExportConfig.model_validate({"name": name, "max_batch_size": 8, "warmup_rows": 2, **settings})
    return export_plan(plan, repository, config, schema(parts), {}, given(parts, 8))


def schema(parts) -> RequestSchema:
    return RequestSchema((*parts.schema.columns, RequestColumn("weight", "float64")))


def given(parts, count: int, seed: int = 0) -> pl.DataFrame:
    return parts.rows(count, seed).with_columns(weight=pl.int_range(count).cast(pl.Float64) / 3)


@pytest.fixture(scope="module")
def repository(plan, parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "models"
    for name, settings in SHAPES.items():
        written(plan, parts, folder, name, **settings)
    apart = tmp_path_factory.mktemp("apart")
    pieces = [
        Piece(name, saved(apart, [helper.make_node("Neg", ["x"], ["y"])], X, Y, f"{name}.onnx"), {"x": name})
        for name in APART.names
    ]
    rows = pl.DataFrame({"left": [1.0], "right": [2.0]}, schema={"left": pl.Float32, "right": pl.Float32})
    both = Plan(tuple(pieces), {"a": "left/y", "b": "right/y"}, "")
    export_plan(both, folder, ExportConfig(name="apart"), APART, {}, rows)
    return folder


@pytest.fixture(scope="module")
def server(repository) -> Iterator[TritonServer]:
    with TritonServer(repository, models=[*SHAPES, "apart"]) as running:
        yield running


def wanted(parts, rows) -> dict[str, np.ndarray]:
    """By hand: the score from the fixtures' graphs, the second model's answers in NumPy."""
    score = parts.scores(encode(rows.drop("weight"), parts.schema))
    price = np.log1p(np.nan_to_num(rows["price"].fill_null(np.nan).to_numpy()))
    value = np.stack([score * rows["weight"].to_numpy(), price], axis=1).astype(np.float32)
    return {"score": score.reshape(-1, 1), "value": value, "rank": value.argmax(1).reshape(-1, 1)}


@pytest.mark.parametrize("name", list(SHAPES))
def test_triton_answers_every_output_alike_in_every_shape(server, parts, name):
    rows = given(parts, 8, seed=5)
    with Client(server.http_url, name) as client:
        tensors = encode(rows, client.metadata().request)
        for output, values in wanted(parts, rows).items():
            found = client.infer(tensors, output)  # one output alone, for which Triton leaves steps out
            assert found.dtype == values.dtype
            np.testing.assert_allclose(found, values, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("output", "value"), [("a", -1.0), ("b", -2.0)])
def test_one_of_two_models_without_features_can_be_asked_for_alone(server, output, value):
    with Client(server.http_url, "apart") as client:
        rows = {"left": np.full((3, 1), 1, np.float32), "right": np.full((3, 1), 2, np.float32)}
        assert client.infer(rows, output).tolist() == [[value]] * 3


def test_single_rows_share_batches_in_every_shape(server, parts):
    rows = given(parts, 40, seed=9)
    for name in SHAPES:
        with Client(server.grpc_url, name, protocol="grpc") as client:
            got = np.concatenate([client.predict(rows.slice(number, 1)) for number in range(rows.height)])
            np.testing.assert_allclose(got, wanted(parts, rows)["score"].reshape(-1), rtol=0, atol=1e-6)


def specs(repository: Path, name: str) -> dict:
    return {
        path.parent.name: parse(path.read_text())
        for path in repository.glob("*/config.pbtxt")
        if path.parent.name == name or path.parent.name.startswith(f"{name}_")
    }


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("chained", ["features", "click", "second"]),
        ("fused", ["fused"]),
        ("split", ["features", "users", "words", "top", "second"]),
        ("packed", ["features", "click", "second"]),
    ],
)
def test_the_composing_models_are_those_of_the_shape(repository, name, roles):
    manifest = load(repository / name / "1")
    assert manifest.models == tuple(f"{name}_{role}_1" for role in roles)
    assert [step.model for step in specs(repository, name)[name].steps] == list(manifest.models)
    assert manifest.shape == SHAPES[name].get("shape", "chained")
    assert verify(repository / name / "1").ok


def test_the_manifest_and_the_ensemble_list_every_output(repository):
    manifest = load(repository / "chained" / "1")
    assert manifest.response == {
        "outputs": [
            {"name": "score", "dtype": "float32", "dims": [1]},
            {"name": "value", "dtype": "float32", "dims": [2]},
            {"name": "rank", "dtype": "int64", "dims": [1]},
        ]
    }
    assert manifest.about == {"source": "a test"}
    expected = (TensorSpec("score", "FP32", (1,)), TensorSpec("value", "FP32", (2,)), TensorSpec("rank", "INT64", (1,)))
    for name in SHAPES:
        assert specs(repository, name)[name].outputs == expected


def test_every_composing_model_is_warmed_up_with_real_rows(repository, parts):
    found = specs(repository, "split")
    for model in load(repository / "split" / "1").models:
        assert [sample.name for sample in found[model].warmup] == ["row0", "row1"]
        assert {t.name for t in found[model].warmup[0].inputs} == {spec.name for spec in found[model].inputs}
    tensors = encode(given(parts, 8).slice(1, 1), schema(parts))
    files = {tensor.name: tensor.data for tensor in found["split_second_1"].warmup[1].inputs}
    assert (repository / "split_second_1" / "warmup" / files["weight"]).read_bytes() == tensors["weight"].tobytes()


def test_each_role_has_its_own_placement(plan, parts, tmp_path):
    placement = {"users": {"instances": 3, "device": "cpu"}, "top": {"threads": 2}}
    written(plan, parts, tmp_path, placement=placement, **SHAPES["split"])
    found = specs(tmp_path, "shop")
    assert (found["shop_users_1"].instances[0].count, found["shop_users_1"].instances[0].kind) == (3, "KIND_CPU")
    assert found["shop_words_1"].instances[0].count == 1
    assert found["shop_top_1"].parameters["intra_op_thread_count"] == "2"
    with pytest.raises(ConfigError, match="users"):
        written(plan, parts, tmp_path, placement=placement)


def test_a_version_that_is_not_stable_waits(plan, parts, tmp_path):
    written(plan, parts, tmp_path)
    config = ExportConfig(name="shop", max_batch_size=8)
    second = export_plan(plan, tmp_path, config, schema(parts), {}, given(parts, 8), stable=False)
    assert second.version == 2
    assert verify(second.folder).files
    assert specs(tmp_path, "shop")["shop"].versions == (1,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"outputs": {"score": "click/scores"}}, "the click must have an output scores, it has score"),
        (lambda p: {"outputs": {"score": "clock/score"}}, "the output score is of 'clock', of which there is no part"),
        (lambda p: {"outputs": {"a": "click/score", "b": "click/score"}}, "click/score is the output a and b"),
        (lambda p: wired(p, price="features/item__out"), r"price FP32\[1\], the features has price INT64"),
        (lambda p: wired(p, weight=None), r"the second needs weight FP64\[1\], which nothing is wired to"),
        (lambda p: wired(p, other="weight"), "the second has no input 'other', which weight is wired to"),
        (lambda p: wired(p, click="later/score"), r"the second needs click FP32\[1\], which the later lacks"),
        (lambda p: {"pieces": (*p.pieces, p.pieces[-1])}, "two parts are called second"),
        (lambda p: {"pieces": (*p.pieces[:2], replace(p.pieces[2], role="Top"))}, "'Top' is no role"),
        (lambda p: {"fingerprint": "0" * 64}, "from another feature graph"),
    ],
)
def test_a_plan_that_does_not_hang_together_is_refused(plan, parts, tmp_path, change, message):
    with pytest.raises(ArtifactError, match=message):
        written(replace(plan, **change(plan)), parts, tmp_path)
    assert not list(tmp_path.glob("shop*"))


def wired(plan: Plan, **wires: str | None) -> dict:
    wiring = {name: source for name, source in {**SECOND, **wires}.items() if source is not None}
    return {"pieces": (*plan.pieces[:2], replace(plan.pieces[2], wiring=wiring))}


def saved(folder: Path, nodes, inputs, outputs, name: str = "g.onnx") -> Path:
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in end] for end in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *ends)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / name)
    return folder / name


def flat(plan: Plan, tmp_path: Path) -> Plan:
    """One number a row, [n], beside the plan's outputs."""
    path = saved(tmp_path, [helper.make_node("Squeeze", ["x"], ["y"])], [("x", ["n", 1])], [("y", ["n"])])
    pieces = (*plan.pieces, Piece("flat", path, {"x": "features/price__out"}))
    return replace(plan, pieces=pieces, outputs={**OUTPUTS, "flat": "flat/y"})


@pytest.mark.parametrize("shape", ["chained", "fused"])
def test_an_output_of_one_number_a_row_gets_the_dimension_that_batches_need(plan, parts, tmp_path, shape):
    exported = written(flat(plan, tmp_path), parts, tmp_path / "models", shape=shape)
    said = {"name": "flat", "dtype": "float32", "dims": [1]}
    assert load(exported.folder).response["outputs"][-1] == said
    assert specs(tmp_path / "models", "shop")["shop"].outputs[-1] == TensorSpec("flat", "FP32", (1,))


def test_a_wire_without_a_second_dimension_is_refused_where_triton_batches(plan, parts, tmp_path):
    (tmp_path / "next").mkdir()
    path = saved(tmp_path / "next", [helper.make_node("Neg", ["x"], ["z"])], [("x", ["n"])], [("z", ["n"])])
    made = flat(plan, tmp_path)
    made = replace(made, pieces=(*made.pieces, Piece("next", path, {"x": "flat/y"})))
    with pytest.raises(ArtifactError, match=r"y of the flat is \[batch\]"):
        written(made, parts, tmp_path / "models")


def test_a_model_that_mixes_rows_is_refused(plan, parts, tmp_path):
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)]
    path = saved(tmp_path, nodes, [("x", ["n", 1])], [("y", ["m", 1])])
    mixed = replace(plan, pieces=(*plan.pieces, Piece("mixed", path, {"x": "features/price__out"})))
    with pytest.raises(ArtifactError, match=r"output 'y' of the mixed; expected 8 rows, one for each; .*\(1, 1\)"):
        written(replace(mixed, outputs={**OUTPUTS, "y": "mixed/y"}), parts, tmp_path / "models", warmup_rows=8)


def test_the_fused_graph_holds_what_the_outputs_need_and_no_more(repository):
    model = onnx.load(repository / "fused_fused_1" / "1" / "model.onnx")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == list(OUTPUTS)
    assert not any("extra" in name for node in model.graph.node for name in node.output)


@pytest.mark.parametrize("shape", ["chained", "fused"])
def test_strings_travel_between_parts(tmp_path, shape):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 4)]
    text, codes = (helper.make_tensor_value_info(n, k, ["n", 1]) for n, k in (("t", 8), ("c", TensorProto.INT64)))
    raw = helper.make_tensor_value_info("x", TensorProto.STRING, ["n", 1])
    same = helper.make_graph([helper.make_node("Identity", ["x"], ["t"])], "g", [raw], [text])
    keys = {"keys_strings": ["é", "b"], "values_int64s": [5, 6], "default_int64": -1}
    encode_text = helper.make_node("LabelEncoder", ["t"], ["c"], domain="ai.onnx.ml", **keys)
    pieces = []
    for role, graph, wiring in (
        ("first", same, {"x": "word"}),
        ("second", helper.make_graph([encode_text], "g", [text], [codes]), {"t": "first/t"}),
    ):
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / f"{role}.onnx")
        pieces.append(Piece(role, tmp_path / f"{role}.onnx", wiring))
    schema = RequestSchema((RequestColumn("word", "string"),))
    config = ExportConfig.model_validate({"name": "shop", "shape": shape})
    plan = Plan(tuple(pieces), {"code": "second/c"}, "")
    export_plan(plan, tmp_path / "models", config, schema, {}, pl.DataFrame({"word": ["é", "b", "z"]}))
    found = specs(tmp_path / "models", "shop")
    if shape == "chained":
        data = found["shop_second_1"].warmup[0].inputs[0].data
        assert (tmp_path / "models" / "shop_second_1" / "warmup" / data).read_bytes() == b"\x02\0\0\0" + "é".encode()
