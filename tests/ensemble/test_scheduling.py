"""Queues, priorities, timeouts, kept answers, rate limits: as configuration, and as the embedded Triton does them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from pydantic import ValidationError

from ensemble.config import ExportConfig, ServeConfig
from ensemble.execution import Accelerator, Batching, InstanceGroup, Optimization, QueuePolicy, RateLimiter, Resource
from ensemble.pbtxt import render
from ensemble.scheduling import check_placement, scheduled
from ensemble.server.triton import TritonServer
from ensemble.spec import ModelSpec, Step, TensorSpec
from etl.errors import ConfigError

IN, OUT = TensorSpec("x", "INT64"), TensorSpec("y", "INT64")
PART = ModelSpec("shop_model_1", (IN,), (OUT,), backend="onnxruntime", max_batch_size=8, parameters={"mark": "kept"})
WHOLE = ModelSpec(
    "shop", (IN,), (OUT,), platform="ensemble", max_batch_size=8, steps=(Step("shop_model_1", {"x": "x"}, {"y": "y"}),)
)
REQUEST_SECONDS = 0.15
_SLEEPER = f"""
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep({REQUEST_SECONDS})
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * tensor)]) for tensor in tensors]
"""


def made(role: str = "model", spec: ModelSpec = PART, **export: Any) -> ModelSpec:
    return scheduled(spec, ExportConfig.model_validate(export), role)


def test_a_model_runs_as_export_says_for_all() -> None:
    spec = made(preferred_batch_sizes=[4, 8], max_queue_delay_microseconds=50, instances=2, device="gpu", threads=3)
    assert spec.batching == Batching((4, 8), 50)
    assert spec.instances == (InstanceGroup(2, "KIND_GPU"),)
    assert spec.parameters == {"mark": "kept", "intra_op_thread_count": "3"}
    assert spec.optimization is None
    assert spec.response_cache is None


def test_a_model_that_takes_requests_of_any_size_has_no_queue() -> None:
    whole = ModelSpec("m", (IN,), (OUT,), backend="onnxruntime")
    assert made(spec=whole, max_batch_size=0).batching is None


def test_placement_changes_one_role_only() -> None:
    placement = {"model": {"instances": 4, "device": "gpu", "gpus": [0, 1], "threads": 2, "preferred_batch_sizes": [8]}}
    assert made(instances=2, placement=placement).instances == (InstanceGroup(4, "KIND_GPU", (0, 1)),)
    assert made(instances=2, placement=placement).parameters["intra_op_thread_count"] == "2"
    assert made(instances=2, placement=placement).batching == Batching((8,))
    assert made("features", instances=2, placement=placement).instances == (InstanceGroup(2),)


def test_queues_priorities_and_timeouts() -> None:
    scheduling = {
        "priority_levels": 3,
        "queue": {"timeout_microseconds": 5000, "on_timeout": "delay", "own_timeouts": True, "max_requests": 9},
        "priority_queues": {1: {"max_requests": 2}},
        "preserve_ordering": True,
    }
    assert made(scheduling=scheduling).batching == Batching(
        preserve_ordering=True,
        priority_levels=3,
        default_priority=3,
        queue=QueuePolicy("DELAY", 5000, True, 9),
        priority_queues={1: QueuePolicy(max_size=2)},
    )


def test_rates_are_limited_by_resources() -> None:
    limit = {"resources": {"memory": 2}, "shared_resources": {"bus": 1}, "priority": 2}
    (group,) = made(placement={"model": {"rate_limit": limit}}).instances
    assert group.rate_limiter == RateLimiter((Resource("memory", 2), Resource("bus", 1, shared=True)), 2)


def test_accelerators_and_their_options() -> None:
    tensorrt = {"precision_mode": "FP16", "trt_engine_cache_enable": True, "max_workspace_size_bytes": 1 << 30}
    spec = made(placement={"model": {"accelerator": "tensorrt", "accelerator_options": tensorrt}})
    assert spec.optimization == Optimization(
        gpu_accelerators=(
            Accelerator(
                "tensorrt",
                {"precision_mode": "FP16", "trt_engine_cache_enable": "1", "max_workspace_size_bytes": "1073741824"},
            ),
        )
    )
    cuda = {"use_tf32": False, "gpu_mem_limit": 1000, "arena_extend_strategy": "kSameAsRequested"}
    spec = made(placement={"model": {"accelerator": "cuda", "accelerator_options": cuda}})
    assert spec.optimization == Optimization(gpu_accelerators=(Accelerator("cuda", {"use_tf32": "0"}),))
    assert spec.parameters["gpu_mem_limit"] == "1000"
    assert spec.parameters["arena_extend_strategy"] == "1"  # the C++ backend's number of it


def test_what_the_backend_prepares() -> None:
    placed = {"graph_optimization": "extended", "pinned_memory": False, "memory_arena": False, "inter_threads": 2}
    spec = made(placement={"model": placed})
    assert spec.optimization == Optimization(graph_level=1, input_pinned=False, output_pinned=False)
    told = {"enable_mem_arena": "0", "execution_mode": "1", "inter_op_thread_count": "2"}
    assert told.items() <= spec.parameters.items()


@pytest.mark.parametrize(
    ("export", "message"),
    [
        ({"scheduling": {"default_priority": 1}}, "default_priority 1 of 0"),
        ({"scheduling": {"priority_levels": 2, "priority_queues": {3: {}}}}, r"priority_queues \[3\] of 2"),
        ({"scheduling": {"priority_levels": 2}, "max_batch_size": 0}, "set max_batch_size"),
        ({"placement": {"model": {"device": "cpu", "gpus": [1]}}}, "not cpu"),
        (
            {"placement": {"model": {"accelerator_options": {"use_tf32": "0"}}}},
            "accelerator none has no options use_tf32",
        ),
        (
            {"placement": {"model": {"accelerator": "cuda", "accelerator_options": {"cudnn_conv_algo_search": "x"}}}},
            "expected one of EXHAUSTIVE, HEURISTIC, DEFAULT, received 'x'",
        ),
    ],
)
def test_what_cannot_be_is_refused(export: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ExportConfig.model_validate(export)


def test_a_role_that_the_export_lacks_is_refused() -> None:
    config = ExportConfig.model_validate({"placement": {"modle": {"instances": 2}}})
    with pytest.raises(
        ConfigError, match=r"placement of modle; expected composing models of this export: features, model"
    ):
        check_placement(config, ["model", "features"])


SERVED: Mapping[str, dict[str, Any]] = {
    "ordered": {"scheduling": {"priority_levels": 2}},
    "patient": {"scheduling": {"queue": {"timeout_microseconds": 10**7, "own_timeouts": True, "max_requests": 2}}},
    "cached": {"scheduling": {"response_cache": True}},
    "part": {"placement": {"model": {"response_cache": True}}},
    "free": {"instances": 2},
    "paired": {"placement": {"model": {"instances": 2, "rate_limit": {"shared_resources": {"pair": 1}}}}},
    "locked": {"placement": {"model": {"instances": 2, "rate_limit": {"shared_resources": {"lock": 1}}}}},
}
"""Ensembles of one model that takes 150 ms for a request, one at a time in each instance."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    repository = tmp_path_factory.mktemp("scheduled")
    for name, export in SERVED.items():
        config = ExportConfig.model_validate({"max_batch_size": 1, **export})
        part = replace(PART, name=f"{name}_model_1", backend="python", max_batch_size=1)
        steps = (replace(WHOLE.steps[0], model=part.name),)
        whole = replace(WHOLE, name=name, max_batch_size=1, steps=steps)
        _write(repository, scheduled(part, config, "model"), scheduled(whole, config, ""))
    serve = ServeConfig(cache_bytes=1 << 20, rate_limit=True, resources={"pair": 2, "lock": 1})
    with (
        TritonServer(repository, serve, list(SERVED)) as server,
        triton.InferenceServerClient(server.grpc_url) as found,
    ):
        yield found


