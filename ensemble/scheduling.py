"""What pipeline.yaml says about queues, instances and devices, and how it becomes a model's configuration in Triton."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from ensemble.execution import (
    Accelerator,
    Batching,
    InstanceGroup,
    Kind,
    Optimization,
    QueuePolicy,
    RateLimiter,
    Resource,
)
from ensemble.spec import ModelSpec
from etl.errors import ConfigError
from etl.section import Section

if TYPE_CHECKING:
    from ensemble.config import ExportConfig

Device = Literal["auto", "cpu", "gpu", "model"]

KINDS: Mapping[str, Kind] = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU", "model": "KIND_MODEL"}
_GRAPH_LEVELS = {"all": None, "extended": 1, "basic": -1, "none": 2}
# The C++ backend takes these from the model's parameters, and overwrites what the accelerator says of them.
_CUDA_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "cudnn_conv_algo_search": {"EXHAUSTIVE": "0", "HEURISTIC": "1", "DEFAULT": "2"},
    "arena_extend_strategy": {"kNextPowerOfTwo": "0", "kSameAsRequested": "1"},
    "gpu_mem_limit": {},
    "do_copy_in_default_stream": {},
}
ACCELERATOR_OPTIONS: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "cuda": frozenset(_CUDA_PARAMETERS)
    | {
        "cudnn_conv1d_pad_to_nc1d", "cudnn_conv_use_max_workspace", "enable_cuda_graph",
        "enable_skip_layer_norm_strict_mode", "fuse_conv_bias", "prefer_nhwc", "sdpa_kernel", "tunable_op_enable",
        "tunable_op_max_tuning_duration_ms", "tunable_op_tuning_enable", "use_ep_level_unified_stream", "use_tf32",
    },
    "tensorrt": frozenset({
        "int8_calibration_table_name", "int8_use_native_calibration_table", "max_workspace_size_bytes",
        "precision_mode", "trt_auxiliary_streams", "trt_build_heuristics_enable", "trt_builder_optimization_level",
        "trt_context_memory_sharing_enable", "trt_cuda_graph_enable", "trt_detailed_build_log", "trt_dla_core",
        "trt_dla_enable", "trt_dump_ep_context_model", "trt_dump_subgraphs", "trt_engine_cache_enable",
        "trt_engine_cache_path", "trt_engine_cache_prefix", "trt_ep_context_embed_mode", "trt_ep_context_file_path",
        "trt_extra_plugin_lib_paths", "trt_force_sequential_engine_build", "trt_force_timing_cache",
        "trt_layer_norm_fp32_fallback", "trt_max_partition_iterations", "trt_min_subgraph_size",
        "trt_profile_max_shapes", "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_sparsity_enable",
        "trt_tactic_sources", "trt_timing_cache_enable", "trt_timing_cache_path",
    }),
}  # fmt: skip
"""Options of each accelerator, by the names of Triton's onnxruntime backend."""


class QueueConfig(Section):
    """What becomes of requests that wait."""

    timeout_microseconds: int = Field(default=0, ge=0)
    """How long a request may wait; 0 is without limit."""
    on_timeout: Literal["reject", "delay"] = "reject"
    """A request that waited longer is refused, or comes after all others."""
    own_timeouts: bool = False
    """A request may bring a timeout of its own, if it is shorter."""
    max_requests: int = Field(default=0, ge=0)
    """How many requests may wait, the next is refused; 0 is without limit."""

    @property
    def policy(self) -> QueuePolicy:
        """The same as Triton wants it."""
        action: Literal["REJECT", "DELAY"] = "REJECT" if self.on_timeout == "reject" else "DELAY"
        return QueuePolicy(action, self.timeout_microseconds, self.own_timeouts, self.max_requests)


