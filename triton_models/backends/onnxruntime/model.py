"""A Python-based Triton backend that answers for `backend: "onnxruntime"`, with ONNX Runtime inside.

It runs `<version>/model.onnx`. Triton looks for `<backend-directory>/onnxruntime/model.py` when the official backend
is not installed, so the same model repository runs here and on NVIDIA's image. The file stands alone: NumPy, ONNX
Runtime and what Triton provides.

All requests of one call that have the same inputs and shapes run as one batch. A request that fails gets its own error.
An input that has a value in the graph (an initializer of its name) is optional.
Of the config it reads: max_batch_size, the kind of the instance, and the parameters of the C++ backend
`intra_op_thread_count` and `inter_op_thread_count` (1 by default: with several requests in flight, more threads
cost more than they give).
"""

from __future__ import annotations

import json
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


pb_utils.deserialize_bytes_tensor = read_strings  # the stub looks the function up by name, once for each string tensor


def session(model: Path, config: dict[str, Any], kind: str, device: int) -> ort.InferenceSession:
    """Open `model`; CUDA comes first where the instance is on a GPU and ONNX Runtime has it."""
    parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 1))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 1))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if "GPU" in kind and "CUDAExecutionProvider" in ort.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device}))
    return ort.InferenceSession(model, options, providers=providers)


def dims(shape: Sequence[int | str | None], batched: bool) -> list[int]:
    """Return Triton's dims of an ONNX shape: -1 for what is open, without the batch dimension if Triton adds it."""
    return [size if isinstance(size, int) else -1 for size in (shape[1:] if batched else shape)]


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
        with suppress(Exception):  # one size for every open dimension need not make sense to the graph
            self.warm_up()

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
        feeds = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if len(feeds) == 1:
            return [self.single(feeds[0])]
        responses: list[Any] = [None] * len(feeds)
        for group in self.groups(feeds):
            for index, response in zip(group, self.batch([feeds[index] for index in group]), strict=True):
                responses[index] = response
        return responses

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
        """Refuse strings that are not UTF-8."""
        for name in self.strings:
            for text in feed[name].flat if name in feed else ():
                if type(text) is bytes:
                    raise ValueError(f"input {name!r}: a string is not UTF-8: {text!r}")

    def respond(self, outputs: list[np.ndarray]) -> Any:
        """Wrap the outputs of one request."""
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(name, output) for name, output in zip(self.outputs, outputs, strict=True)
        ])  # fmt: skip