def _write(repository: Path, *specs: ModelSpec) -> None:
    for spec in specs:
        (repository / spec.name / "1").mkdir(parents=True)
        (repository / spec.name / "config.pbtxt").write_text(render(spec))
        if not spec.steps:
            (repository / spec.name / "1" / "model.py").write_text(_SLEEPER)


def _tensor(value: int) -> triton.InferInput:
    tensor = triton.InferInput("x", [1, 1], "INT64")
    tensor.set_data_from_numpy(np.array([[value]], dtype=np.int64))
    return tensor


@dataclass
class Asked:
    """Requests to one ensemble, and what came back, in the order in which it came."""

    client: triton.InferenceServerClient
    model: str
    answers: list[tuple[int, Any]] = field(default_factory=list)

    def send(self, value: int, **options: int) -> None:
        """Send without waiting for the answer; what is sent later also arrives later."""
        self.client.async_infer(
            self.model, [_tensor(value)], lambda result, error: self.answers.append((value, error)), **options
        )
        time.sleep(0.02)

    def wait(self, count: int) -> list[tuple[int, Any]]:
        deadline = time.monotonic() + 20
        while len(self.answers) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.answers


def test_a_higher_priority_passes_the_queue(client: triton.InferenceServerClient) -> None:
    asked = Asked(client, "ordered")
    for value, priority in ((0, 0), (1, 0), (2, 2), (3, 1)):
        asked.send(value, priority=priority)
    assert [value for value, error in asked.wait(4) if error is None] == [0, 3, 1, 2]


def test_a_request_that_waits_too_long_or_in_too_long_a_queue_is_refused(client: triton.InferenceServerClient) -> None:
    asked = Asked(client, "patient")
    asked.send(0)
    time.sleep(0.02)
    asked.send(1, timeout=20_000)  # 20 ms of its own, and at least 80 ms to wait
    asked.send(2)
    asked.send(3)
    refused = {value: str(error) for value, error in asked.wait(4) if error is not None}
    assert set(refused) == {1, 3}
    assert "Request timeout expired" in refused[1]
    assert "Exceeds maximum queue size" in refused[3]


@pytest.mark.parametrize(("ensemble", "keeps"), [("cached", "cached"), ("part", "part_model_1")])
def test_kept_answers_are_counted_as_hits(client: triton.InferenceServerClient, ensemble: str, keeps: str) -> None:
    for value in (7, 7, 7, 8):
        answer = client.infer(ensemble, [_tensor(value)])
        assert answer.as_numpy("y")[0, 0] == 2 * value
    (said,) = client.get_inference_statistics(keeps).model_stats
    assert (said.inference_stats.cache_hit.count, said.inference_stats.cache_miss.count) == (2, 2)
    (said,) = client.get_inference_statistics(f"{ensemble}_model_1").model_stats
    assert said.execution_count == 2


def test_instances_that_share_a_resource_run_in_turn(client: triton.InferenceServerClient) -> None:
    def seconds(model: str) -> float:
        asked, began = Asked(client, model), time.monotonic()
        for value in range(4):
            asked.send(value)
        assert [error for _, error in asked.wait(4)] == [None] * 4
        return time.monotonic() - began

    assert seconds("locked") > 4 * REQUEST_SECONDS
    assert seconds("paired") < 4 * REQUEST_SECONDS, "there is enough for both"
    assert seconds("free") < 4 * REQUEST_SECONDS
