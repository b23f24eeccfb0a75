"""A small pair of graphs, written by hand to the conventions of etl.compiler and training, and real rows for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import Exported, export
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestColumn, RequestSchema

FINGERPRINT = "f" * 64
LENGTH = 4

SCHEMA = RequestSchema(
    (
        RequestColumn("user", "int64"),
        RequestColumn("item", "string"),
        RequestColumn("price", "float32"),
        RequestColumn("tags", "string", is_list=True),
        RequestColumn("active", "bool"),
    )
)


def _encoder(source: str, target: str, keys: np.ndarray) -> onnx.NodeProto:
    values = np.arange(1, len(keys) + 1, dtype=np.int64)
    values[1:] += 1
    if keys.dtype == object:
        key_tensor = helper.make_tensor("keys", TensorProto.STRING, keys.shape, [key.encode() for key in keys])
    else:
        key_tensor = numpy_helper.from_array(keys, "keys")
    return helper.make_node(
        "LabelEncoder",
        [source],
        [target],
        name=f"encode_{source}",
        domain="ai.onnx.ml",
        keys_tensor=key_tensor,
        values_tensor=numpy_helper.from_array(values, "values"),
        default_tensor=numpy_helper.from_array(np.array([2], dtype=np.int64), "default"),
    )


CONSTANTS = {
    "zero": np.array(0, dtype=np.float32),
    "one": np.array(1, dtype=np.float32),
    "index": np.array(1, dtype=np.int64),
    "start": np.array(0, dtype=np.int64),
    "step": np.array(1, dtype=np.int64),
    "pads": np.array([0, 0, 0, LENGTH], dtype=np.int64),
    "from": np.array([0], dtype=np.int64),
    "to": np.array([LENGTH], dtype=np.int64),
    "axis": np.array([1], dtype=np.int64),
}


def features_graph(fingerprint: str = FINGERPRINT, opset: int = 17) -> onnx.ModelProto:
    """Codes: 1 null, 2 unknown, then the vocabulary; price log1p, 0 for null; four tags; `extra` is unused."""
    node = helper.make_node
    words = np.array(["", "apple", "pear", "überraschung"], dtype=object)
    nodes = [
        _encoder("user", "user__out", np.array([-(2**63), 7, 8, 9, 2**62], dtype=np.int64)),
        _encoder("item", "item__out", words),
        _encoder("tags", "codes", words),
        node("IsNaN", ["price"], ["missing"]),
        node("Where", ["missing", "zero", "price"], ["filled"]),
        node("Add", ["filled", "one"], ["x"]),
        node("Log", ["x"], ["price__out"]),
        node("Shape", ["codes"], ["shape"]),
        node("Gather", ["shape", "index"], ["width"]),
        node("Range", ["start", "width", "step"], ["positions"]),
        node("Cast", ["tags__length"], ["length"], to=TensorProto.INT64),
        node("Less", ["positions", "length"], ["inside"]),
        node("Where", ["inside", "codes", "start"], ["masked"]),
        node("Pad", ["masked", "pads"], ["padded"]),
        node("Slice", ["padded", "from", "to", "axis"], ["tags__out"]),
        node("Cast", ["active"], ["active__out"], to=TensorProto.FLOAT),
        node("Mul", ["price__out", "one"], ["extra"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "features",
        [
            info("user", TensorProto.INT64, ["batch", 1]),
            info("item", TensorProto.STRING, ["batch", 1]),
            info("price", TensorProto.FLOAT, ["batch", 1]),
            info("tags", TensorProto.STRING, ["batch", "tags__width"]),
            info("tags__length", TensorProto.INT32, ["batch", 1]),
            info("active", TensorProto.BOOL, ["batch", 1]),
        ],
        [
            info("user__out", TensorProto.INT64, ["batch", 1]),
            info("item__out", TensorProto.INT64, ["batch", 1]),
            info("price__out", TensorProto.FLOAT, ["batch", 1]),
            info("tags__out", TensorProto.INT64, ["batch", LENGTH]),
            info("active__out", TensorProto.FLOAT, ["batch", 1]),
            info("extra", TensorProto.FLOAT, ["batch", 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 4)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    names = ("user", "item", "price", "tags", "active")
    renamed = ", ".join(f'"{name}": "{name}__out"' for name in names)
    helper.set_model_props(
        model, {"mews.fingerprint": fingerprint, "mews.features": "{" + renamed + ', "extra": "extra"}'}
    )
    return model


def model_graph(fingerprint: str = FINGERPRINT, opset: int = 17) -> onnx.ModelProto:
    """A score from embeddings of width 3; some inner names are those of the features' graph, on purpose."""
    node = helper.make_node
    random = np.random.default_rng(0)
    nodes = [
        *(node("Gather", [f"table_{name}", name], [f"vectors_{name}"], axis=0) for name in ("user", "item", "tags")),
        *(
            node("ReduceSum", [f"vectors_{name}", "axes"], [f"sum_{name}"], keepdims=0)
            for name in ("user", "item", "tags")
        ),
        node("Concat", ["sum_user", "sum_item", "sum_tags", "price", "active"], ["x"], axis=1),
        node("MatMul", ["x", "weights"], ["filled"]),
        node("Sigmoid", ["filled"], ["score"], name="encode_item"),
    ]
    constants = {f"table_{name}": random.normal(size=(12, 3)).astype(np.float32) for name in ("user", "item", "tags")}
    constants["weights"] = random.normal(size=(11, 1)).astype(np.float32)
    constants["axes"] = np.array([1], dtype=np.int64)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "model",
        [
            info("price", TensorProto.FLOAT, ["unk__1", 1]),
            info("user", TensorProto.INT64, ["unk__2", 1]),
            info("item", TensorProto.INT64, ["unk__3", 1]),
            info("tags", TensorProto.INT64, ["unk__4", LENGTH]),
            info("active", TensorProto.FLOAT, ["unk__5", 1]),
        ],
        [info("score", TensorProto.FLOAT, ["unk__6", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"mews.fingerprint": fingerprint})
    return model


def random_rows(count: int, seed: int = 0) -> pl.DataFrame:
    """Known and unknown values, nulls, lists of zero to six values."""
    random = np.random.default_rng(seed)
    words = ["apple", "pear", "überraschung", "unknown", None]
    return pl.DataFrame(
        {
            "user": random.choice([7, 8, 9, 2**62, 12345, None], count).tolist(),
            "item": random.choice(words, count).tolist(),
            "price": [None if value < 0.1 else float(value) * 50 for value in random.random(count)],
            "tags": [random.choice(words[:4], random.integers(0, 7)).tolist() for _ in range(count)],
            "active": (random.random(count) < 0.5).tolist(),
        },
        schema={
            "user": pl.Int64,
            "item": pl.String,
            "price": pl.Float32,
            "tags": pl.List(pl.String),
            "active": pl.Boolean,
        },
    )


@dataclass(frozen=True)
class Parts:
    """What an export needs: two files, the schema, rows, and how to run the graphs in this process."""

    workflow: Path
    model: Path
    schema: RequestSchema
    rows: Callable[..., pl.DataFrame]
    features_graph: Callable[..., onnx.ModelProto]
    model_graph: Callable[..., onnx.ModelProto]

    def export(self, repository: Path, **config: object) -> Exported:
        """Export with settings by name; the rest is the default."""
        settings = ExportConfig.model_validate({"name": "shop", **config})
        given = self.workflow, self.model, repository, settings, self.schema, {"auc": 0.75}, self.rows(8)
        return export(*given, stable=settings.stable)

    def scores(self, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """What ONNX Runtime says, float32 [rows], without Triton and without our code."""
        texts = {
            name: np.vectorize(bytes.decode, otypes=[object])(values) if values.dtype == object else values
            for name, values in tensors.items()
        }
        features = ort.InferenceSession(self.workflow.read_bytes(), providers=["CPUExecutionProvider"])
        names = [output.name for output in features.get_outputs()]
        values = dict(zip(names, features.run(None, texts), strict=True))
        model = ort.InferenceSession(self.model.read_bytes(), providers=["CPUExecutionProvider"])
        given = {each.name: values[f"{each.name}__out"] for each in model.get_inputs()}
        return model.run(None, given)[0].reshape(-1)


def parts_in(folder: Path) -> Parts:
    """Write the small graphs of features and model to a folder."""
    onnx.save(features_graph(), folder / "workflow.onnx")
    onnx.save(model_graph(), folder / "model.onnx")
    return Parts(folder / "workflow.onnx", folder / "model.onnx", SCHEMA, random_rows, features_graph, model_graph)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return parts_in(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def served(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server with `chained` and `fused` (at most 8 rows a request), and `idle`, which is not loaded."""
    repository = tmp_path_factory.mktemp("served") / "models"
    parts.export(repository, name="chained", max_batch_size=8, warmup_rows=2, preferred_batch_sizes=[4])
    parts.export(repository, name="fused", shape="fused", max_batch_size=8, warmup_rows=2)
    parts.export(repository, name="idle")
    with TritonServer(repository, models=["chained", "fused"]) as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, served: TritonServer) -> Iterator[Client]:
    url = served.http_url if request.param == "http" else served.grpc_url
    with Client(url, "chained", protocol=request.param) as connected:
        yield connected
