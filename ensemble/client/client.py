"""Asks a Triton server for scores: raw rows in, one float32 for each row out.

What the model takes is read from the server. An export says it in its parameters (`mews.request`). Any other ensemble
of raw columns can be asked too: a tensor with an `x__length` beside it is a list, a signed integer, float or string can
be null (see etl/dtypes.py for how).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from ensemble.client.address import address_of, check
from ensemble.client.conversation import (
    Asking,
    AskMetadata,
    AskModels,
    Conversation,
    Prediction,
    Question,
    Talk,
    flat,
)
from ensemble.client.frames import Rows
from ensemble.client.grpc_transport import GrpcTransport
from ensemble.client.http_transport import HttpTransport
from ensemble.client.metadata import ModelMetadata
from ensemble.client.patience import Patience
from ensemble.client.transport import Call, Failure, Reply, Transport
from ensemble.config import Protocol
from ensemble.requests.encode import Array
from etl.names import SCORE

__all__ = ["Client", "ModelMetadata", "Prediction"]

_Result = TypeVar("_Result")

_TRANSPORTS: dict[str, Callable[[str, float, int, bool], Transport]] = {"http": HttpTransport, "grpc": GrpcTransport}


class Client:
    """A connection to one model of a Triton server; a context manager.

    `url` is host:port, with or without http:// or grpc://. `timeout` (seconds) holds for each attempt, `deadline` for a
    whole call with all its attempts, None for no limit. A server that cannot be reached, or is too busy, is asked
    `attempts` times in all; any other answer, good or bad, is final. Frames larger than the model's max_batch_size go
    as several requests, up to `concurrency` at a time. What the server says of the model is asked again after `refresh`
    seconds. `shared_memory` hands the inputs over in /dev/shm, to a server on this machine. Use a Client from one
    thread.
    """

    def __init__(
        self,
        url: str,
        model: str = "mews",
        *,
        protocol: Protocol = "http",
        timeout: float = 30.0,
        deadline: float | None = None,
        attempts: int = 3,
        concurrency: int = 2,
        refresh: float = 10.0,
        shared_memory: bool = False,
    ) -> None:
        """RequestError for a URL, protocol or time that makes no sense; nothing is sent yet."""
        check(protocol, timeout=timeout, deadline=deadline)
        self.url, self.model, self.protocol = url, model, protocol
        self._concurrency = max(concurrency, 1)
        address = address_of(url, protocol)
        self._transport = _TRANSPORTS[protocol](address, timeout, self._concurrency, shared_memory)
        self._patience = Patience(max(attempts, 1), timeout, deadline)
        self._talk = Conversation(url, model, protocol, refresh)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._transport.close()

    def is_ready(self) -> bool:
        """True when the server answers and has the model ready; False in any other case, without retries."""
        try:
            return self._transport.is_ready(self.model, self._patience.timeout)
        except Failure:
            return False

    def metadata(self) -> ModelMetadata:
        """Return what the server says of the model, at most `refresh` seconds ago.

        UnknownModelError for a model that the server does not know; ServerError when it cannot be reached or is not
        ready.
        """
        return self._have(self._talk.metadata())

    def predict(self, rows: Rows, output: str = SCORE, **asking: Unpack[Asking]) -> npt.NDArray[np.float32]:
        """Return one score for each row, in order: float32 [rows]; for no rows nothing is sent.

        Of a model that answers with lists they are [rows, k]; `ask(rows, ("item", "score", "known"))` returns all.

        Rows are a Polars or pandas frame, a list of mappings, or columns as arrays, in which a list may be `x__values`
        and `x__offsets`: see `ensemble.requests.rows.from_arrays`. `Asking` says what else can be given. RequestError
        when the rows do not fit the model or the server refuses them; ServerError when it cannot be reached.
        """
        return flat(self.ask(rows, (output,), **asking).outputs[output])

    def ask(self, rows: Rows, outputs: Sequence[str] = (SCORE,), **asking: Unpack[Asking]) -> Prediction:
        """Return several outputs, each in its own type and shape, with the version that answered; else as `predict`."""
        deadline = asking.pop("deadline", None)
        return self._have(self._talk.ask(rows, outputs, **asking), deadline)

    def infer(self, tensors: Mapping[str, Array], output: str = SCORE) -> Array:
        """Send tensors exactly as they are and return the output; errors as in `predict`."""
        return self._have(self._talk.infer(tensors, output))

    def _have(self, talk: Talk[_Result], deadline: float | None = None) -> _Result:
        patience = self._patience.begun(deadline)
        try:
            question = next(talk)
            while True:
                try:
                    answer = self._answer(question, patience)
                except Failure as failure:
                    question = talk.throw(failure)
                else:
                    question = talk.send(answer)
        except StopIteration as end:
            result: _Result = end.value
            return result

    def _answer(self, question: Question, patience: Patience) -> Any:
        if isinstance(question, AskMetadata):
            return patience.ask(partial(self._transport.metadata, question.model))
        if isinstance(question, AskModels):
            return patience.ask(self._transport.models)
        tasks = [partial(self._scores, call, patience) for call in question.calls]
        return [tasks[0]()] if len(tasks) == 1 else self._transport.run_all(tasks)

    def _scores(self, make: Callable[[], Call], patience: Patience) -> Reply:
        return patience.ask(partial(self._transport.infer, make()))
