"""Packed requests: columns side by side in few tensors, and the same answers as with a tensor for each."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.graphs.fuse import Link
from ensemble.graphs.packed import read_packed
from ensemble.manifest import load
from ensemble.pbtxt import parse
from ensemble.requests.encode import encode
from ensemble.requests.packed import columns_of, pack
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestColumn, RequestSchema, TensorSpec
from etl.errors import ArtifactError, RequestError
from etl.requests import RequestForm

SCHEMA = RequestSchema(
    (
        RequestColumn("u8", "uint8"),
        RequestColumn("flag", "bool"),
        RequestColumn("age", "int32"),
        RequestColumn("price", "float32"),
        RequestColumn("when", "datetime"),
        RequestColumn("said", "datetime", form=RequestForm(datetime="iso")),
        RequestColumn("word", "string"),
        RequestColumn("tags", "string", is_list=True),
        RequestColumn("huge", "uint64"),
        RequestColumn("masked", "int64", form=RequestForm(mask=True)),
    )
)
ROWS = pl.DataFrame(
    {
        "u8": [0, 255],
        "flag": [True, False],
        "age": [None, 7],
        "price": [0.1, None],
        "when": [0, -1],
        "said": ["2024-02-29T00:00:00", None],
        "word": ["é", None],
        "tags": [["a"], []],
        "huge": [2**64 - 1, 0],
        "masked": [None, 3],
    },
    schema_overrides={"huge": pl.UInt64, "price": pl.Float32},
)


def test_columns_of_a_kind_share_a_tensor_and_the_rest_keep_theirs():
    packed = pack(SCHEMA)
    assert {name: [column.name for column in columns] for name, columns in columns_of(packed).items()} == {
        "packed__int64": ["u8", "flag", "age", "when"],
        "packed__float32": ["price"],
        "packed__string": ["said", "word"],
    }
    assert packed.tensors[:3] == (
        TensorSpec("packed__int64", "INT64", (4,)),
        TensorSpec("packed__float32", "FP32", (1,)),
        TensorSpec("packed__string", "BYTES", (2,)),
    )
    named = [tensor.name for tensor in packed.tensors[3:]]
    assert named == ["tags", "tags__length", "huge", "masked", "masked__null"]


def test_values_and_nulls_are_those_of_the_named_tensors():
    named, packed = encode(ROWS, SCHEMA), encode(ROWS, pack(SCHEMA))
    assert list(packed) == [tensor.name for tensor in pack(SCHEMA).tensors]
    assert packed["packed__int64"].tolist() == [[0, 1, -(2**31), 0], [255, 0, 7, -1]]
    assert packed["packed__string"].tolist() == [[b"2024-02-29T00:00:00", "é".encode()], [b"", b""]]
    assert packed["packed__float32"].dtype == np.float32
    np.testing.assert_array_equal(packed["packed__float32"], named["price"])
    np.testing.assert_array_equal(packed["huge"], named["huge"])


def test_a_float64_column_makes_the_tensor_float64_and_float32_columns_stay_exact():
    schema = RequestSchema((RequestColumn("a", "float32"), RequestColumn("b", "float64")))
    packed = encode(pl.DataFrame({"a": [0.1], "b": [0.1]}), pack(schema))
    assert packed["packed__float64"].tolist() == [[float(np.float32(0.1)), 0.1]]


def test_bad_rows_are_told_by_their_column():
    with pytest.raises(RequestError, match="column 'age' is out of the range of int32"):
        encode(ROWS.with_columns(age=pl.lit(2**40)), pack(SCHEMA))


def test_the_schema_is_the_same_after_json():
    packed = pack(SCHEMA)
    assert RequestSchema.from_json(json.loads(json.dumps(packed.to_json()))) == packed
    assert RequestSchema.from_json(SCHEMA.to_json()) == SCHEMA
    assert "packed" not in json.dumps(SCHEMA.to_json())


def test_a_column_with_the_name_of_a_packed_tensor_is_refused():
    columns = (RequestColumn("packed__int64", "int64", is_list=True), RequestColumn("a", "int64"))
    with pytest.raises(ArtifactError, match="packed__int64 has the name of a packed tensor"):
        pack(RequestSchema(columns))


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    text = {
        name: np.vectorize(bytes.decode, otypes=[object])(values) if values.dtype == object else values
        for name, values in feed.items()
    }
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, text)
    return found


@pytest.mark.parametrize("count", [1, 33])
def test_the_graph_answers_as_before(parts, count):
    packed, rows = pack(parts.schema), parts.rows(count)
    names = {tensor.name: tensor.name for tensor in parts.schema.tensors}
    sides = {name: [column.name for column in columns] for name, columns in columns_of(packed).items()}
    link = read_packed(Link("features", parts.features_graph(), names), sides)
    onnx.checker.check_model(link.model, full_check=True)
    assert link.wiring == {tensor.name: tensor.name for tensor in packed.tensors}
    wanted = run(parts.features_graph(), encode(rows, parts.schema))
    for before, after in zip(wanted, run(link.model, encode(rows, packed)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_graph_that_reads_no_packed_column_is_left_alone(parts):
    link = Link("model", parts.model_graph(), {"user": "features/user"})
    assert read_packed(link, {"packed__int64": ["age"]}) is link


@pytest.mark.parametrize("shape", ["chained", "fused"])
def test_the_ensemble_says_how_to_pack(parts, tmp_path, shape):
    config = ExportConfig.model_validate({"name": "shop", "signature": "packed", "shape": shape})
    exported = export(parts.workflow, parts.model, tmp_path, config, parts.schema, {}, parts.rows(3))
    packed = pack(parts.schema)
    spec = parse((tmp_path / "shop" / "config.pbtxt").read_text())
    assert spec.inputs == packed.tensors
    assert RequestSchema.from_json(json.loads(spec.parameters["mews.request"])) == packed
    assert load(exported.folder).request == packed
    example = json.loads((exported.folder / "request.example.json").read_text())
    assert [(each["name"], each["datatype"]) for each in example["inputs"]][:2] == [
        ("packed__int64", "INT64"),
        ("packed__string", "BYTES"),
    ]


def test_triton_takes_three_tensors_for_all_columns_and_scores_alike(parts, tmp_path):
    for signature in ("named", "packed"):
        config = ExportConfig.model_validate({"name": signature, "signature": signature, "shape": "fused"})
        export(parts.workflow, parts.model, tmp_path / "models", config, parts.schema, {}, parts.rows(3))
    rows = parts.rows(30, seed=4)
    with (
        TritonServer(tmp_path / "models", models=["named", "packed"]) as server,
        Client(server.http_url, "named") as named,
        Client(server.http_url, "packed") as packed,
    ):
        assert [spec.name for spec in packed.metadata().inputs if spec.name.startswith("packed__")] == [
            "packed__int64",
            "packed__string",
            "packed__float32",
        ]
        np.testing.assert_array_equal(packed.predict(rows), named.predict(rows))
