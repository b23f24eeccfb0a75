"""What a client asks and what it makes of the answers, without saying how a question is sent.

A conversation is a generator: it yields questions and is sent their answers, or thrown the Failure. `Client` sends
them one by one, `AsyncClient` awaits them; so both do the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from ensemble.client.canary import Canary
from ensemble.client.frames import Rows, to_frame
from ensemble.client.metadata import ModelMetadata
from ensemble.client.transport import Answer, Busy, Call, Failure, Refused, Reply, TimedOut, Unreachable
from ensemble.requests.encode import Array, did_you_mean, encode
from etl.dtypes import BY_TRITON
from etl.errors import (
    BusyError,
    RefusedError,
    RequestError,
    ServerError,
    TimedOutError,
    UnknownModelError,
    UnreachableError,
)
from etl.names import SCORE

_Result = TypeVar("_Result")


class Asking(TypedDict, total=False):
    """How one call is asked.

    `key` says who asks (a user, say): calls of one key go to the same version while a canary serves. `request_id` comes
    back in the answer and stands in the server's log. `priority` 1 is the highest, 0 the model's default.
    `queue_timeout` is how many seconds the request may wait in the server's queue. `deadline` is how many seconds the
    whole call may take, with all attempts.
    """

    key: str | int | None
    request_id: str
    priority: int
    queue_timeout: float | None
    deadline: float | None


@dataclass(frozen=True)
class Prediction:
    """The outputs for all rows, [rows, ...] by name, and which model answered.

    `versions` holds the version that answered, once for each request that the rows were sent in.
    """

    outputs: Mapping[str, Array]
    versions: tuple[str, ...]
    model: str
    request_id: str = ""

    @property
    def version(self) -> str:
        """The version that answered, empty for no rows; ServerError if it changed between the requests of one call."""
        if len(set(self.versions)) > 1:
            received = f"versions {', '.join(dict.fromkeys(self.versions))}"
            raise ServerError(f"answers of model {self.model!r}", expected="one version", received=received)
        return self.versions[0] if self.versions else ""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """The output `score`, float32 [rows], or [rows, k] of a model that answers with lists."""
        return flat(self.outputs[SCORE])


@dataclass(frozen=True)
class AskMetadata:
    """A question: what does the server say of this model?"""

    model: str


@dataclass(frozen=True)
class AskModels:
    """A question: which models are there, and why are they not ready?"""


@dataclass(frozen=True)
class AskScores:
    """A question for each part of the rows; each makes its call when its turn has come."""

    calls: Sequence[Callable[[], Call]]


Question = AskMetadata | AskModels | AskScores
Talk = Generator[Question, Any, _Result]


def flat(values: Array) -> npt.NDArray[np.float32]:
    """Return float32 [rows], or [rows, k] where each row has a list; RequestError for what is no such numbers."""
    if values.dtype == object or values.ndim > 2:
        received = f"{values.dtype} of shape {list(values.shape)}"
        raise RequestError("predict", expected="numbers, one or a list a row", received=received, hint="Use ask().")
    several = values.ndim == 2 and values.shape[1] != 1
    return (values if several else values.reshape(-1)).astype(np.float32, copy=False)


@dataclass
class Conversation:
    """What a client knows of its model: metadata, not older than `refresh` seconds, by the model's name."""

    url: str
    model: str
    protocol: str
    refresh: float
    _known: dict[str, tuple[float, ModelMetadata]] = field(default_factory=dict)

    def metadata(self, model: str = "") -> Talk[ModelMetadata]:
        """Return a model's metadata; what is old is used on if the server cannot be asked anew."""
        model = model or self.model
        known = self._known.get(model)
        if known is not None and time.monotonic() - known[0] < self.refresh:
            return known[1]
        try:
            answer: Answer = yield AskMetadata(model)
        except (Unreachable, TimedOut, Busy) as failure:
            if known is None:
                yield from self._explain(model, failure)
            metadata = known[1] if known is not None else None
        except Failure as failure:
            self._known.pop(model, None)
            yield from self._explain(model, failure)
        else:
            metadata = ModelMetadata.from_answer(answer)
        assert metadata is not None  # _explain raises
        self._known[model] = time.monotonic(), metadata
        return metadata

    def ask(self, rows: Rows, outputs: Sequence[str] = (SCORE,), **asking: Any) -> Talk[Prediction]:
        """Return the outputs for all rows; a candidate that cannot answer leaves the call to the stable version."""
        key = asking.pop("key", None)
        metadata = yield from self.metadata()
        canary = Canary.of(self.model, metadata.parameters)
        if canary is not None and canary.takes(key):
            try:
                candidate = yield from self.metadata(canary.name)
                return (yield from self._ask(candidate, rows, outputs, asking))
            except (UnknownModelError, BusyError):
                self._known.clear()
                metadata = yield from self.metadata()
        return (yield from self._ask(metadata, rows, outputs, asking))

    def infer(self, tensors: Mapping[str, Array], output: str) -> Talk[Array]:
        """Return one output for tensors as they are."""
        call = Call(self.model, tensors, (output,))
        replies = yield from self._send(self.model, [lambda: call])
        return replies[0].arrays[output]

    def _ask(
        self, metadata: ModelMetadata, rows: Rows, outputs: Sequence[str], asking: Mapping[str, Any]
    ) -> Talk[Prediction]:
        frame, call = to_frame(rows, metadata.request), _call(metadata.name, outputs, **asking)
        if frame.is_empty():
            encode(frame, metadata.request)
            return Prediction(_nothing(metadata, outputs), (), metadata.name, call.request_id)
        size = metadata.max_batch_size or frame.height
        starts = range(0, frame.height, size)
        calls = [partial(_part, call, frame.slice(start, size), metadata, start) for start in starts]
        replies = yield from self._send(metadata.name, calls)
        for start, reply in zip(starts, replies, strict=True):
            self._check(metadata.name, reply, min(size, frame.height - start))
        together = {name: _joined([reply.arrays[name] for reply in replies]) for name in outputs}
        return Prediction(together, tuple(reply.version for reply in replies), metadata.name, replies[0].request_id)

    def _send(self, model: str, calls: Sequence[Callable[[], Call]]) -> Talk[list[Reply]]:
        try:
            replies: list[Reply] = yield AskScores(calls)
        except Failure as failure:
            if isinstance(failure, Refused):
                self._known.clear()  # the model may have changed: the next call looks again
            yield from self._explain(model, failure)
        return replies

    def _check(self, model: str, reply: Reply, rows: int) -> None:
        for name, values in reply.arrays.items():
            if not values.ndim or len(values) != rows:
                subject = f"output {name!r} of model {model!r} at {self.url}"
                raise ServerError(subject, expected=f"{rows} rows", received=f"an array of shape {values.shape}")

    def _explain(self, model: str, failure: Failure) -> Generator[Question, Any, NoReturn]:
        """Raise what the failure is to the caller: what went wrong, and what to do."""
        text, where = str(failure), f"model {model!r} at {self.url}"
        if isinstance(failure, Unreachable | TimedOut):
            port = "HTTP" if self.protocol == "http" else "gRPC"
            kind = TimedOutError if isinstance(failure, TimedOut) else UnreachableError
            raise kind(
                f"no answer from Triton at {self.url} over {self.protocol}",
                received=text,
                hint=f"Start it with `mews serve`, or check the address and that the port is the one for {port}.",
            ).at(self.url, model) from failure
        if isinstance(failure, Busy):
            state = "is busy" if "queue" in text or "timeout" in text else "is not ready"
            raise BusyError(f"{where} {state}", received=text).at(self.url, model) from failure
        if "unknown model" not in text.lower() and "is not found" not in text:
            subject = f"the server at {self.url} refused the request to {model!r}"
            raise RefusedError(subject, received=text).at(self.url, model) from failure
        try:
            known: dict[str, str] = yield AskModels()
        except Failure:
            known = {}
        if model in known:
            why = known[model] or "it is not loaded"
            raise BusyError(f"{where} is not ready", received=why).at(self.url, model) from failure
        subject = f"unknown {where}{did_you_mean(model, sorted(known))}"
        listed = ", ".join(sorted(known)) or "none"
        raise UnknownModelError(subject, expected=f"one of: {listed}").at(self.url, model) from failure


