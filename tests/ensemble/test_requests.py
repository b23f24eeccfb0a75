"""Every form of a request on a real Triton: chained, fused, packed, in batches and whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

from ensemble import manifest, pbtxt
from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.requests.encode import encode, to_json
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestSchema
from etl.compiler import to_onnx, to_polars
from etl.errors import ArtifactError, ConfigError, RequestError
from etl.graph import Column, FeatureGraph
from etl.requests import RequestForm
from tests.conformance.raw import frame_of, graph_of

COLUMNS = (
    Column("u8", "uint8"),
    Column("flag", "bool"),
    Column("age", "int64"),
    Column("price", "float32"),
    Column("when", "datetime"),
    Column("word", "string"),
    Column("tags", "string", is_list=True),
    Column("seen", "int64", is_list=True),
)
KINDS = ("chained", "fused")
BATCHED: Mapping[str, Any] = {
    "u8": {"null": "mask"},
    "flag": {"null": "mask"},
    "age": {"null": -1, "dtype": "int32"},
    "price": {"dtype": "float16"},
    "when": {"datetime": "iso"},
    "seen": {"null": "mask", "dtype": "int16"},
}
WHOLE: Mapping[str, Any] = {
    **BATCHED,
    "age": {"optional": True},
    "flag": {"optional": True},
    "word": {"optional": True, "null": "n/a"},
    "when": {"optional": True, "datetime": "ms"},
    "price": {},
    "tags": {"list": "offsets"},
    "seen": {"list": "offsets", "null": "mask", "optional": True},
}


def rows(count: int = 6) -> pl.DataFrame:
    """Rows with nulls in every column, and lists of several lengths."""
    days = [datetime(2024, 2, 29, 13, 14, 15), datetime(1904, 2, 29, 13, 14, 15), None]
    values: dict[str, list[Any]] = {
        "u8": [7, None, 100],
        "flag": [True, False, True],
        "age": [None, 7, 55],
        "price": [0.5, None, 1024.0],
        "when": days,
        "word": ["é", None, "unknown"],
        "tags": [["a", "é", "x"], [], ["日本"]],
        "seen": [[7, None], [100, 0, 7, 7, 55, 7], []],
    }
    made = frame_of(COLUMNS[0], [7] * count)
    columns = [frame_of(column, (values[column.name] * count)[:count])[column.name] for column in COLUMNS]
    return made.with_columns(columns)


def scorer(graph: FeatureGraph) -> onnx.ModelProto:
    """The sum of every feature, each times its place from 1."""
    nodes, terms, inputs = [], [], []
    for place, column in enumerate(graph.output_columns, start=1):
        kind = TensorProto.FLOAT if column.dtype == "float32" else TensorProto.INT64
        inputs.append(helper.make_tensor_value_info(column.name, kind, ["batch", column.length or 1]))
        nodes.append(helper.make_node("Cast", [column.name], [f"{column.name}_f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceSum", [f"{column.name}_f", "axis"], [f"{column.name}_s"]))
        nodes.append(helper.make_node("Mul", [f"{column.name}_s", f"weight_{place}"], [f"{column.name}_w"]))
        terms.append(f"{column.name}_w")
    nodes.append(helper.make_node("Sum", terms, ["score"]))
    constants = [helper.make_tensor(f"weight_{n}", TensorProto.FLOAT, [1], [n]) for n in range(1, len(terms) + 1)]
    constants.append(helper.make_tensor("axis", TensorProto.INT64, [1], [1]))
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    made = helper.make_model(
        helper.make_graph(nodes, "scorer", inputs, [score], constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(made, {"mews.fingerprint": graph.fingerprint})
    return made


def scores(graph: FeatureGraph, frame: pl.DataFrame) -> list[float]:
    """What batch and `scorer` give, by hand."""
    made = to_polars(graph).apply(frame.lazy()).collect()
    found = []
    for row in made.rows():
        found.append(sum(n * (sum(v) if isinstance(v, list) else v) for n, v in enumerate(row, start=1)))
    return found


GRAPH = graph_of(*COLUMNS)


def write(repository: Path, folder: Path, **settings: Any) -> None:
    config = ExportConfig.model_validate(settings)
    folder.mkdir(exist_ok=True)
    onnx.save(to_onnx(GRAPH, None, config.forms), folder / "workflow.onnx")
    onnx.save(scorer(GRAPH), folder / "model.onnx")
    schema = RequestSchema.from_columns(GRAPH.inputs, config.forms)
    export(folder / "workflow.onnx", folder / "model.onnx", repository, config, schema, {}, rows(3))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requests")
    for suffix in (*KINDS, "packed"):
        shape = {"signature": "packed"} if suffix == "packed" else {"shape": suffix}
        kept: Any = {**shape, "warmup_rows": 2}
        write(folder / "models", folder / "b", name=f"batched_{suffix}", requests=BATCHED, max_batch_size=8, **kept)
        write(folder / "models", folder / "w", name=f"whole_{suffix}", requests=WHOLE, max_batch_size=0, **kept)
    return folder / "models"


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[TritonServer]:
    names = [f"{form}_{kind}" for form in ("batched", "whole") for kind in (*KINDS, "packed")]
    with TritonServer(repository, models=names) as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", [*KINDS, "packed"], indirect=True)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("form", ["batched", "whole"])
def test_the_server_scores_what_batch_makes(server: TritonServer, kind: str, form: str, protocol: Any) -> None:
    url = server.http_url if protocol == "http" else server.grpc_url
    frame = rows(21) if form == "batched" else rows(21).with_columns(pl.col("flag").fill_null(value=True))
    with Client(url, f"{form}_{kind}", protocol=protocol) as client:
        assert client.predict(frame).tolist() == scores(GRAPH, frame)
        assert client.predict(frame.tail(1)).tolist() == scores(GRAPH, frame.tail(1))


def test_columns_that_are_left_out_are_null(server: TritonServer, kind: str) -> None:
    frame = rows(5)
    optional = ["age", "flag", "word", "when", "seen"]
    with Client(server.http_url, f"whole_{kind}") as client:
        for left_out in ([], *([name] for name in optional), optional):
            nulls = frame.with_columns(pl.lit(None, dtype=frame.schema[name]).alias(name) for name in left_out)
            assert client.predict(frame.drop(left_out)).tolist() == scores(GRAPH, nulls), left_out
        with pytest.raises(RequestError, match="missing column 'price'"):
            client.predict(frame.drop("price"))
        with pytest.raises(RequestError, match=r"'flag' holds null, which bool cannot say.*leave the column out"):
            client.predict(frame.with_columns(flag=pl.lit(None, dtype=pl.Boolean)))


def test_requests_with_and_without_a_column_meet_in_the_server(server: TritonServer, kind: str) -> None:
    frame = rows(1)
    without = frame.with_columns(pl.lit(None, dtype=frame.schema["age"]).alias("age"))

    def ask(number: int) -> bool:
        asked = frame.drop("age") if number % 2 else frame
        with Client(server.http_url, f"whole_{kind}") as client:
            found = [client.predict(asked).tolist() for _ in range(20)]
        return all(one == scores(GRAPH, without if number % 2 else frame) for one in found)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))


def test_rows_as_values_and_offsets(server: TritonServer, kind: str) -> None:
    frame = rows(3)
    arrays = {name: frame[name].to_list() for name in ("key", "u8", "price", "word")}
    arrays |= {"tags__values": ["a", "é", "x", "日本"], "tags__offsets": [0, 3, 3, 4]}
    left_out = ["age", "flag", "when", "seen"]
    nulls = frame.with_columns(pl.lit(None, dtype=frame.schema[name]).alias(name) for name in left_out)
    with Client(server.http_url, f"whole_{kind}") as client:
        assert client.predict(arrays).tolist() == scores(GRAPH, nulls)


def test_what_the_graph_cannot_take_is_an_error_that_names_the_column(server: TritonServer, kind: str) -> None:
    with Client(server.http_url, f"batched_{kind}") as client:
        tensors = encode(rows(2), client.metadata().request)
        tensors["when"] = np.array([[b"2024-01-02"], [b"2024-02-30"]], object)
        with pytest.raises(RequestError, match="when: not an ISO 8601 datetime"):
            client.infer(tensors)
        assert client.predict(rows(2)).tolist() == scores(GRAPH, rows(2))


def test_the_client_reads_the_forms_from_the_server(server: TritonServer, repository: Path, kind: str) -> None:
    for form, settings in (("batched", BATCHED), ("whole", WHOLE)):
        name = f"{form}_{kind}"
        expected = RequestSchema.from_columns(GRAPH.inputs, ExportConfig(requests=settings, max_batch_size=0).forms)
        with Client(server.http_url, name) as client:
            assert client.metadata().request == expected
        assert manifest.load(repository / name / "1").request == expected
        spec = pbtxt.parse((repository / name / "config.pbtxt").read_text(encoding="utf-8"))
        wanted = expected.tensors if form == "batched" else tuple(tensor.whole for tensor in expected.tensors)
        assert spec.inputs == wanted
        assert {tensor.name for tensor in spec.inputs if tensor.optional} == {
            tensor.name for column in expected.columns if column.form.optional for tensor in column.tensors
        }


def test_the_example_is_a_request_in_the_declared_form(server: TritonServer, repository: Path, kind: str) -> None:
    import json
    import urllib.request

    name = f"whole_{kind}"
    body = (repository / name / "1" / "request.example.json").read_text(encoding="utf-8")
    request = urllib.request.Request(f"http://{server.http_url}/v2/models/{name}/infer", body.encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        outputs = json.load(answer)["outputs"]
    assert outputs[0]["data"] == scores(GRAPH, rows(2))
    assert {"tags__offsets", "u8__null"} <= {tensor["name"] for tensor in json.loads(body)["inputs"]}
    # Triton takes no FP16 in JSON, so there is nothing to post.
    assert not (repository / f"batched_{kind}" / "1" / "request.example.json").exists()
    half = encode(rows(2), RequestSchema.from_columns(GRAPH.inputs, ExportConfig(requests=BATCHED).forms))
    schema = RequestSchema.from_columns(GRAPH.inputs, ExportConfig(requests=BATCHED).forms)
    types = {tensor["name"]: tensor["datatype"] for tensor in to_json(half, schema, "score")["inputs"]}
    assert (types["price"], types["age"], types["when"], types["seen"]) == ("FP16", "INT32", "BYTES", "INT16")


def test_what_triton_cannot_batch_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from mews.config import load

    for setting in ("{tags: {list: offsets}}", "{age: {optional: true}}"):
        with pytest.raises(ConfigError, match=r"set max_batch_size: 0, or send padded lists and nulls"):
            load(None, [f"export.requests={setting}"])
        assert load(None, [f"export.requests={setting}", "export.max_batch_size=0"]).export.forms
    # In YAML the key `null` is nothing, not a word.
    assert load(None, ["export.requests={age: {null: -1}}"]).export.forms == {"age": RequestForm(null=-1)}
    assert load(None, ["export.requests={u8: {null: mask}}"]).export.forms == {"u8": RequestForm(mask=True)}
    with pytest.raises(ConfigError, match="did you mean null"):
        load(None, ["export.requests={age: {nul: -1}}"])
    config = ExportConfig(requests={"tags": {"list": "offsets"}}, max_batch_size=0)  # type: ignore[dict-item]
    onnx.save(to_onnx(GRAPH, None, config.forms), tmp_path / "workflow.onnx")
    onnx.save(scorer(GRAPH), tmp_path / "model.onnx")
    schema = RequestSchema.from_columns(GRAPH.inputs, config.forms)
    for given, settings, words in (
        (schema, ExportConfig(), "max_batch_size: 0"),
        (RequestSchema.from_columns(GRAPH.inputs), config, "the features needs tags__values"),
    ):
        with pytest.raises(ArtifactError, match=words):
            export(tmp_path / "workflow.onnx", tmp_path / "model.onnx", tmp_path / "m", settings, given, {}, rows(2))
    assert not (tmp_path / "m").exists()
