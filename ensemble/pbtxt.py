"""ModelSpec to config.pbtxt and back, through Triton's own protobuf; the only module that imports it."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from ensemble.execution import Batching, InstanceGroup, Latest, Optimization, Versions
from ensemble.message import fill, read
from ensemble.spec import ModelSpec, Step, TensorSpec, Warmup, WarmupTensor
from etl.errors import ArtifactError

_TO_CONFIG = {name.removeprefix("TYPE_"): number for name, number in pb.DataType.items()}
_TO_CONFIG["BYTES"] = _TO_CONFIG.pop("STRING")
_FROM_CONFIG = {number: name for name, number in _TO_CONFIG.items()}


def render(spec: ModelSpec) -> str:
    """Return config.pbtxt; ArtifactError when `spec` contradicts itself."""
    _check(spec)
    return str(text_format.MessageToString(_to_proto(spec)))


def parse(text: str) -> ModelSpec:
    """Read a config.pbtxt; ArtifactError when it is not one, or says something a ModelSpec cannot hold."""
    config = pb.ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise ArtifactError("config.pbtxt cannot be read", received=str(error)) from error
    return from_proto(config)


def from_proto(config: Any) -> ModelSpec:
    """Return the ModelSpec of a `ModelConfig` message; ArtifactError names the fields that it cannot hold."""
    spec = _read(config)
    written = _to_proto(spec)
    if written != config:
        lost = [f.name for f in config.DESCRIPTOR.fields if getattr(written, f.name) != getattr(config, f.name)]
        raise ArtifactError(
            f"model configuration of {config.name!r} has settings that Mews does not write",
            received=", ".join(lost),
            hint="Remove them, or edit config.pbtxt by hand and keep it out of Mews' exports.",
        )
    return spec


def _check(spec: ModelSpec) -> None:
    problems = [
        f"unknown type {t.dtype!r} of {t.name}" for t in spec.inputs + spec.outputs if t.dtype not in _TO_CONFIG
    ]
    if (spec.platform == "ensemble") != bool(spec.steps):
        problems.append('platform "ensemble" and steps go together')
    if spec.steps and (spec.batching or spec.instances or spec.backend or spec.optimization):
        problems.append("an ensemble has no batching, instances or backend of its own; its composing models have")
    if spec.batching is not None:
        problems += _batching_problems(spec.batching, spec.max_batch_size)
    problems += [problem for group in spec.instances for problem in _instance_problems(group)]
    if problems:
        raise ArtifactError(f"model {spec.name!r} cannot be configured", received="; ".join(problems))


def _batching_problems(batching: Batching, limit: int) -> list[str]:
    problems = []
    if limit < 1:
        problems.append("dynamic batching needs max_batch_size >= 1")
    elif any(size > limit for size in batching.preferred):
        problems.append(f"a preferred batch size is larger than max_batch_size {limit}")
    levels = batching.priority_levels
    if levels and not 1 <= batching.default_priority <= levels:
        problems.append(f"the default priority is {batching.default_priority}, of 1 to {levels}")
    if beyond := sorted(level for level in batching.priority_queues if not 1 <= level <= levels):
        problems.append(f"queue policies of priorities {beyond}, of 1 to {levels}")
    return problems


def _instance_problems(group: InstanceGroup) -> list[str]:
    problems = []
    if group.count < 1:
        problems.append(f"{group.count} instances, of at least 1")
    if group.gpus and group.kind in ("KIND_CPU", "KIND_MODEL"):
        problems.append(f"instances of {group.kind} cannot name GPUs")
    return problems


def _to_proto(spec: ModelSpec) -> Any:
    config = pb.ModelConfig(
        name=spec.name,
        platform=spec.platform,
        backend=spec.backend,
        max_batch_size=spec.max_batch_size,
        default_model_filename=spec.model_file,
    )
    for tensor in spec.inputs:
        config.input.add(
            name=tensor.name, data_type=_TO_CONFIG[tensor.dtype], dims=tensor.dims, optional=tensor.optional
        )
    for tensor in spec.outputs:
        config.output.add(name=tensor.name, data_type=_TO_CONFIG[tensor.dtype], dims=tensor.dims)
    if spec.batching is not None:
        fill(config.dynamic_batching, spec.batching)
    for group in spec.instances:
        fill(config.instance_group.add(), group)
    if spec.optimization is not None:
        fill(config.optimization, spec.optimization)
    if spec.response_cache is not None:
        config.response_cache.enable = spec.response_cache
        config.response_cache.SetInParent()
    _set_versions(config.version_policy, spec.versions)
    for key, value in spec.parameters.items():
        config.parameters[key].string_value = value
    for sample in spec.warmup:
        _add_warmup(config, sample)
    for step in spec.steps:
        added = config.ensemble_scheduling.step.add(model_name=step.model, model_version=step.version)
        added.input_map.update(step.input_map)
        added.output_map.update(step.output_map)
    return config


def _set_versions(policy: Any, versions: Versions) -> None:
    if isinstance(versions, Latest):
        policy.latest.num_versions = versions.count
    elif versions == "all":
        policy.all.SetInParent()
    elif versions:
        policy.specific.versions.extend(versions)


def _read_versions(policy: Any) -> Versions:
    choice = policy.WhichOneof("policy_choice")
    if choice == "latest":
        return Latest(policy.latest.num_versions)
    return "all" if choice == "all" else tuple(policy.specific.versions)


def _add_warmup(config: Any, sample: Warmup) -> None:
    added = config.model_warmup.add(name=sample.name, batch_size=sample.batch_size, count=sample.count)
    for tensor in sample.inputs:
        source = added.inputs[tensor.name]
        source.data_type = _TO_CONFIG[tensor.dtype]
        source.dims.extend(tensor.dims)
        if tensor.data in ("zero", "random"):
            setattr(source, f"{tensor.data}_data", True)
        else:
            source.input_data_file = tensor.data


def _read(config: Any) -> ModelSpec:
    has = config.HasField
    return ModelSpec(
        name=config.name,
        backend=config.backend,
        platform=config.platform,
        max_batch_size=config.max_batch_size,
        inputs=tuple(TensorSpec(t.name, _FROM_CONFIG[t.data_type], tuple(t.dims), t.optional) for t in config.input),
        outputs=tuple(TensorSpec(t.name, _FROM_CONFIG[t.data_type], tuple(t.dims)) for t in config.output),
        batching=read(config.dynamic_batching, Batching) if has("dynamic_batching") else None,
        instances=tuple(read(group, InstanceGroup) for group in config.instance_group),
        warmup=tuple(_read_warmup(sample) for sample in config.model_warmup),
        versions=_read_versions(config.version_policy),
        parameters={key: value.string_value for key, value in sorted(config.parameters.items())},
        steps=tuple(
            Step(step.model_name, dict(step.input_map), dict(step.output_map), step.model_version)
            for step in config.ensemble_scheduling.step
        ),
        optimization=read(config.optimization, Optimization) if has("optimization") else None,
        response_cache=config.response_cache.enable if has("response_cache") else None,
        model_file=config.default_model_filename,
    )


def _read_warmup(sample: Any) -> Warmup:
    tensors = []
    for name, source in sorted(sample.inputs.items()):
        choice = source.WhichOneof("input_data_type")
        data = source.input_data_file if choice == "input_data_file" else (choice or "zero").removesuffix("_data")
        tensors.append(WarmupTensor(name, _FROM_CONFIG[source.data_type], tuple(source.dims), data))
    return Warmup(sample.name, tuple(tensors), sample.batch_size, sample.count)