def _call(
    model: str,
    outputs: Sequence[str],
    request_id: str = "",
    priority: int = 0,
    queue_timeout: float | None = None,
) -> Call:
    """A call without its tensors; RequestError for a time or priority that makes no sense."""
    if priority < 0:
        raise RequestError("priority", expected="0 for the default, or 1 and up, 1 the highest", received=str(priority))
    if queue_timeout is not None and queue_timeout <= 0:
        raise RequestError("queue_timeout", expected="seconds above 0", received=str(queue_timeout))
    if isinstance(outputs, str) or not outputs:
        raise RequestError("outputs", expected="a list of names", received=repr(outputs))
    limit = None if queue_timeout is None else max(round(queue_timeout * 1e6), 1)
    return Call(model, {}, tuple(outputs), request_id, priority, limit)


def _part(call: Call, rows: pl.DataFrame, metadata: ModelMetadata, first_row: int) -> Call:
    tensors = encode(rows, metadata.request, first_row)
    return Call(call.model, tensors, call.outputs, call.request_id, call.priority, call.queue_timeout_us)


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _nothing(metadata: ModelMetadata, outputs: Sequence[str]) -> dict[str, Array]:
    """No rows of each output, in its type and shape; RequestError for one that the model does not have."""
    known = {spec.name: spec for spec in metadata.outputs}
    for name in outputs:
        if name not in known:
            raise RequestError(f"output {name!r} of model {metadata.name!r}", expected=f"one of: {', '.join(known)}")
    shapes = {name: tuple(max(size, 0) for size in known[name].dims) for name in outputs}
    return {name: np.empty((0, *shapes[name]), dtype=BY_TRITON[known[name].dtype].numpy) for name in outputs}
