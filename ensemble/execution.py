"""How Triton runs one model: queue, batches, instances, accelerators; the parts of a ModelSpec that say so.

Each field is annotated with its place in Triton's protobuf, dots for messages within; `message.py` reads and writes by
it, and the official documentation explains it. Times are microseconds. None says nothing, and Triton's default holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

Kind = Literal["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"]


@dataclass(frozen=True)
class QueuePolicy:
    """What becomes of requests that wait: for how long, and how many; 0 is without limit.

    A request that waits longer is refused (REJECT), or comes after all others (DELAY). With `allow_override` it may
    bring a shorter timeout of its own.
    """

    action: Annotated[Literal["REJECT", "DELAY"], "timeout_action"] = "REJECT"
    timeout_us: Annotated[int, "default_timeout_microseconds"] = 0
    allow_override: Annotated[bool, "allow_timeout_override"] = False
    max_size: Annotated[int, "max_queue_size"] = 0


@dataclass(frozen=True)
class Batching:
    """Dynamic batching: sizes to send at once, how long a request may wait for others, and in what order they go.

    Priority 1 goes first; `priority_levels` 0 is one queue. `priority_queues` has policies of levels of their own.
    """

    preferred: Annotated[tuple[int, ...], "preferred_batch_size"] = ()
    delay_us: Annotated[int, "max_queue_delay_microseconds"] = 0
    preserve_ordering: Annotated[bool, "preserve_ordering"] = False
    priority_levels: Annotated[int, "priority_levels"] = 0
    default_priority: Annotated[int, "default_priority_level"] = 0
    queue: Annotated[QueuePolicy | None, "default_queue_policy"] = None
    priority_queues: Annotated[Mapping[int, QueuePolicy], "priority_queue_policy"] = field(default_factory=dict)


@dataclass(frozen=True)
class Resource:
    """What an instance holds while it runs, such as memory; `shared` counts it once for all devices."""

    name: Annotated[str, "name"] = ""
    count: Annotated[int, "count"] = 1
    shared: Annotated[bool, "global"] = False


@dataclass(frozen=True)
class RateLimiter:
    """What an instance needs before it runs, and its share: `priority` 2 runs half as often as 1."""

    resources: Annotated[tuple[Resource, ...], "resources"] = ()
    priority: Annotated[int, "priority"] = 0


@dataclass(frozen=True)
class InstanceGroup:
    """How many instances of a model run, and on what; `gpus` empty means all of them."""

    count: Annotated[int, "count"] = 1
    kind: Annotated[Kind, "kind"] = "KIND_AUTO"
    gpus: Annotated[tuple[int, ...], "gpus"] = ()
    name: Annotated[str, "name"] = ""
    rate_limiter: Annotated[RateLimiter | None, "rate_limiter"] = None
    host_policy: Annotated[str, "host_policy"] = ""
    profile: Annotated[tuple[str, ...], "profile"] = ()
    passive: Annotated[bool, "passive"] = False


@dataclass(frozen=True)
class Accelerator:
    """An execution provider by the name that the backend knows, `cuda` or `tensorrt`, and its options."""

    name: Annotated[str, "name"] = ""
    parameters: Annotated[Mapping[str, str], "parameters"] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """The dims of one input of a CUDA graph, without the batch."""

    dims: Annotated[tuple[int, ...], "dim"] = ()


@dataclass(frozen=True)
class GraphBound:
    """The smallest batch and inputs that a CUDA graph answers for."""

    batch_size: Annotated[int, "batch_size"] = 0
    inputs: Annotated[Mapping[str, Shape], "input"] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphSpec:
    """One CUDA graph to capture."""

    batch_size: Annotated[int, "batch_size"] = 0
    inputs: Annotated[Mapping[str, Shape], "input"] = field(default_factory=dict)
    lower: Annotated[GraphBound | None, "graph_lower_bound"] = None


@dataclass(frozen=True)
class Cuda:
    """CUDA graphs and streams of a model."""

    graphs: Annotated[bool, "graphs"] = False
    busy_wait_events: Annotated[bool, "busy_wait_events"] = False
    graph_specs: Annotated[tuple[GraphSpec, ...], "graph_spec"] = ()
    output_copy_stream: Annotated[bool, "output_copy_stream"] = False


@dataclass(frozen=True)
class Optimization:
    """How the backend prepares a model, and how tensors reach it.

    `graph_level` is the onnxruntime backend's: -1 basic, 1 extended, 2 none; all optimizations if None.
    """

    graph_level: Annotated[int | None, "graph.level"] = None
    priority: Annotated[Literal["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"], "priority"] = "PRIORITY_DEFAULT"
    cuda: Annotated[Cuda | None, "cuda"] = None
    gpu_accelerators: Annotated[tuple[Accelerator, ...], "execution_accelerators.gpu_execution_accelerator"] = ()
    cpu_accelerators: Annotated[tuple[Accelerator, ...], "execution_accelerators.cpu_execution_accelerator"] = ()
    input_pinned: Annotated[bool | None, "input_pinned_memory.enable"] = None
    output_pinned: Annotated[bool | None, "output_pinned_memory.enable"] = None
    gather_threshold: Annotated[int, "gather_kernel_buffer_threshold"] = 0
    eager_batching: Annotated[bool, "eager_batching"] = False


@dataclass(frozen=True)
class Latest:
    """The newest `count` versions of a model."""

    count: int = 1


Versions = tuple[int, ...] | Latest | Literal["all"]
"""Which versions of a model serve: exactly these (none: as Triton has it, the newest), the newest few, or all."""
