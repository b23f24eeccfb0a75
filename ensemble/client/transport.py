"""What passes between a client and a protocol: a call, a reply, a model's metadata, and four ways to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ensemble.requests.encode import Array
from etl.names import SCORE

_Answer = TypeVar("_Answer")
_Tensor = tuple[str, str, tuple[int, ...]]


class Failure(Exception):  # noqa: N818 - internal; the client turns it into an error of etl/errors.py
    """A question that was not answered as hoped; the text says why."""


class Unreachable(Failure):
    """No answer: nobody listens, or the connection broke."""


class TimedOut(Failure):
    """No answer within the time given."""


class Busy(Failure):
    """The server answered that the model cannot answer now."""


class Refused(Failure):
    """The server answered that it will not; the text is its own."""


@dataclass(frozen=True)
class Answer:
    """A model's metadata as the server tells it: (name, type, shape with the batch)."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    max_batch_size: int
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Call:
    """One inference request, which may wait `queue_timeout_us` in the server's queue; None is the model's own limit."""

    model: str
    tensors: Mapping[str, Array]
    outputs: tuple[str, ...] = (SCORE,)
    request_id: str = ""
    priority: int = 0
    queue_timeout_us: int | None = None


@dataclass(frozen=True)
class Reply:
    """The outputs of one call, and the version of the model that made them."""

    arrays: Mapping[str, Array]
    version: str
    request_id: str


class Transport(Protocol):
    """What the client needs of a protocol; every method may raise a Failure, and takes at most `timeout` seconds."""

    def is_ready(self, model: str, timeout: float) -> bool:
        """True when server and model are ready."""

    def metadata(self, model: str, timeout: float) -> Answer:
        """Return names, types and shapes."""

    def models(self, timeout: float) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""

    def infer(self, call: Call, timeout: float) -> Reply:
        """Return the outputs of one request."""

    def run_all(self, tasks: Iterable[Callable[[], _Answer]]) -> list[_Answer]:
        """Run tasks, several at a time; answers in order, and the first error is raised."""

    def close(self) -> None:
        """Close every connection."""


class AsyncTransport(Protocol):
    """The same as coroutines; the client itself runs several at a time."""

    async def is_ready(self, model: str, timeout: float) -> bool:
        """True when server and model are ready."""

    async def metadata(self, model: str, timeout: float) -> Answer:
        """Return names, types and shapes."""

    async def models(self, timeout: float) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""

    async def infer(self, call: Call, timeout: float) -> Reply:
        """Return the outputs of one request."""

    async def close(self) -> None:
        """Close every connection."""


def late(timeout: float) -> TimedOut:
    """The failure of a question that took too long."""
    return TimedOut(f"nothing within {timeout:.3g} s")


def words(error: InferenceServerException) -> str:
    """Return what the server said, without the identifier that the caller knows."""
    text = str(error.message())
    if text.startswith("[request id: "):
        text = text.partition("] ")[2] or text
    return text.rstrip(". ")


def tensors_of(module: Any, tensors: Mapping[str, Array]) -> list[Any]:
    """Return the inputs as `module` (tritonclient.http or .grpc) wants them."""
    inputs = []
    for name, values in tensors.items():
        tensor = module.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        inputs.append(tensor.set_data_from_numpy(values))
    return inputs


def arguments(module: Any, call: Call, inputs: list[Any] | None = None) -> dict[str, Any]:
    """Return a call as the arguments of tritonclient's `infer`; `inputs` if they are not simply the tensors."""
    return {
        "model_name": call.model,
        "inputs": tensors_of(module, call.tensors) if inputs is None else inputs,
        "outputs": [module.InferRequestedOutput(name) for name in call.outputs],
        "request_id": call.request_id,
        "priority": call.priority,
        "timeout": call.queue_timeout_us,
    }


def reply(result: Any, call: Call, version: str, request_id: str) -> Reply:
    """Return tritonclient's result as arrays; Refused when an output is not in it."""
    arrays = {}
    for name in call.outputs:
        values = result.as_numpy(name)
        if values is None:
            raise Refused(f"the answer has no output {name!r}")
        arrays[name] = np.asarray(values)
    return Reply(arrays, version, request_id)
