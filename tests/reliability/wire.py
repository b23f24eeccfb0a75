"""Requests byte by byte, so that they can be wrong in ways no client would send: KServe v2 over HTTP and over gRPC."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

TIMEOUT = 20.0
NUMPY = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32, "BOOL": np.bool_}
LENGTH_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Tensor:
    """One input as it goes over the wire: `data` is what is sent, `says` what its length is said to be (HTTP)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes
    says: int | None = None


@dataclass(frozen=True)
class Answer:
    """What came back: `text` is the error's, `values` the first output's bytes when `ok`."""

    ok: bool
    text: str
    values: bytes = b""

    @property
    def scores(self) -> np.ndarray:
        """The first output, float32."""
        return np.frombuffer(self.values, dtype=np.float32)


@dataclass(frozen=True)
class Request:
    """One request for `model`: its inputs, the outputs that it asks for, and more keys for its JSON (HTTP)."""

    model: str
    tensors: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ("score",)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def change(self, tensor: str, **changes: Any) -> Request:
        """The same request with fields of one tensor changed."""
        return replace(self, tensors=tuple(replace(t, **changes) if t.name == tensor else t for t in self.tensors))

    def without(self, name: str) -> Request:
        """The same request without one tensor."""
        return replace(self, tensors=tuple(tensor for tensor in self.tensors if tensor.name != name))

    def adding(self, tensor: Tensor) -> Request:
        """The same request with one tensor more."""
        return replace(self, tensors=(*self.tensors, tensor))

    def each(self, change: Callable[[Tensor], Tensor]) -> Request:
        """The same request with every tensor changed."""
        return replace(self, tensors=tuple(map(change, self.tensors)))


def texts(values: Sequence[bytes]) -> bytes:
    """A BYTES tensor's data: each value after its length in four bytes."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def tensor(name: str, datatype: str, array: np.ndarray) -> Tensor:
    """A right tensor."""
    data = texts(array.reshape(-1).tolist()) if datatype == "BYTES" else array.astype(NUMPY[datatype]).tobytes()
    return Tensor(name, datatype, tuple(array.shape), data)


def http_request(url: str, request: Request) -> Answer:
    """Send a request with binary tensors and a binary answer."""
    header = {
        "inputs": [
            {
                "name": each.name,
                "shape": list(each.shape),
                "datatype": each.datatype,
                "parameters": {"binary_data_size": len(each.data) if each.says is None else each.says},
            }
            for each in request.tensors
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs],
        **request.extra,
    }
    text = json.dumps(header).encode()
    return post(url, request.model, text + b"".join(t.data for t in request.tensors), {LENGTH_HEADER: str(len(text))})


def post(url: str, model: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """Send any body to a model's infer address; a connection that the server closes is an error without text."""
    connection = http.client.HTTPConnection(url, timeout=TIMEOUT)
    try:
        connection.request("POST", f"/v2/models/{model}/infer", body, dict(headers or {}))
        response = connection.getresponse()
        answer, length = response.read(), response.headers.get(LENGTH_HEADER)
    except TimeoutError:
        raise
    except (http.client.HTTPException, ConnectionError) as error:
        return Answer(False, f"connection: {error}")
    finally:
        connection.close()
    if response.status != 200:
        return Answer(False, answer.decode(errors="replace"))
    return Answer(True, answer.decode(errors="replace"), answer[int(length) :] if length else b"")


def grpc_message(request: Request) -> service_pb2.ModelInferRequest:
    """The request as a protobuf message; its data are raw contents in the order of the inputs."""
    message = service_pb2.ModelInferRequest(model_name=request.model)
    for each in request.tensors:
        message.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        message.raw_input_contents.append(each.data)
    for name in request.outputs:
        message.outputs.add(name=name)
    return message


def grpc_request(channel: grpc.Channel, request: Request | service_pb2.ModelInferRequest) -> Answer:
    """Send a request over gRPC."""
    message = grpc_message(request) if isinstance(request, Request) else request
    try:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=TIMEOUT)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError(error.details()) from error
        return Answer(False, error.details())
    return Answer(True, "", answer.raw_output_contents[0])


def grpc_bytes(channel: grpc.Channel, body: bytes) -> Answer:
    """Send any bytes as the message."""
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    try:
        call(body, timeout=TIMEOUT)
    except grpc.RpcError as error:
        return Answer(False, error.details() or str(error.code()))
    return Answer(True, "")
