"""The same client for asyncio."""

from __future__ import annotations

import asyncio
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
    AskScores,
    Conversation,
    Prediction,
    Question,
    Talk,
    flat,
)
from ensemble.client.frames import Rows
from ensemble.client.grpc_transport import AsyncGrpcTransport
from ensemble.client.http_transport import AsyncHttpTransport
from ensemble.client.metadata import ModelMetadata
from ensemble.client.patience import Patience
from ensemble.client.transport import AsyncTransport, Call, Failure, Reply
from ensemble.config import Protocol
from ensemble.requests.encode import Array
from etl.names import SCORE

_Result = TypeVar("_Result")


class AsyncClient:
    """A `Client` whose methods are coroutines; an asynchronous context manager of one event loop.

    Any number of calls may run at a time, over at most `connections` connections (HTTP; gRPC needs one). `concurrency`
    is for the parts of one call. Shared memory is `Client`'s only. The rest is said there.
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
        connections: int = 100,
    ) -> None:
        """RequestError for a URL, protocol or time that makes no sense; nothing is sent yet."""
        check(protocol, timeout=timeout, deadline=deadline)
        self.url, self.model, self.protocol = url, model, protocol
        self._address, self._connections = address_of(url, protocol), max(connections, 1)
        self._concurrency = max(concurrency, 1)
        self._open: AsyncTransport | None = None
        self._patience = Patience(max(attempts, 1), timeout, deadline)
        self._talk = Conversation(url, model, protocol, refresh)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._open is not None:
            transport, self._open = self._open, None
            await transport.close()

    async def is_ready(self) -> bool:
        """True when the server answers and has the model ready; False in any other case, without retries."""
        try:
            return await self._transport.is_ready(self.model, self._patience.timeout)
        except Failure:
            return False

    async def metadata(self) -> ModelMetadata:
        """Return what the server says of the model, at most `refresh` seconds ago; errors as `Client.metadata`."""
        return await self._have(self._talk.metadata())

    async def predict(self, rows: Rows, output: str = SCORE, **asking: Unpack[Asking]) -> npt.NDArray[np.float32]:
        """Return one score for each row, in order: float32 [rows]; rows and errors as `Client.predict`."""
        return flat((await self.ask(rows, (output,), **asking)).outputs[output])

    async def ask(self, rows: Rows, outputs: Sequence[str] = (SCORE,), **asking: Unpack[Asking]) -> Prediction:
        """Return several outputs, each in its own type and shape, with the version that answered."""
        deadline = asking.pop("deadline", None)
        return await self._have(self._talk.ask(rows, outputs, **asking), deadline)

    async def infer(self, tensors: Mapping[str, Array], output: str = SCORE) -> Array:
        """Send tensors exactly as they are and return the output."""
        return await self._have(self._talk.infer(tensors, output))

    @property
    def _transport(self) -> AsyncTransport:
        """Made with the first question, because connections belong to the loop that runs then."""
        if self._open is None:
            http = self.protocol == "http"
            self._open = (
                AsyncHttpTransport(self._address, self._connections) if http else AsyncGrpcTransport(self._address)
            )
        return self._open

    async def _have(self, talk: Talk[_Result], deadline: float | None = None) -> _Result:
        patience = self._patience.begun(deadline)
        try:
            question = next(talk)
            while True:
                try:
                    answer = await self._answer(question, patience)
                except Failure as failure:
                    question = talk.throw(failure)
                else:
                    question = talk.send(answer)
        except StopIteration as end:
            result: _Result = end.value
            return result

    async def _answer(self, question: Question, patience: Patience) -> Any:
        if isinstance(question, AskMetadata):
            return await patience.ask_async(partial(self._transport.metadata, question.model))
        if isinstance(question, AskModels):
            return await patience.ask_async(self._transport.models)
        return await self._all(question, patience)

    async def _all(self, question: AskScores, patience: Patience) -> list[Reply]:
        """Replies in order; the first error ends the others, and is raised."""
        turns = asyncio.Semaphore(self._concurrency)

        async def scores(make: Callable[[], Call]) -> Reply:
            async with turns:
                return await patience.ask_async(partial(self._transport.infer, make()))

        if len(question.calls) == 1:
            return [await scores(question.calls[0])]
        tasks = [asyncio.ensure_future(scores(make)) for make in question.calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
