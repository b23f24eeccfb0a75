"""What an ensemble may be made of, what is refused, and that nothing is exported that answers otherwise."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

import mews
from ensemble.export.plan import Plan
from etl.errors import CompileError, ConfigError, DataError, MewsError
from mews.dropin.check import difference
from mews.dropin.export import prepare
from mews.dropin.graph import read_ensemble
from tests.dropin.conftest import NAMES, Merlin, quiet


def planned(ensemble: Any, folder: Path, examples: Any, **options: Any) -> Plan:
    with quiet():
        return prepare(read_ensemble(ensemble, **options), {}, folder, examples)[0]


def linear(target: Path, output: str = "score", bias: float = 0.0) -> Path:
    """An ONNX file as a PyTorch user makes it: user + price + bias."""
    nodes = [
        helper.make_node("Cast", ["user"], ["u"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["u", "price"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [
            helper.make_tensor_value_info("user", TensorProto.INT64, ["batch", 1]),
            helper.make_tensor_value_info("price", TensorProto.FLOAT, ["batch", 1]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 1])],
        [onnx.numpy_helper.from_array(np.array([bias], dtype=np.float32), "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), target)
    return target


def test_a_workflow_alone_with_some_of_its_columns(merlin: Merlin, tmp_path: Path) -> None:
    plan = planned(merlin.ensemble(merlin.node["user", "price"]), tmp_path, merlin.rows)
    assert plan.outputs == {"user": "features/user__out", "price": "features/price__out"}


def test_a_subgraph_is_read_as_what_is_in_it(merlin: Merlin, tmp_path: Path) -> None:
    from merlin.dag.ops.subgraph import Subgraph

    plan = planned(merlin.ensemble(list(NAMES) >> Subgraph("scoring", merlin.node)), tmp_path, merlin.rows)
    assert [piece.role for piece in plan.pieces] == ["features"]
    assert set(plan.outputs) == set(NAMES)


def test_raw_columns_may_go_straight_to_a_model(merlin: Merlin, tmp_path: Path) -> None:
    import tensorflow as tf
    from merlin.schema import ColumnSchema, Schema

    with quiet():
        price = tf.keras.Input((1,), name="price")
        model = tf.keras.Model({"price": price}, tf.keras.layers.Dense(1, name="double")(price))
        node = ["price"] >> merlin.ops["PredictTensorflow"](model)
        from merlin.systems.dag.ensemble import Ensemble

        ensemble = Ensemble(node, Schema([ColumnSchema("price", dtype=np.float32)]))
        plan, request, _ = prepare(read_ensemble(ensemble), {}, tmp_path, merlin.rows)
    assert plan.pieces[0].wiring == {"price": "price"}
    assert request.columns[0].nullable is False
    assert len(plan.fingerprint) == 64


def test_a_saved_model_is_read_from_its_folder(merlin: Merlin, tmp_path: Path) -> None:
    with quiet():
        merlin.keras().save(tmp_path / "saved")
        node = merlin.node >> merlin.ops["PredictTensorflow"](str(tmp_path / "saved"))
    assert planned(merlin.ensemble(node), tmp_path, merlin.rows).outputs == {"click": "model/click"}


def test_an_onnx_file_stands_for_a_pytorch_model(merlin: Merlin, tmp_path: Path) -> None:
    from merlin.schema import ColumnSchema, Schema

    inputs = merlin.workflow.output_schema
    node = merlin.node >> merlin.ops["PredictPyTorch"](None, inputs, Schema([ColumnSchema("score", dtype=np.float32)]))
    file = linear(tmp_path / "linear.onnx")
    plan = planned(merlin.ensemble(node), tmp_path, merlin.rows, onnx={"score": file})
    assert plan.pieces[1].wiring == {"user": "features/user__out", "price": "features/price__out"}
    with pytest.raises(ConfigError, match="onnx: other"):
        planned(merlin.ensemble(node), tmp_path, merlin.rows, onnx={"score": file, "other": file})


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed here; its wheel is gigabytes"
)
def test_a_pytorch_model_is_converted(merlin: Merlin, tmp_path: Path) -> None:
    import torch
    from merlin.schema import ColumnSchema, Schema

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.top = torch.nn.Linear(1, 1)

        def forward(self, columns: dict[str, Any]) -> Any:
            return torch.sigmoid(self.top(columns["price"][:, None].float()))

    outputs = Schema([ColumnSchema("score", dtype=np.float32)])
    node = merlin.node >> merlin.ops["PredictPyTorch"](Net(), merlin.workflow.output_schema, outputs)
    plan = planned(merlin.ensemble(node), tmp_path, merlin.rows)
    assert plan.pieces[1].wiring["price"] == "features/price__out"
    assert plan.outputs == {"score": "model/score"}


def test_every_operator_that_cannot_be_served_is_told_at_once(merlin: Merlin) -> None:
    from merlin.systems.dag.ops.session_filter import FilterCandidates

    with quiet():
        filtered = merlin.node["item"] >> FilterCandidates(filter_out=["user"])
        ensemble = merlin.ensemble(filtered + (merlin.node["price"] >> (lambda column: column)))
    with pytest.raises(CompileError) as caught:
        read_ensemble(ensemble)
    assert {problem.operator for problem in caught.value.problems} == {"FilterCandidates", "UDF"}
    assert all(problem.reason and problem.instead for problem in caught.value.problems)


def test_outputs_of_one_name_are_refused_and_renaming_helps(merlin: Merlin, tmp_path: Path) -> None:
    import xgboost
    from nvtabular.ops import Rename

    forest = xgboost.XGBRegressor(n_estimators=2).fit(merlin.features.to_numpy(), merlin.labels)
    predict = merlin.ops["PredictForest"]
    with quiet():
        left, right = (merlin.node >> predict(forest, merlin.workflow.output_schema) for _ in range(2))
        both, renamed = merlin.ensemble(left + right), merlin.ensemble(left + (right >> Rename(postfix="_b")))
    with pytest.raises(CompileError, match=r"two columns are called 'output__0'.*Rename\(postfix="):
        read_ensemble(both)
    assert planned(renamed, tmp_path, merlin.rows).outputs == {
        "output__0": "model/output__0",
        "output__0_b": "model2/output__0",
    }


def test_a_model_that_answers_otherwise_is_refused_and_nothing_is_written(merlin: Merlin, tmp_path: Path) -> None:
    with quiet():
        node = merlin.node >> merlin.ops["PredictTensorflow"](merlin.keras())
        wrong = linear(tmp_path / "wrong.onnx", "click")
        with pytest.raises(MewsError, match=r"'click' is not what your own object answers.*received \d"):
            mews.export(merlin.ensemble(node), tmp_path / "models", examples=merlin.rows, onnx={"click": wrong})
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [({"output_class": True}, "expected a classifier"), ({"predict_proba": True}, "expected a classifier")],
)
def test_parameters_of_fil_that_make_no_sense_are_refused(
    merlin: Merlin, parameters: dict[str, Any], says: str
) -> None:
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=2).fit(merlin.features.to_numpy(), merlin.labels)
    node = merlin.node >> merlin.ops["PredictForest"](model, merlin.workflow.output_schema, **parameters)
    with pytest.raises(CompileError, match=says):
        read_ensemble(merlin.ensemble(node))


def test_rows_are_made_up_with_a_warning(merlin: Merlin, tmp_path: Path) -> None:
    read = read_ensemble(merlin.ensemble(merlin.node))
    with pytest.warns(UserWarning, match="made-up rows"):
        _, request, rows = prepare(read, {}, tmp_path, None)
    assert rows.columns == list(request.names)
    assert set(rows["item"]) <= set(merlin.rows["item"])


@pytest.mark.parametrize("kind", ["pandas", "parquet", "dict"])
def test_examples_in_every_form(kind: str, merlin: Merlin, parquet: Path, tmp_path: Path) -> None:
    rows = merlin.rows.head(20)
    examples = {"pandas": rows.to_pandas, "parquet": lambda: parquet, "dict": rows.to_dict}[kind]()
    assert planned(merlin.ensemble(merlin.node), tmp_path, examples).pieces


@pytest.mark.parametrize(
    ("examples", "error", "says"),
    [
        (pl.DataFrame({"user": [1]}), DataError, "item, price"),
        (pl.DataFrame({"user": [], "item": [], "price": []}), DataError, "at least one row"),
        (Path("nowhere.parquet"), ConfigError, r"nowhere\.parquet"),
        (7, ConfigError, "int"),
    ],
)
def test_examples_that_cannot_be_used(
    examples: Any, error: type[MewsError], says: str, merlin: Merlin, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        planned(merlin.ensemble(merlin.node), tmp_path, examples)


def test_labels_are_no_part_of_a_request(merlin: Merlin, tmp_path: Path) -> None:
    from nvtabular import Dataset, Workflow, ops

    with quiet():
        label = ["clicked"] >> ops.AddMetadata(tags=["target"])
        codes = ["user"] >> ops.Categorify(out_path=str(tmp_path / "categories"))
        rows = merlin.rows.with_columns(clicked=pl.Series(merlin.labels), kept=pl.lit(1.5))
        dataset = Dataset(rows.to_pandas(), cpu=True)
        tagged = Workflow(codes + label).fit(dataset)
        others = ["clicked", "kept"]
        plain = Workflow(codes + others).fit(dataset)
    import xgboost

    from mews.dropin.export import read_pair

    forest = xgboost.XGBClassifier(n_estimators=2).fit(merlin.features[["user"]], merlin.labels)
    for workflow, labels in ((tagged, ()), (plain, ("clicked", "kept"))):
        with quiet():
            read = read_pair(workflow, forest, labels, {})
            _, request, _ = prepare(read, {}, tmp_path, rows)
        assert request.names == ("user",)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (("ensemble", "model"), {}, "none beside an ensemble"),
        (("workflow",), {}, "Give the model"),
        (("workflow", "model"), {"onnx": {"a": "b.onnx"}}, "Give the ONNX file as `model`"),
        (("workflow", "model"), {"shape": "round"}, "shape"),
        (("workflow", "model"), {"label_columns": ["nothing"]}, "label_columns nothing"),
        (("workflow", 7), {}, "a Keras model"),
        ((7, "model"), {}, r"an nvtabular\.Workflow"),
    ],
)
def test_arguments_that_do_not_fit(
    arguments: tuple[Any, ...], options: dict[str, Any], says: str, merlin: Merlin, tmp_path: Path
) -> None:
    known = {"ensemble": merlin.ensemble(merlin.node), "workflow": merlin.workflow, "model": merlin.keras()}
    source, *model = (known.get(each, each) for each in arguments)
    with quiet(), pytest.raises(ConfigError, match=says):
        mews.export(source, tmp_path / "models", *model, examples=merlin.rows, **options)


def test_a_saved_feature_graph_and_a_model(merlin: Merlin, tmp_path: Path) -> None:
    from etl.reader import read

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(merlin.workflow).save(tmp_path / "graph")
        done = mews.export(tmp_path / "graph", tmp_path / "models", merlin.keras(), examples=merlin.rows, name="shop")
    assert done.models == ("shop_features_1", "shop_model_1")


def test_a_workflow_behind_another(merlin: Merlin, tmp_path: Path) -> None:
    from nvtabular import Dataset, Workflow, ops

    with quiet():
        made = merlin.workflow.transform(Dataset(merlin.rows.to_pandas(), cpu=True))
        second = Workflow(["price"] >> ops.Clip(min_value=0.0) >> ops.Rename(postfix="_cut")).fit(made)
        node = merlin.node >> merlin.ops["TransformWorkflow"](second)
    plan = planned(merlin.ensemble(node), tmp_path, merlin.rows)
    assert plan.pieces[1].wiring == {"price": "features/price__out"}
    assert plan.outputs == {"price_cut": "features2/price_cut"}


def test_a_merlin_model_with_a_list_and_a_workflow(merlin: Merlin, tmp_path: Path) -> None:
    import merlin.models.tf as mm
    from merlin.schema import Tags
    from nvtabular import Dataset, Workflow, ops

    random = np.random.default_rng(3)
    tags = [random.choice(["red", "blue", "green"], random.integers(1, 6)).tolist() for _ in range(300)]
    rows = merlin.rows.head(300).with_columns(tags=pl.Series(tags))
    with quiet():
        lists = ["tags"] >> ops.Categorify(out_path=str(tmp_path / "categories")) >> ops.ListSlice(0, 4, pad=True)
        numbers = ["price"] >> ops.LogOp() >> ops.AddTags([Tags.CONTINUOUS])
        workflow = Workflow(lists + numbers).fit(Dataset(rows.to_pandas(), cpu=True))
        schema = workflow.output_schema
        model = mm.DLRMModel(
            schema,
            embedding_dim=8,
            bottom_block=mm.MLPBlock([8]),
            top_block=mm.MLPBlock([8]),
            prediction_tasks=mm.BinaryOutput("click"),
        )
        model({"tags": np.ones((2, 4), "int64"), "price": np.ones((2, 1), "float32")})
        done = mews.export(workflow, tmp_path / "models", model, examples=rows, name="shop", shape="fused")
    assert done.models == ("shop_fused_1",)


def test_only_the_first_refused_step_is_told(merlin: Merlin) -> None:
    with quiet():
        tower = merlin.node >> merlin.ops["PredictTensorflow"](merlin.keras("vector", width=6))
        ranker = (tower + merlin.node) >> merlin.ops["PredictTensorflow"](merlin.keras("rank", {"vector": 6}))
        ensemble = merlin.ensemble(ranker)
    tower.op.model = lambda columns, training: columns["price"][:, None, None]
    with pytest.raises(CompileError, match="'vector'") as caught:
        read_ensemble(ensemble)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        ([2**60], [2**60 + 1], 1),
        ([2**60], [2**60], 0),
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], 0),
        ([np.nan], [1.0], np.inf),
        ([1000.0], [1000.5], pytest.approx(0.5 / 1000.5)),
        ([0.25], [0.5], 0.25),
        ([[1, 2]], [[1]], np.inf),
        (np.array(["a", "é".encode()], dtype=object), np.array(["a", "é"]), 0),
        (np.array(["a"], dtype=object), np.array(["b"]), np.inf),
    ],
)
def test_differences_are_exact_for_integers_and_relative_for_large_numbers(ours: Any, theirs: Any, wanted: Any) -> None:
    assert difference(np.asarray(ours), np.asarray(theirs)) == wanted


def test_texts_moments_and_nulls_pass_the_comparison(merlin: Merlin, tmp_path: Path) -> None:
    from datetime import datetime

    from nvtabular import ColumnSelector, Dataset, Workflow, ops

    count = 50
    rows = pl.DataFrame(
        {
            "word": ["a", None] * (count // 2),
            "day": [datetime(2024, 1, 1, 12), datetime(1969, 5, 5)] * (count // 2),
            "big": [2**60 + number for number in range(count)],
            "ratio": [0.5, None] * (count // 2),
        }
    )
    with quiet():
        kept = ColumnSelector(list(rows.columns)) >> ops.AddMetadata(properties={})
        workflow = Workflow(kept).fit(Dataset(rows.to_pandas(), cpu=True))
        node = list(rows.columns) >> merlin.ops["TransformWorkflow"](workflow)
        from merlin.systems.dag.ensemble import Ensemble

        plan = planned(Ensemble(node, workflow.input_schema), tmp_path, rows)
    assert set(plan.outputs) == set(rows.columns)