class SchedulingConfig(Section):
    """In what order, and how long, requests wait for a composing model; and whether answers are kept."""

    priority_levels: int = Field(default=0, ge=0)
    """Queues by priority, of which 1 goes first; 0 is one queue for all."""
    default_priority: int = Field(default=0, ge=0)
    """Priority of a request that says none; 0 is the last level."""
    queue: QueueConfig = Field(default_factory=QueueConfig)
    """Timeouts and length of every queue."""
    priority_queues: dict[int, QueueConfig] = Field(default_factory=dict)
    """The same for single levels."""
    preserve_ordering: bool = False
    """Answers come in the order of their requests, also with several instances."""
    response_cache: bool = False
    """Keep the ensemble's answers; the server needs a cache (serve.cache_bytes)."""

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if self.default_priority > self.priority_levels:
            raise ValueError(f"default_priority {self.default_priority} of {self.priority_levels} priority_levels")
        beyond = sorted(level for level in self.priority_queues if not 1 <= level <= self.priority_levels)
        if beyond:
            raise ValueError(f"priority_queues {beyond} of {self.priority_levels} priority_levels")
        return self


class RateLimitConfig(Section):
    """What instances share when the server limits rates (serve.rate_limit)."""

    resources: dict[str, int] = Field(default_factory=dict)
    """How much of each resource, of one device, an instance holds while it runs."""
    shared_resources: dict[str, int] = Field(default_factory=dict)
    """The same of resources that all devices share."""
    priority: int = Field(default=0, ge=0)
    """Instances of priority 2 run half as often as those of priority 1; 0 is 1."""


