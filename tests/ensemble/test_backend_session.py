"""How triton_models/backends/onnxruntime opens a graph: what a model's configuration says, as ONNX Runtime has it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from google.protobuf import json_format, text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from ensemble.config import ExportConfig
from ensemble.pbtxt import render
from ensemble.scheduling import scheduled
from ensemble.server.embedded import onnxruntime_backend
from ensemble.spec import ModelSpec, TensorSpec

SPEC = ModelSpec("m", (TensorSpec("x", "FP32"),), (TensorSpec("y", "FP32"),), backend="onnxruntime", max_batch_size=4)


@pytest.fixture(scope="module")
def backend() -> Iterator[ModuleType]:
    """The backend's file beside the utilities of Triton's Python backend, as the stub loads both."""
    spec = importlib.util.find_spec("pytriton")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    utilities = Path(spec.submodule_search_locations[0]) / "tritonserver" / "backends" / "python"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(utilities)
        found = importlib.util.spec_from_file_location("shim", onnxruntime_backend())
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        patch.setitem(sys.modules, "shim", module)
        found.loader.exec_module(module)
        yield module
        sys.modules.pop("triton_python_backend_utils", None)


def configured(placement: dict[str, Any]) -> dict[str, Any]:
    """A model's configuration as Triton gives it to a backend."""
    text = render(scheduled(SPEC, ExportConfig.model_validate({"placement": {"model": placement}}), "model"))
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    return json_format.MessageToDict(config, preserving_proto_field_name=True)


def parameters(config: dict[str, Any]) -> dict[str, str]:
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


def test_threads_memory_and_graph_reach_onnx_runtime(backend: ModuleType) -> None:
    config = configured({"threads": 3, "inter_threads": 2, "memory_arena": False, "graph_optimization": "basic"})
    options = backend.session_options(config, parameters(config))
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC


def test_a_plain_model_has_one_thread_and_all_optimizations(backend: ModuleType) -> None:
    options = backend.session_options({}, {})
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.enable_cpu_mem_arena
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL


def test_the_options_of_cuda_have_onnx_runtime_s_names(backend: ModuleType) -> None:
    chosen = {"cudnn_conv_algo_search": "HEURISTIC", "gpu_mem_limit": 1 << 20}
    config = configured({"accelerator": "cuda", "accelerator_options": chosen})
    assert backend.cuda_options(parameters(config)) == {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kNextPowerOfTwo",
        "gpu_mem_limit": "1048576",
        "do_copy_in_default_stream": "1",
    }


def test_the_options_of_tensorrt_have_onnx_runtime_s_names(backend: ModuleType) -> None:
    chosen = {"precision_mode": "FP16", "max_workspace_size_bytes": 1 << 20, "trt_engine_cache_enable": True}
    config = configured({"accelerator": "tensorrt", "accelerator_options": chosen})
    (accelerator,) = config["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
    assert backend.tensorrt_options(accelerator["parameters"]) == {
        "trt_fp16_enable": "1",
        "trt_max_workspace_size": "1048576",
        "trt_engine_cache_enable": "1",
    }


def test_without_a_gpu_an_accelerated_model_runs_on_the_cpu(backend: ModuleType, tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    shape = ["batch", 1]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [info("x", TensorProto.FLOAT, shape)],
        [info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx"
    )
    config = configured({"accelerator": "tensorrt"})
    session = backend.session(tmp_path / "model.onnx", config, "CPU", 0)
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_an_accelerator_that_nobody_knows_is_refused(backend: ModuleType) -> None:
    config = {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tpu"}]}}}
    with pytest.raises(ValueError, match="unknown execution accelerator tpu"):
        backend.providers(config, {}, "GPU", 0)
