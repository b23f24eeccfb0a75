"""A Python-based Triton backend that answers for `backend: "onnxruntime"`, with ONNX Runtime inside.

It runs `<version>/model.onnx`. Triton looks for `<backend-directory>/onnxruntime/model.py` when the official backend
is not installed, so the same model repository runs here and on NVIDIA's image. The file stands alone: NumPy, ONNX
Runtime and what Triton provides.

All requests of one call that have the same inputs and shapes run as one batch. A request that fails gets its own error.
An input that has a value in the graph (an initializer of its name) is optional.
Of the config it reads max_batch_size, the kind of the instance, the graph's optimization level, the accelerators `cuda`
and `tensorrt`, and the parameters of the C++ backend. `intra_op_thread_count` and `inter_op_thread_count` are 1 by
default: with several requests in flight, more threads cost more than they give.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

# ONNX Runtime's name of a tensor type: (Triton's name, NumPy type of the tensor that ONNX Runtime takes)
TYPES: dict[str, tuple[str, Any]] = {
    "tensor(bool)": ("TYPE_BOOL", np.bool_),
    "tensor(uint8)": ("TYPE_UINT8", np.uint8),
    "tensor(uint16)": ("TYPE_UINT16", np.uint16),
    "tensor(uint32)": ("TYPE_UINT32", np.uint32),
    "tensor(uint64)": ("TYPE_UINT64", np.uint64),
    "tensor(int8)": ("TYPE_INT8", np.int8),
    "tensor(int16)": ("TYPE_INT16", np.int16),
    "tensor(int32)": ("TYPE_INT32", np.int32),
    "tensor(int64)": ("TYPE_INT64", np.int64),
    "tensor(float16)": ("TYPE_FP16", np.float16),
    "tensor(float)": ("TYPE_FP32", np.float32),
    "tensor(double)": ("TYPE_FP64", np.float64),
    "tensor(string)": ("TYPE_STRING", np.object_),
}


def read_strings(encoded: Any) -> np.ndarray:
    """Return the strings of a BYTES tensor (each after its length, 4 bytes little endian) as one-dimensional objects.

    Takes the place of Triton's own function, which returns `bytes`, one loop slower. What is not UTF-8 stays `bytes`,
    so that `execute` can refuse that request only.
    """
    data = bytes(encoded)
    strings: list[str | bytes] = []
    position, end = 0, len(data)
    while position < end:
        start = position + 4
        position = start + int.from_bytes(data[position:start], "little")
        text = data[start:position]
        try:
            strings.append(text.decode())
        except UnicodeDecodeError:
            strings.append(text)
    array = np.empty(len(strings), dtype=np.object_)
    array[:] = strings
    return array


def ordinary_priority() -> None:
    """Give this process the priority of the server again, if it was started at a lower one (by MEWS_GENTLE)."""
    lowered = os.environ.get("MEWS_GENTLE")
    if lowered is None:
        return
    with suppress(OSError):  # the kernel does not group by sessions
        Path("/proc/self/autogroup").write_text("0")
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended
            number = int(thread.name)
            os.setpriority(os.PRIO_PROCESS, number, os.getpriority(os.PRIO_PROCESS, number) - int(lowered))


# Batch sizes whose memory is kept, the latest used.
SLOTS = 64

pb_utils.deserialize_bytes_tensor = read_strings  # the stub looks the function up by name, once for each string tensor


GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
# Options of CUDA that are parameters of the model: the C++ backend's default, and its numbers for ONNX Runtime's names.
CUDA_PARAMETERS: dict[str, tuple[str, dict[str, str]]] = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"}),
    "arena_extend_strategy": ("kNextPowerOfTwo", {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"}),
    "gpu_mem_limit": (str(2**64 - 1), {}),
    "do_copy_in_default_stream": ("1", {}),
}
TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
TENSORRT_PRECISIONS = {"FP32": {}, **{name: {f"trt_{name.lower()}_enable": "1"} for name in ("FP16", "BF16", "INT8")}}


def session(model: Path, config: dict[str, Any], kind: str, device: int) -> ort.InferenceSession:
    """Open `model` with the settings that the C++ backend reads, as far as this ONNX Runtime has them."""
    parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    return ort.InferenceSession(
        model, session_options(config, parameters), providers=providers(config, parameters, kind, device)
    )


def session_options(config: dict[str, Any], parameters: dict[str, str]) -> ort.SessionOptions:
    """Return threads, memory and graph optimization of a model."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 1))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 1))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if parameters.get("execution_mode") == "1":
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    for parameter, attribute in (("enable_mem_arena", "enable_cpu_mem_arena"), ("enable_mem_pattern",) * 2):
        if parameter in parameters:
            setattr(options, attribute, is_true(parameters[parameter]))
    for entry in (name for name in parameters if name.startswith("session.")):
        options.add_session_config_entry(entry, parameters[entry])
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    return options


