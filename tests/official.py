"""Whether a model repository is one that NVIDIA's images serve, read with Triton's own protobuf and with onnx only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

# What ONNX Runtime 1.18 takes, the oldest in a supported image (ensemble/server/supported.py).
OPSETS = {"": 21, "ai.onnx.ml": 4}
IR_VERSION = 10
_TYPES = {
    onnx.TensorProto.BOOL: "TYPE_BOOL",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.UINT16: "TYPE_UINT16",
    onnx.TensorProto.UINT32: "TYPE_UINT32",
    onnx.TensorProto.UINT64: "TYPE_UINT64",
    onnx.TensorProto.INT8: "TYPE_INT8",
    onnx.TensorProto.INT16: "TYPE_INT16",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.STRING: "TYPE_STRING",
}
_FOREIGN = ("/tmp", "mews-", "triton_models", "pytriton", "python", "model.py")
_Tensor = tuple[str, tuple[int, ...]]


def problems(repository: Path) -> list[str]:
    """Return everything that would keep an official image from serving `repository`, as sentences."""
    configs = {path.parent.name: _read(path) for path in sorted(repository.glob("*/config.pbtxt"))}
    found = [] if configs else [f"no models in {repository}"]
    for path in sorted(repository.rglob("*.pbtxt")):
        found += [f"{path}: refers to {word}" for word in _FOREIGN if word in path.read_text(encoding="utf-8")]
    found += [f"{path}: a program" for path in sorted(repository.rglob("*.py"))]
    found += [f"{path}: a link" for path in sorted(repository.rglob("*")) if path.is_symlink()]
    for name, config in configs.items():
        check = (
            _ensemble_problems(config, configs)
            if config.platform == "ensemble"
            else _model_problems(repository, config)
        )
        found += [f"{name}: {problem}" for problem in check]
        if config.name != name:
            found.append(f"{name}: its configuration is of {config.name!r}")
    return found


def _read(path: Path) -> Any:
    return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())


def _model_problems(repository: Path, config: Any) -> Iterator[str]:
    folder, batched = repository / config.name, config.max_batch_size > 0
    if (config.backend, config.platform) != ("onnxruntime", ""):
        yield f"backend {config.backend!r}, platform {config.platform!r}"
    versions = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
    if not versions:
        yield "no version"
    for version in versions:
        file = version / (config.default_model_filename or "model.onnx")
        if not file.is_file():
            yield f"{file} is missing"
            continue
        yield from _graph_problems(onnx.load(file, load_external_data=False), config, batched)
    for sample in config.model_warmup:
        for tensor in sample.inputs.values():
            if tensor.input_data_file and not (folder / "warmup" / tensor.input_data_file).is_file():
                yield f"warm-up file {tensor.input_data_file} is missing"
    for group in config.instance_group:
        if pb.ModelInstanceGroup.Kind.Name(group.kind) == "KIND_MODEL":
            yield "KIND_MODEL, which the onnxruntime backend refuses"


def _graph_problems(model: onnx.ModelProto, config: Any, batched: bool) -> Iterator[str]:
    for opset in model.opset_import:
        if opset.version > OPSETS.get(opset.domain, 0):
            yield f"opset {opset.version} of {opset.domain or 'ONNX'!r}"
    if model.ir_version > IR_VERSION:
        yield f"IR version {model.ir_version}"
    given = {tensor.name for tensor in model.graph.initializer}
    inputs, outputs = (_of_graph(values, batched) for values in (model.graph.input, model.graph.output))
    for tensor in config.input:
        yield from _same(inputs.pop(tensor.name, None), _of_config(tensor), f"input {tensor.name!r}")
    for tensor in config.output:
        yield from _same(outputs.get(tensor.name), _of_config(tensor), f"output {tensor.name!r}")
    yield from (f"input {name!r} of the graph is not in the configuration" for name in inputs if name not in given)


def _of_graph(values: Any, batched: bool) -> dict[str, _Tensor]:
    found = {}
    for value in values:
        kind = value.type.tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
        found[value.name] = (_TYPES[kind.elem_type], dims[1:] if batched else dims)
    return found


def _of_config(tensor: Any) -> _Tensor:
    return pb.DataType.Name(tensor.data_type), tuple(tensor.dims)


def _same(found: _Tensor | None, told: _Tensor, what: str) -> Iterator[str]:
    if found is None:
        yield f"{what} is not in the graph"
    elif found != told:
        yield f"{what} is {told}, in the graph {found}"


def _ensemble_problems(config: Any, configs: dict[str, Any]) -> Iterator[str]:
    if config.backend or config.instance_group or config.HasField("dynamic_batching"):
        yield "an ensemble with a backend, instances or batching"
    wires = {tensor.name: _of_config(tensor) for tensor in config.input}
    read: set[str] = set()
    for step in config.ensemble_scheduling.step:
        model = configs.get(step.model_name)
        if model is None or step.model_version not in (-1, 1):
            yield f"step {step.model_name!r} version {step.model_version} is not in the repository"
            continue
        if model.max_batch_size < config.max_batch_size:
            yield f"step {step.model_name!r} takes smaller batches"
        inputs = {tensor.name: _of_config(tensor) for tensor in model.input}
        outputs = {tensor.name: _of_config(tensor) for tensor in model.output}
        optional = {tensor.name for tensor in model.input if tensor.optional}
        yield from (
            f"input {name!r} of {step.model_name!r} is not fed" for name in inputs.keys() - step.input_map - optional
        )
        for name, wire in step.input_map.items():
            read.add(wire)
            yield from _joined(wires.get(wire), inputs.get(name), f"{wire!r} to {step.model_name}/{name}")
        for name, wire in step.output_map.items():
            if name not in outputs or wire in wires:
                yield f"output {name!r} of {step.model_name!r} does not exist, or {wire!r} is made twice"
            else:
                wires[wire] = outputs[name]
    for tensor in config.output:
        yield from _joined(wires.get(tensor.name), _of_config(tensor), f"output {tensor.name!r}")
    yield from (f"input {tensor.name!r} is read by no step" for tensor in config.input if tensor.name not in read)


def _joined(source: _Tensor | None, target: _Tensor | None, what: str) -> Iterator[str]:
    """Types are equal and sizes too, where both are known."""
    if source is None or target is None:
        yield f"{what}: one end is missing"
        return
    pairs = zip(source[1], target[1], strict=False)
    fits = len(source[1]) == len(target[1]) and all(left == right or -1 in (left, right) for left, right in pairs)
    if source[0] != target[0] or not fits:
        yield f"{what}: {source} and {target}"
