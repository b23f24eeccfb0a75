"""triton_models/backends/onnxruntime in a real Triton: types, batches of several requests, errors of one of them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

from ensemble.server.triton import TritonServer

ROWS = 10
_CONFIG = 'backend: "onnxruntime"\nmax_batch_size: 64\n'
_INPUTS = {"place": "INT64", "word": "BYTES", "x": "FP32", "tags": "BYTES"}
_DIMS = {"place": 1, "word": 1, "x": 1, "tags": -1}


def _graph() -> onnx.ModelProto:
    """`found` = row `place` of 0, 10 .. 90 (else it fails); `echo` = word; `double` = 2x; `known` = tags "a" or "ü"."""
    info = helper.make_tensor_value_info
    kinds = {"INT64": TensorProto.INT64, "BYTES": TensorProto.STRING, "FP32": TensorProto.FLOAT}
    nodes = [
        helper.make_node("Gather", ["table", "place"], ["found"]),
        helper.make_node("Identity", ["word"], ["echo"]),
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node(
            "LabelEncoder",
            ["tags"],
            ["codes"],
            domain="ai.onnx.ml",
            keys_strings=["a", "ü"],
            values_int64s=[1, 1],
            default_int64=0,
        ),
        helper.make_node("ReduceSum", ["codes", "axis"], ["known"]),
    ]
    inputs = [
        info(name, kinds[kind], ["batch", _DIMS[name] if _DIMS[name] > 0 else "width"])
        for name, kind in _INPUTS.items()
    ]
    outputs = [
        info("found", TensorProto.INT64, ["batch", 1]),
        info("echo", TensorProto.STRING, ["batch", 1]),
        info("double", TensorProto.FLOAT, ["batch", 1]),
        info("known", TensorProto.INT64, ["batch", 1]),
    ]
    constants = {"table": np.arange(ROWS, dtype=np.int64) * 10, "axis": np.array([1], dtype=np.int64)}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "shim", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 4)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _numbers() -> onnx.ModelProto:
    """Tensors whose memory is tied to the session: `found` as in `_graph`, `sum` = x0 + x1, `turned` = not on."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Gather", ["table", "place"], ["found"]),
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"]),
        helper.make_node("Not", ["on"], ["turned"]),
    ]
    inputs = [
        info("place", TensorProto.INT64, ["batch", 1]),
        info("x", TensorProto.DOUBLE, ["batch", 2]),
        info("on", TensorProto.BOOL, ["batch", 1]),
    ]
    outputs = [
        info("found", TensorProto.INT64, ["batch", 1]),
        info("sum", TensorProto.DOUBLE, ["batch", 1]),
        info("turned", TensorProto.BOOL, ["batch", 1]),
    ]
    constants = {"table": np.arange(ROWS, dtype=np.int64) * 10, "axis": np.array([1], dtype=np.int64)}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "numbers", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """`waiting` and `numbers` gather requests for 50 ms, `direct` does not; the backend adds inputs and outputs."""
    repository = tmp_path_factory.mktemp("shim")
    batching = {"waiting": "dynamic_batching { max_queue_delay_microseconds: 50000 }\n", "direct": ""}
    for name, extra in batching.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{_CONFIG}{extra}')
        onnx.save(_graph(), repository / name / "1" / "model.onnx")
    (repository / "numbers" / "1").mkdir(parents=True)
    (repository / "numbers" / "config.pbtxt").write_text(f'name: "numbers"\n{_CONFIG}{batching["waiting"]}')
    onnx.save(_numbers(), repository / "numbers" / "1" / "model.onnx")
    with TritonServer(repository, models=[*batching, "numbers"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: TritonServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_url) as connected:
        yield connected


def _ask(client: triton.InferenceServerClient, model: str, **columns: list[Any]) -> dict[str, list[Any]]:
    rows = len(columns["place"])
    given = {"word": [b"w"] * rows, "x": [1.0] * rows, "tags": [[b"a"]] * rows, **columns}
    tensors = []
    for name, kind in _INPUTS.items():
        values = np.array(given[name], dtype={"INT64": np.int64, "FP32": np.float32, "BYTES": np.object_}[kind])
        tensor = triton.InferInput(name, [rows, values.size // max(rows, 1)], kind)
        tensor.set_data_from_numpy(values.reshape(tensor.shape()))
        tensors.append(tensor)
    answer = client.infer(model, tensors, client_timeout=30)
    return {name: answer.as_numpy(name).reshape(-1).tolist() for name in ("found", "echo", "double", "known")}


def _counts(server: TritonServer, model: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"http://{server.http_url}/v2/models/{model}/stats", timeout=10) as answer:
        stats = json.load(answer)["model_stats"][0]
    return stats["inference_count"], stats["execution_count"]


def test_the_config_is_completed_from_the_graph(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("direct", as_json=True)["config"]
    assert {spec["name"]: spec["data_type"] for spec in config["input"]} == {
        "place": "TYPE_INT64",
        "word": "TYPE_STRING",
        "x": "TYPE_FP32",
        "tags": "TYPE_STRING",
    }
    assert {spec["name"]: spec["dims"] for spec in config["input"]}["tags"] == ["-1"]


def test_every_type_travels(client: triton.InferenceServerClient) -> None:
    words = [b"", "grün\n日本".encode(), b"x" * 5000]
    tags = [[b"a", "ü".encode(), b""], [b"b", b"b", b"b"], [b"a", b"a", b"a"]]
    answer = _ask(client, "direct", place=[0, 9, 3], word=words, x=[0.5, float("nan"), float("inf")], tags=tags)
    assert answer["found"] == [0, 90, 30]
    assert answer["echo"] == words
    assert answer["double"][0] == 1.0
    assert np.isnan(answer["double"][1])
    assert np.isinf(answer["double"][2])
    assert answer["known"] == [2, 0, 3]


def test_requests_share_a_batch_and_get_their_own_rows(
    server: TritonServer, client: triton.InferenceServerClient
) -> None:
    requests = [{"place": [at % ROWS] * (at % 3 + 1), "word": [str(at).encode()] * (at % 3 + 1)} for at in range(32)]
    asked, ran = _counts(server, "waiting")
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda request: _ask(client, "waiting", **request), requests))
    asked_after, ran_after = _counts(server, "waiting")
    for request, answer in zip(requests, answers, strict=True):
        assert answer["found"] == [place * 10 for place in request["place"]]
        assert answer["echo"] == request["word"]
    assert asked_after - asked == sum(len(request["place"]) for request in requests)
    assert ran_after - ran < len(requests)


def test_lists_of_different_widths_together(client: triton.InferenceServerClient) -> None:
    widths = [width % 5 + 1 for width in range(20)]
    with ThreadPoolExecutor(len(widths)) as pool:
        answers = list(pool.map(lambda width: _ask(client, "waiting", place=[1], tags=[[b"a"] * width]), widths))
    assert [answer["known"] for answer in answers] == [[width] for width in widths]


def test_only_the_bad_request_of_a_batch_fails(client: triton.InferenceServerClient) -> None:
    requests: list[dict[str, list[Any]]] = [{"place": [at]} for at in range(8)]
    requests[2] = {"place": [ROWS]}
    requests[5] = {"place": [5], "word": [b"\xff\xfe"]}

    def ask(request: dict[str, list[Any]]) -> Any:
        try:
            return _ask(client, "waiting", **request)["found"]
        except InferenceServerException as error:
            return str(error)

    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(ask, requests))
    assert [answer for at, answer in enumerate(answers) if at not in (2, 5)] == [[0], [10], [30], [40], [60], [70]]
    assert "out of data bounds" in answers[2]
    assert "word" in answers[5]
    assert "UTF-8" in answers[5]


def test_no_rows(client: triton.InferenceServerClient) -> None:
    try:
        answer = _ask(client, "direct", place=[], word=[], x=[], tags=[])
    except InferenceServerException:
        return  # Triton may refuse it; it must not end the backend
    finally:
        assert _ask(client, "direct", place=[1])["found"] == [10]
    assert answer["found"] == []


def test_a_malformed_body_does_not_end_the_backend(server: TritonServer, client: triton.InferenceServerClient) -> None:
    body = {"inputs": [{"name": "place", "shape": [1, 1], "datatype": "INT64", "data": ["no number"]}]}
    request = urllib.request.Request(f"http://{server.http_url}/v2/models/direct/infer", json.dumps(body).encode())
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    with caught.value as error:
        assert error.code in (400, 500)  # Triton says 500 to text where a number should be
    assert _ask(client, "direct", place=[1])["found"] == [10]


def _ask_numbers(client: triton.InferenceServerClient, places: list[int]) -> dict[str, list[Any]]:
    column = np.array(places, np.int64).reshape(-1, 1)
    given = {"on": column % 2 == 0, "place": column, "x": np.concatenate([column, column * 0.5], axis=1)}
    tensors = []
    for name, kind in {"on": "BOOL", "place": "INT64", "x": "FP64"}.items():
        tensors.append(triton.InferInput(name, list(given[name].shape), kind))
        tensors[-1].set_data_from_numpy(given[name])
    answer = client.infer("numbers", tensors, client_timeout=30)
    return {name: answer.as_numpy(name).reshape(-1).tolist() for name in ("found", "sum", "turned")}


def test_numbers_of_many_requests_at_once(client: triton.InferenceServerClient) -> None:
    """Batches of changing sizes go through the same memory; a bad request among them fails alone."""
    random = np.random.default_rng(0)
    requests = [random.integers(0, ROWS, random.integers(1, 6)).tolist() for _ in range(200)]
    requests[77] = [3, ROWS]

    def ask(places: list[int]) -> Any:
        try:
            return _ask_numbers(client, places)
        except InferenceServerException as error:
            return str(error)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, requests))
    assert "out of data bounds" in answers.pop(77)
    requests.pop(77)
    for places, answer in zip(requests, answers, strict=True):
        assert answer == {
            "found": [place * 10 for place in places],
            "sum": [place * 1.5 for place in places],
            "turned": [place % 2 == 1 for place in places],
        }
