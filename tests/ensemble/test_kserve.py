"""An exported ensemble answers the KServe v2 protocol, endpoint by endpoint, to clients that know nothing of Mews."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ensemble.requests.encode import encode

MODEL = "chained"
INPUTS = {
    "user": ("INT64", [-1, 1]),
    "item": ("BYTES", [-1, 1]),
    "price": ("FP32", [-1, 1]),
    "tags": ("BYTES", [-1, -1]),
    "tags__length": ("INT32", [-1, 1]),
    "active": ("BOOL", [-1, 1]),
}


def ask(served, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection(served.http_url)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


@pytest.fixture
def stub(served) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(served.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def tensors(parts) -> dict[str, np.ndarray]:
    return encode(parts.rows(3, seed=5), parts.schema)


def raw(values: np.ndarray) -> bytes:
    if values.dtype != object:
        return values.tobytes()
    return b"".join(len(value).to_bytes(4, "little") + value for value in values.reshape(-1))


def as_json(tensors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "shape": list(values.shape),
            "datatype": INPUTS[name][0],
            "data": [value.decode() if isinstance(value, bytes) else value for value in values.reshape(-1).tolist()],
        }
        for name, values in tensors.items()
    ]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}/ready"])
def test_health_over_http(served, path):
    assert ask(served, "GET", path)[0] == 200


def test_what_is_not_there_is_not_ready_over_http(served):
    assert ask(served, "GET", "/v2/models/nothing/ready")[0] == 400
    assert ask(served, "GET", f"/v2/models/{MODEL}/versions/9/ready")[0] == 400


def test_metadata_over_http(served):
    server = json.loads(ask(served, "GET", "/v2")[2])
    assert {type(server[key]) for key in ("name", "version")} == {str}
    assert "binary_tensor_data" in server["extensions"]
    for path in (f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/versions/1"):
        model = json.loads(ask(served, "GET", path)[2])
        assert (model["name"], model["versions"], model["platform"]) == (MODEL, ["1"], "ensemble")
        assert {each["name"]: (each["datatype"], each["shape"]) for each in model["inputs"]} == INPUTS
        assert model["outputs"] == [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}]


def test_inference_in_json(served, parts, tensors):
    body = json.dumps({"id": "7", "inputs": as_json(tensors), "outputs": [{"name": "score"}]}).encode()
    for path in (f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/versions/1/infer"):
        status, _, answer = ask(served, "POST", path, body)
        said = json.loads(answer)
        assert status == 200, said
        assert (said["id"], said["model_name"], said["model_version"]) == ("7", MODEL, "1")
        (output,) = said["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("score", "FP32", [3, 1])
        np.testing.assert_allclose(output["data"], parts.scores(tensors), rtol=0, atol=1e-6)


def test_inference_in_binary(served, parts, tensors):
    inputs = [
        {
            "name": name,
            "shape": list(values.shape),
            "datatype": INPUTS[name][0],
            "parameters": {"binary_data_size": len(raw(values))},
        }
        for name, values in tensors.items()
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = header + b"".join(map(raw, tensors.values()))
    size = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
    status, headers, answer = ask(served, "POST", f"/v2/models/{MODEL}/infer", body, **size)
    assert status == 200, answer
    end = int(headers["Inference-Header-Content-Length"])
    (output,) = json.loads(answer[:end])["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("score", "FP32", [3, 1])
    assert output["parameters"]["binary_data_size"] == len(answer) - end
    np.testing.assert_allclose(np.frombuffer(answer[end:], "<f4"), parts.scores(tensors), rtol=0, atol=1e-6)


def test_an_error_over_http_is_a_status_and_an_object(served, tensors):
    inputs = [each for each in as_json(tensors) if each["name"] != "price"]
    status, _, answer = ask(served, "POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": inputs}).encode())
    assert status == 400
    assert "price" in json.loads(answer)["error"] or "expected 6 inputs" in json.loads(answer)["error"]


def test_health_and_metadata_over_grpc(stub):
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name=MODEL, version="1")).ready
    assert not stub.ModelReady(service_pb2.ModelReadyRequest(name="nothing")).ready
    server = stub.ServerMetadata(service_pb2.ServerMetadataRequest())
    assert server.name
    assert server.version
    model = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=MODEL))
    assert (model.name, list(model.versions), model.platform) == (MODEL, ["1"], "ensemble")
    assert {each.name: (each.datatype, list(each.shape)) for each in model.inputs} == INPUTS
    assert [(each.name, each.datatype, list(each.shape)) for each in model.outputs] == [("score", "FP32", [-1, 1])]


def _contents(values: np.ndarray, kind: str) -> service_pb2.InferTensorContents:
    field = {"INT64": "int64_contents", "INT32": "int_contents", "FP32": "fp32_contents"}
    name = {**field, "BYTES": "bytes_contents", "BOOL": "bool_contents"}[kind]
    return service_pb2.InferTensorContents(**{name: values.reshape(-1).tolist()})


@pytest.mark.parametrize("is_raw", [True, False])
def test_inference_over_grpc(stub, parts, tensors, is_raw):
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="7")
    for name, values in tensors.items():
        kind = INPUTS[name][0]
        tensor = request.inputs.add(name=name, datatype=kind, shape=values.shape)
        if is_raw:
            request.raw_input_contents.append(raw(values))
        else:
            tensor.contents.CopyFrom(_contents(values, kind))
    request.outputs.add(name="score")
    answer = stub.ModelInfer(request)
    assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "1", "7")
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("score", "FP32", [3, 1])
    found = np.frombuffer(answer.raw_output_contents[0], "<f4")
    np.testing.assert_allclose(found, parts.scores(tensors), rtol=0, atol=1e-6)


def test_errors_over_grpc_have_the_protocol_s_codes(stub, tensors):
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="user", datatype="INT64", shape=[3, 1])
    request.raw_input_contents.append(raw(tensors["user"]))
    with pytest.raises(grpc.RpcError) as wrong:
        stub.ModelInfer(request)
    assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    request.model_name = "nothing"
    with pytest.raises(grpc.RpcError) as missing:
        stub.ModelInfer(request)
    assert missing.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
