"""One server that all the bad requests go to, and what right requests look like and get."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from tests.ensemble.conftest import SCHEMA, Parts, parts_in, random_rows
from tests.reliability.wire import Answer, Request, grpc_request, http_request, tensor

LARGEST = 8
MODELS = ("chained", "fused")


@dataclass(frozen=True)
class Asked:
    """A running server with both ways to it."""

    server: TritonServer
    channel: grpc.Channel
    scores: Callable[[dict[str, np.ndarray]], np.ndarray]

    def ask(self, protocol: str, request: Request) -> Answer:
        """Send a request."""
        if protocol == "http":
            return http_request(self.server.http_url, request)
        return grpc_request(self.channel, request)

    def answers_right(self, protocol: str, model: str = "fused") -> None:
        """The next good request is answered right."""
        request, expected = self.good(model, rows=3, seed=5)
        answer = self.ask(protocol, request)
        assert answer.ok, answer.text
        assert np.array_equal(answer.scores, expected)

    def good(self, model: str, rows: int = 1, seed: int = 0) -> tuple[Request, np.ndarray]:
        """Return a right request of random rows, and the scores that ONNX Runtime gives in this process."""
        tensors = encode(random_rows(rows, seed), SCHEMA)
        kinds = {spec.name: spec.dtype for spec in SCHEMA.tensors}
        request = Request(model, tuple(tensor(name, kinds[name], array) for name, array in tensors.items()))
        return request, self.scores(tensors)


def _write_lists(repository: Path) -> None:
    """`lists`: values and offsets, which Triton cannot check; the answer is the sum of the values and offsets."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Cast", ["tags__offsets"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Concat", ["tags__values", "wide"], ["all"], axis=0),
        helper.make_node("ReduceSum", ["all"], ["total"], keepdims=1),
    ]
    inputs = [info("tags__values", TensorProto.INT64, ["n"]), info("tags__offsets", TensorProto.INT32, ["m"])]
    graph = helper.make_graph(nodes, "lists", inputs, [info("total", TensorProto.INT64, [1])])
    (repository / "lists" / "1").mkdir(parents=True)
    (repository / "lists" / "config.pbtxt").write_text('name: "lists"\nbackend: "onnxruntime"\nmax_batch_size: 0\n')
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, repository / "lists" / "1" / "model.onnx")


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return parts_in(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def asked(graphs: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    repository = tmp_path_factory.mktemp("reliability") / "models"
    for name in MODELS:
        graphs.export(repository, name=name, shape=name, max_batch_size=LARGEST)
    _write_lists(repository)
    with (
        TritonServer(repository, models=[*MODELS, "lists"]) as server,
        grpc.insecure_channel(server.grpc_url) as channel,
    ):
        yield Asked(server, channel, graphs.scores)


def bits(kind: str, *values: Any) -> bytes:
    """Little-endian values; `kind` as in the module struct."""
    return struct.pack(f"<{len(values)}{kind}", *values)