def providers(config: dict[str, Any], parameters: dict[str, str], kind: str, device: int) -> list[Any]:
    """Return the execution providers in order: on a GPU TensorRT if asked for, then CUDA; the CPU last.

    ValueError for an accelerator that the C++ backend does not know either.
    """
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    asked = {each["name"]: each.get("parameters", {}) for each in accelerators.get("gpu_execution_accelerator", ())}
    if unknown := sorted(set(asked) - {"cuda", "tensorrt"}):
        raise ValueError(f"unknown execution accelerator {', '.join(unknown)}")
    found = []
    if "GPU" in kind and "tensorrt" in asked:
        found.append(("TensorrtExecutionProvider", tensorrt_options(asked["tensorrt"])))
    if "GPU" in kind:
        found.append(("CUDAExecutionProvider", {**asked.get("cuda", {}), **cuda_options(parameters)}))
    known = ort.get_available_providers()
    usable = [(name, {**options, "device_id": str(device)}) for name, options in found if name in known]
    return [*usable, "CPUExecutionProvider"]


def cuda_options(parameters: dict[str, str]) -> dict[str, str]:
    """Return CUDA's options that are parameters of the model."""
    found = {}
    for name, (usual, names) in CUDA_PARAMETERS.items():
        value = parameters.get(name, usual)
        found[name] = names.get(value, value)
    return found


def tensorrt_options(parameters: dict[str, str]) -> dict[str, str]:
    """Return TensorRT's options by ONNX Runtime's names."""
    found = {
        TENSORRT_NAMES.get(name, name): str(int(is_true(value))) if value.lower() in ("true", "false") else value
        for name, value in parameters.items()
        if name != "precision_mode"
    }
    return found | TENSORRT_PRECISIONS[parameters.get("precision_mode", "FP32")]


def is_true(value: str) -> bool:
    """Read a boolean as the C++ backend does."""
    return value.lower() in ("1", "true")


def dims(shape: Sequence[int | str | None], batched: bool) -> list[int]:
    """Return Triton's dims of an ONNX shape: -1 for what is open, without the batch dimension if Triton adds it."""
    return [size if isinstance(size, int) else -1 for size in (shape[1:] if batched else shape)]


def sizes(names: list[str]) -> list[tuple[str, str, Any]]:
    """Return (input, the input whose lists it measures, how that is checked) for lengths and offsets of lists."""
    kinds = (("__length", "", check_lengths), ("__offsets", "__values", check_offsets))
    return [
        (name, values, check)
        for end, other, check in kinds
        for name in names
        if name.endswith(end) and (values := name[: -len(end)] + other) in names
    ]


def check_lengths(name: str, lengths: np.ndarray, values: str, padded: np.ndarray) -> None:
    """ValueError for a length that the padded lists [rows, width] do not have."""
    if lengths.size and (lengths.min() < 0 or lengths.max() > padded.shape[1]):
        raise ValueError(f"input {name!r}: a length is not in 0 to {padded.shape[1]}, the width of {values!r}")


