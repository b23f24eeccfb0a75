"""Every model that can be served, in one server: what Triton answers is what Keras does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest

from ensemble.client.client import Client
from ensemble.graphs.items import with_items
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestSchema
from etl.onnx_files import open_graph, save_graph
from training import data
from training.config import ModelConfig
from training.export.onnx import to_onnx
from training.export.ranked import misplaced
from training.models.catalog import MODELS
from training.models.registry import build
from training.tasks import TASKS, task_of
from training.tensorflow import merlin_models, quiet, tensorflow
from training.train import save

from .conftest import FINGERPRINT, LENGTH, Parts

CODES = 8
SMALL = {"embedding_dim": 4, "bottom": [8, 4], "top": [8], "expert": [8], "experts": 2, "label_experts": 1}
ROW_MODELS = [model.name for model in MODELS.values() if model.servable and model.task in ("click", "multi")]
LIST_MODELS = [model.name for model in MODELS.values() if model.servable and model.task in ("next_item", "item_set")]
NAMES = np.array(["", "", "", *(f"item {code}" for code in range(3, CODES))], dtype=object)


def features_of(rows: pl.DataFrame, parts: Parts) -> dict[str, np.ndarray]:
    """What the features' graph makes of raw rows, {feature: [rows, width]}."""
    session = ort.InferenceSession(parts.workflow.read_bytes(), providers=["CPUExecutionProvider"])
    tensors = {
        name: np.vectorize(bytes.decode, otypes=[object])(values) if values.dtype == object else values
        for name, values in encode(rows, parts.schema).items()
    }
    made = zip([value.name for value in session.get_outputs()], session.run(None, tensors), strict=True)
    return {name.removesuffix("__out"): values for name, values in made if name.endswith("__out")}


def without_item(parts: Parts, folder: Path) -> Parts:
    """Features and rows without the item, which is what a model of lists answers."""
    graph = onnx.load(parts.workflow)
    for known, named in (
        (graph.graph.node, "encode_item"),
        (graph.graph.input, "item"),
        (graph.graph.output, "item__out"),
    ):
        known.remove(next(one for one in known if one.name == named))
    onnx.save(graph, folder / "workflow.onnx")
    schema = RequestSchema(tuple(column for column in parts.schema.columns if column.name != "item"))
    shown = (parts.features_graph, parts.model_graph)
    return Parts(folder / "workflow.onnx", parts.model, schema, lambda count: parts.rows(count).drop("item"), *shown)


def write_features(folder: Path, columns: dict[str, np.ndarray], lists: bool = False) -> Path:
    """Write them as training data, with two labels, and a schema that says whose property each is.

    With `lists` the label is the item, and the tags are a list of such items.
    """
    merlin_models()
    with quiet():
        from merlin.schema import ColumnSchema, Schema, Tags
        from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    def codes(name: str, *tags: Tags, **shape: object) -> ColumnSchema:
        domain = {"domain": {"min": 0, "max": CODES - 1, "name": "item" if lists and name == "tags" else name}}
        return ColumnSchema(name, dtype="int64", tags=[Tags.CATEGORICAL, *tags], properties=domain, **shape)

    known = [
        codes("user", Tags.USER_ID),
        codes("item", Tags.ITEM_ID, *([Tags.TARGET] if lists else [])),
        codes("tags", Tags.ITEM, dims=((0, None), (LENGTH, LENGTH))),
        ColumnSchema("price", dtype="float32", tags=[Tags.CONTINUOUS, Tags.ITEM]),
        ColumnSchema("active", dtype="float32", tags=[Tags.CONTINUOUS, Tags.USER]),
        *(ColumnSchema(name, dtype="int8", tags=[Tags.TARGET]) for name in ("clicked", "bought") if not lists),
    ]
    (folder / ".merlin").mkdir(parents=True)
    TensorflowMetadata.from_merlin_schema(Schema(known)).to_json_file(str(folder / ".merlin"))
    flat = {name: values.tolist() if values.shape[1] > 1 else values[:, 0] for name, values in columns.items()}
    labels = {name: np.arange(len(columns["user"])) % 2 for name in ("clicked", "bought")}
    frame = pl.DataFrame(flat | labels)
    frame.write_parquet(folder / "part_0.parquet", metadata={"mews.fingerprint": FINGERPRINT})
    return folder


def exported(name: str, split: Path, columns: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Build the model, untrained, write it as ONNX, and return what Keras answers, [rows, 1] by output."""
    tf, task = tensorflow(), task_of(name)
    inputs = data.read_inputs(split, task.several)
    model = build(inputs, ModelConfig(name=name, **SMALL), seed=1)  # type: ignore[arg-type]
    for weights in model.trainable_variables:  # far from 0, so that no score is near a half for all rows
        weights.assign(weights * 10)
    given = {feature.name: tf.constant(columns[feature.name]) for feature in inputs.features}
    answers = {output: values.numpy() for output, values in task.answer(model, given).items()}
    folder.mkdir()
    save(model, task, inputs, folder / "saved_model")
    facts = {"features": [feature.to_json() for feature in inputs.features], "fingerprint": FINGERPRINT}
    (folder / "training.json").write_text(json.dumps(facts))
    to_onnx(folder, folder / "model.onnx")
    if name in LIST_MODELS:
        save_graph(with_items(open_graph(folder / "model.onnx"), NAMES), folder / "model.onnx")
    return answers


def test_every_model_answers_in_triton_as_in_keras(parts: Parts, tmp_path: Path) -> None:
    assert {"dlrm", "mf", "mmoe"} <= set(ROW_MODELS)
    assert set(ROW_MODELS) <= {name for name, model in MODELS.items() if model.task in TASKS}
    rows = parts.rows(40)
    columns = features_of(rows, parts)
    split, lists = write_features(tmp_path / "train", columns), write_features(tmp_path / "lists", columns, lists=True)
    wanted = {name: exported(name, split, columns, tmp_path / name) for name in ROW_MODELS}
    wanted |= {name: exported(name, lists, columns, tmp_path / name) for name in LIST_MODELS}
    listed = without_item(parts, tmp_path)
    for name in wanted:
        one = replace(listed if name in LIST_MODELS else parts, model=tmp_path / name / "model.onnx")
        one.export(tmp_path / "models", name=name, shape="fused", max_batch_size=64)
    with TritonServer(tmp_path / "models", models=list(wanted)) as server:
        for name, answers in wanted.items():
            asked = rows.drop("item") if name in LIST_MODELS else rows
            with Client(server.grpc_url, name, protocol="grpc") as client:
                served = client.ask(asked, tuple(answers)).outputs
            assert answers["score"].std() > 0.01, f"{name} tells rows apart"
            if name in LIST_MODELS:
                found = np.vectorize(bytes.decode, otypes=[object])(served["item"])
                assert misplaced(found, NAMES[answers.pop("item")], answers["score"]) == 0, f"items of {name}"
            for output, values in answers.items():
                assert served[output] == pytest.approx(values, abs=1e-5), f"{output} of {name}"