class PlacementConfig(Section):
    """Where and how one composing model runs; what is absent is as export says for all."""

    instances: int | None = Field(default=None, ge=1)
    """Execution instances, of each GPU where they run on GPUs."""
    device: Device | None = None
    """Instance group kind; model leaves it to the backend."""
    gpus: list[int] = Field(default_factory=list)
    """Numbers of the GPUs; all if empty."""
    threads: int | None = Field(default=None, ge=1)
    """ONNX Runtime threads within an operator."""
    inter_threads: int | None = Field(default=None, ge=1)
    """ONNX Runtime threads across operators, which then run in parallel."""
    preferred_batch_sizes: list[int] | None = None
    """Batch sizes the dynamic batcher sends at once."""
    max_queue_delay_microseconds: int | None = Field(default=None, ge=0)
    """How long a request may wait for others to share its batch."""
    rate_limit: RateLimitConfig | None = None
    """What an instance needs before it runs."""
    host_policy: str = ""
    """Name of a policy that tritonserver was given with --host-policy."""
    profile: list[str] = Field(default_factory=list)
    """Optimization profiles, of backends that have them."""
    accelerator: Literal["none", "cuda", "tensorrt"] = "none"
    """Execution provider on a GPU with options of its own; none is CUDA as the backend has it."""
    accelerator_options: dict[str, StrictBool | StrictInt | StrictStr] = Field(default_factory=dict)
    """Its options, by the names of Triton's onnxruntime backend."""
    graph_optimization: Literal["all", "extended", "basic", "none"] = "all"
    """How far ONNX Runtime rewrites the graph when it loads it."""
    pinned_memory: bool | None = None
    """Pinned buffers on the way to and from a GPU; Triton has them on."""
    memory_arena: bool | None = None
    """ONNX Runtime keeps freed memory; it does unless told."""
    response_cache: bool = False
    """Keep this model's answers; the server needs a cache (serve.cache_bytes)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unknown = sorted(set(self.accelerator_options) - ACCELERATOR_OPTIONS[self.accelerator])
        if unknown:
            raise ValueError(f"accelerator {self.accelerator} has no options {', '.join(unknown)}")
        if self.device in ("cpu", "model") and (self.gpus or self.accelerator != "none"):
            raise ValueError(f"gpus and accelerator are for device auto or gpu, not {self.device}")
        for name, names in _CUDA_PARAMETERS.items():
            value = self.accelerator_options.get(name)
            if names and value is not None and value not in names:
                raise ValueError(f"{name}: expected one of {', '.join(names)}, received {value!r}")
        return self


def check_placement(config: ExportConfig, roles: Iterable[str]) -> None:
    """ConfigError if export.placement names a role that the export does not have."""
    known = sorted(roles)
    if unknown := sorted(set(config.placement) - set(known)):
        raise ConfigError(
            f"export.placement of {', '.join(unknown)}",
            expected=f"composing models of this export: {', '.join(known)}",
            hint="They follow from export.shape.",
        )


def scheduled(spec: ModelSpec, config: ExportConfig, role: str) -> ModelSpec:
    """Return `spec` with all that `config` says about how it runs: queue, batches, instances, devices, parameters.

    Of an ensemble (`spec.steps`) that is its response cache; `role` is then of no use.
    """
    if spec.steps:
        return replace(spec, response_cache=config.scheduling.response_cache or None)
    place = config.placement.get(role, PlacementConfig())
    return replace(
        spec,
        batching=_batching(config, place) if spec.max_batch_size else None,
        instances=(_instances(config, place),),
        optimization=_optimization(place),
        response_cache=place.response_cache or None,
        parameters={**spec.parameters, **_parameters(config, place)},
    )


def _batching(config: ExportConfig, place: PlacementConfig) -> Batching:
    asked, delay = place.preferred_batch_sizes, place.max_queue_delay_microseconds
    scheduling = config.scheduling
    policy = scheduling.queue.policy
    return Batching(
        preferred=tuple(config.preferred_batch_sizes if asked is None else asked),
        delay_us=config.max_queue_delay_microseconds if delay is None else delay,
        preserve_ordering=scheduling.preserve_ordering,
        priority_levels=scheduling.priority_levels,
        default_priority=scheduling.default_priority or scheduling.priority_levels,
        queue=None if policy == QueuePolicy() else policy,
        priority_queues={level: queue.policy for level, queue in scheduling.priority_queues.items()},
    )


def _instances(config: ExportConfig, place: PlacementConfig) -> InstanceGroup:
    return InstanceGroup(
        count=place.instances or config.instances,
        kind=KINDS[place.device or config.device],
        gpus=tuple(place.gpus),
        rate_limiter=None if place.rate_limit is None else _rate_limiter(place.rate_limit),
        host_policy=place.host_policy,
        profile=tuple(place.profile),
    )


def _rate_limiter(limit: RateLimitConfig) -> RateLimiter:
    kinds = ((limit.resources, False), (limit.shared_resources, True))
    resources = (Resource(name, count, shared) for held, shared in kinds for name, count in held.items())
    return RateLimiter(tuple(resources), limit.priority)


def _optimization(place: PlacementConfig) -> Optimization | None:
    options = {name: _text(value) for name, value in place.accelerator_options.items() if name not in _CUDA_PARAMETERS}
    accelerated = place.accelerator == "tensorrt" or options
    asked = Optimization(
        graph_level=_GRAPH_LEVELS[place.graph_optimization],
        gpu_accelerators=(Accelerator(place.accelerator, options),) if accelerated else (),
        input_pinned=place.pinned_memory,
        output_pinned=place.pinned_memory,
    )
    return None if asked == Optimization() else asked


def _parameters(config: ExportConfig, place: PlacementConfig) -> dict[str, str]:
    """Return what the onnxruntime backend reads from a model's parameters."""
    parameters = {"intra_op_thread_count": str(place.threads or config.threads)}
    if place.inter_threads is not None:
        parameters |= {"execution_mode": "1", "inter_op_thread_count": str(place.inter_threads)}
    if place.memory_arena is not None:
        parameters["enable_mem_arena"] = _text(place.memory_arena)
    for name, names in _CUDA_PARAMETERS.items():
        if name in place.accelerator_options:
            value = _text(place.accelerator_options[name])
            parameters[name] = names.get(value, value)
    return parameters


def _text(value: bool | int | str) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