def check_offsets(name: str, offsets: np.ndarray, values: str, elements: np.ndarray) -> None:
    """ValueError for offsets [rows + 1] that do not lead from 0, never back, to the end of the elements."""
    if (
        offsets.ndim != 1
        or not offsets.size
        or offsets[0] != 0
        or offsets[-1] != len(elements)
        or (offsets[1:] < offsets[:-1]).any()
    ):
        raise ValueError(f"input {name!r}: offsets do not rise from 0 to {len(elements)}, the elements of {values!r}")


class Slots:
    """Memory of one batch size, tied to a session once: rows are written into it and nothing is handed over per run.

    Handing 39 tensors to ONNX Runtime from Python takes longer than the graph. Only for inputs and outputs of numbers
    with a fixed shape behind the batch: ONNX Runtime binds no strings from Python.
    """

    def __init__(self, session: ort.InferenceSession, outputs: Sequence[str], rows: int) -> None:
        """Allocate `rows` rows of every input and of `outputs`."""
        made = {node.name: node for node in session.get_outputs()}
        self.inputs = {node.name: zeros(node, rows) for node in session.get_inputs()}
        self.outputs = [zeros(made[name], rows) for name in outputs]
        self._session, self._binding = session, session.io_binding()
        for name, array in self.inputs.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in zip(outputs, self.outputs, strict=True):
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))

    def run(self) -> list[np.ndarray]:
        """Run what is in `inputs`; the outputs are overwritten by the next run."""
        self._session.run_with_iobinding(self._binding)
        return self.outputs


def zeros(node: Any, rows: int) -> np.ndarray:
    """Return an array for `rows` rows of an input or output."""
    return np.zeros((rows, *node.shape[1:]), TYPES[node.type][1])


def has_slots(nodes: Sequence[Any]) -> bool:
    """Whether every tensor is numbers with an open batch and nothing else open."""
    return all(
        node.type != "tensor(string)"
        and len(node.shape) > 1
        and not isinstance(node.shape[0], int)
        and all(isinstance(size, int) for size in node.shape[1:])
        for node in nodes
    )


