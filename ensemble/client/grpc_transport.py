"""Triton over gRPC, through tritonclient.grpc and tritonclient.grpc.aio."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.memory import SharedInputs
from ensemble.client.transport import (
    Answer,
    Busy,
    Call,
    Failure,
    Refused,
    Reply,
    Unreachable,
    arguments,
    late,
    reply,
    words,
)

_Answer = TypeVar("_Answer")

# 2 GiB, and a connection that failed is tried again soon: gRPC's own first wait is a second, and calls fail meanwhile.
_CHANNEL = (
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


def _failure(error: InferenceServerException, timeout: float) -> Failure:
    """What the error means; UNAVAILABLE is Unreachable here, and Busy if the server then proves to be alive."""
    status = str(error.status())
    if status.endswith("DEADLINE_EXCEEDED"):
        return late(timeout)
    return (Unreachable if status.endswith("UNAVAILABLE") else Refused)(words(error))


class GrpcTransport:
    """tritonclient.grpc."""

    def __init__(self, address: str, timeout: float, concurrency: int, shared_memory: bool) -> None:
        self._concurrency = concurrency
        self._client = tritonclient.grpc.InferenceServerClient(address, channel_args=list(_CHANNEL))
        ways = self._client.register_system_shared_memory, self._client.unregister_system_shared_memory
        limited = (partial(way, client_timeout=timeout) for way in ways)
        self._memory = SharedInputs(tritonclient.grpc, *limited) if shared_memory else None

    def is_ready(self, model: str, timeout: float) -> bool:
        """True when server and model are ready."""
        if not self._within(timeout, self._client.is_server_ready):
            return False
        return bool(self._within(timeout, self._client.is_model_ready, model))

    def metadata(self, model: str, timeout: float) -> Answer:
        """Return names, types and shapes."""
        said = self._within(timeout, self._client.get_model_metadata, model)
        return _metadata(said, self._within(timeout, self._client.get_model_config, model).config)

    def models(self, timeout: float) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""
        return _index(self._within(timeout, self._client.get_model_repository_index))

    def infer(self, call: Call, timeout: float) -> Reply:
        """Return the outputs of one request."""
        if self._memory is None:
            return self._infer(call, timeout)
        with self._memory.holding(call.tensors) as inputs:
            return self._infer(call, timeout, inputs)

    def _infer(self, call: Call, timeout: float, inputs: list[Any] | None = None) -> Reply:
        ask = partial(self._client.infer, **arguments(tritonclient.grpc, call, inputs))
        return _reply(self._within(timeout, ask), call)

    def _within(self, timeout: float, ask: Callable[..., Any], *given: Any) -> Any:
        try:
            return ask(*given, client_timeout=timeout)
        except InferenceServerException as error:
            failure = _failure(error, timeout)
            raise (Busy(*failure.args) if isinstance(failure, Unreachable) and self._lives() else failure) from error

    def _lives(self) -> bool:
        try:
            return bool(self._client.is_server_live(client_timeout=1))
        except InferenceServerException:
            return False

    def run_all(self, tasks: Iterable[Callable[[], _Answer]]) -> list[_Answer]:
        """Run tasks, several at a time; answers in order, and the first error is raised."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(lambda task: task(), tasks))

    def close(self) -> None:
        """Close every connection, and give shared memory back."""
        try:
            if self._memory is not None:
                self._memory.close()
        finally:
            self._client.close()


class AsyncGrpcTransport:
    """tritonclient.grpc.aio; one event loop's."""

    def __init__(self, address: str) -> None:
        import tritonclient.grpc.aio

        self._client = tritonclient.grpc.aio.InferenceServerClient(address, channel_args=list(_CHANNEL))

    async def is_ready(self, model: str, timeout: float) -> bool:
        """True when server and model are ready."""
        if not await self._within(timeout, self._client.is_server_ready):
            return False
        return bool(await self._within(timeout, self._client.is_model_ready, model))

    async def metadata(self, model: str, timeout: float) -> Answer:
        """Return names, types and shapes."""
        said = await self._within(timeout, self._client.get_model_metadata, model)
        return _metadata(said, (await self._within(timeout, self._client.get_model_config, model)).config)

    async def models(self, timeout: float) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""
        return _index(await self._within(timeout, self._client.get_model_repository_index))

    async def infer(self, call: Call, timeout: float) -> Reply:
        """Return the outputs of one request."""
        ask = partial(self._client.infer, **arguments(tritonclient.grpc, call))
        return _reply(await self._within(timeout, ask), call)

    async def _within(self, timeout: float, ask: Callable[..., Any], *given: Any) -> Any:
        try:
            return await ask(*given, client_timeout=timeout)
        except InferenceServerException as error:
            failure = _failure(error, timeout)
            busy = isinstance(failure, Unreachable) and await self._lives()
            raise (Busy(*failure.args) if busy else failure) from error

    async def _lives(self) -> bool:
        try:
            return bool(await self._client.is_server_live(client_timeout=1))
        except InferenceServerException:
            return False

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


def _reply(result: Any, call: Call) -> Reply:
    said = result.get_response()
    return reply(result, call, said.model_version, said.id)


def _index(said: Any) -> dict[str, str]:
    return {model.name: model.reason for model in said.models}


def _metadata(said: Any, config: Any) -> Answer:
    return Answer(
        name=said.name,
        versions=tuple(said.versions),
        platform=said.platform,
        inputs=tuple((each.name, each.datatype, tuple(each.shape)) for each in said.inputs),
        outputs=tuple((each.name, each.datatype, tuple(each.shape)) for each in said.outputs),
        max_batch_size=config.max_batch_size,
        parameters={key: value.string_value for key, value in config.parameters.items()},
    )