class TritonPythonModel:
    """One instance of one model; Triton makes it and calls it, one call at a time."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Add the inputs and outputs of the ONNX graph to a config that lists none."""
        known = config.as_dict()
        if known.get("input") and known.get("output"):
            return config
        graph = ort.InferenceSession(Path(pb_utils.get_model_dir()) / "model.onnx", providers=["CPUExecutionProvider"])
        batched = known.get("max_batch_size", 0) > 0
        for nodes, listed, add, more in (
            (graph.get_inputs(), known.get("input"), config.add_input, {}),
            (graph.get_overridable_initializers(), known.get("input"), config.add_input, {"optional": True}),
            (graph.get_outputs(), known.get("output"), config.add_output, {}),
        ):
            for node in () if listed else nodes:
                add({"name": node.name, "data_type": TYPES[node.type][0], "dims": dims(node.shape, batched), **more})
        return config

    def initialize(self, arguments: dict[str, str]) -> None:
        """Open the session and run one row of zeros, so that the first request finds memory allocated."""
        config = json.loads(arguments["model_config"])
        model = Path(pb_utils.get_model_dir()) / "model.onnx"
        kind, device = arguments["model_instance_kind"], int(arguments["model_instance_device_id"])
        self.batched = config["max_batch_size"] > 0
        self.session = session(model, config, kind, device)
        self.outputs = [node["name"] for node in config["output"]]
        inputs = [*self.session.get_inputs(), *self.session.get_overridable_initializers()]
        self.strings = [node.name for node in inputs if node.type == "tensor(string)"]
        tensors = [*inputs, *(node for node in self.session.get_outputs() if node.name in self.outputs)]
        self.bound = self.batched and has_slots(tensors)
        self.slots = functools.lru_cache(maxsize=SLOTS)(functools.partial(Slots, self.session, self.outputs))
        self.bools = [node.name for node in inputs if node.type == "tensor(bool)"]
        self.sizes = sizes([node.name for node in inputs])
        with suppress(Exception):  # one size for every open dimension need not make sense to the graph
            self.warm_up()
        ordinary_priority()

    def warm_up(self) -> None:
        """Run one row of zeros and empty strings."""
        self.run({
            node.name: np.full([size if isinstance(size, int) else 1 for size in node.shape], "", np.object_)
            if node.type == "tensor(string)"
            else np.zeros([size if isinstance(size, int) else 1 for size in node.shape], TYPES[node.type][1])
            for node in self.session.get_inputs()
        })  # fmt: skip

    def run(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs in the order of the config."""
        return self.session.run(self.outputs, feed)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response for each request, in order."""
        if self.bound:
            with suppress(Exception):  # ONNX Runtime's errors have no common base; below, each request gets its own
                return self.run_bound([request.inputs() for request in requests])
        feeds = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if len(feeds) == 1:
            return [self.single(feeds[0])]
        responses: list[Any] = [None] * len(feeds)
        for group in self.groups(feeds):
            for index, response in zip(group, self.batch([feeds[index] for index in group]), strict=True):
                responses[index] = response
        return responses

    def run_bound(self, requests: list[list[Any]]) -> list[Any]:
        """Return one response for each request, all run as one batch in memory that is tied to the session."""
        ends = list(itertools.accumulate(tensors[0].shape()[0] for tensors in requests))
        slots = self.slots(ends[-1])
        inputs, start = slots.inputs, 0
        for tensors, end in zip(requests, ends, strict=True):
            if len(tensors) != len(inputs):
                raise ValueError("an input is missing")  # or the row that was there before would be taken
            for tensor in tensors:
                inputs[tensor.name()][start:end] = tensor.as_numpy()
            start = end
        self.check(inputs)
        outputs = slots.run()
        starts = (0, *ends[:-1])
        return [
            self.respond([output[start:end] for output in outputs]) for start, end in zip(starts, ends, strict=True)
        ]

    def groups(self, feeds: list[dict[str, np.ndarray]]) -> list[list[int]]:
        """Return the requests that can be concatenated, by their places."""
        if not self.batched:
            return [[index] for index in range(len(feeds))]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for index, feed in enumerate(feeds):
            groups.setdefault(tuple((name, *array.shape[1:]) for name, array in feed.items()), []).append(index)
        return list(groups.values())

    def batch(self, feeds: list[dict[str, np.ndarray]]) -> list[Any]:
        """Run several requests as one; if that fails, each by itself, so that only the bad ones fail."""
        if len(feeds) == 1:
            return [self.single(feeds[0])]
        try:
            together = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
            self.check(together)
            outputs = self.run(together)
        except Exception:  # ONNX Runtime's errors have no common base
            return [self.single(feed) for feed in feeds]
        responses, start = [], 0
        for feed in feeds:
            end = start + len(next(iter(feed.values())))
            responses.append(self.respond([output[start:end] for output in outputs]))
            start = end
        return responses

    def single(self, feed: dict[str, np.ndarray]) -> Any:
        """Run one request; what goes wrong becomes its error."""
        try:
            self.check(feed)
            return self.respond(self.run(feed))
        except Exception as error:  # whatever it is, the others in flight must not fail with it
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def check(self, feed: dict[str, np.ndarray]) -> None:
        """Refuse what ONNX Runtime would take and answer with nonsense; ValueError names the input."""
        for name in self.strings:
            for text in feed[name].flat if name in feed else ():
                if type(text) is bytes:
                    raise ValueError(f"input {name!r}: a string is not UTF-8: {text[:80]!r}")
        for name in self.bools:
            if name in feed and feed[name].view(np.uint8).max(initial=0) > 1:
                raise ValueError(f"input {name!r}: a boolean is a byte that is neither 0 nor 1")
        for name, values, check in self.sizes:
            if name in feed and values in feed:
                check(name, feed[name], values, feed[values])

    def respond(self, outputs: list[np.ndarray]) -> Any:
        """Wrap the outputs of one request."""
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(name, output) for name, output in zip(self.outputs, outputs, strict=True)
        ])  # fmt: skip
