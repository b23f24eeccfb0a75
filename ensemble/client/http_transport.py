"""Triton over HTTP, through tritonclient.http and tritonclient.http.aio."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gevent
import gevent.pool
import tritonclient.http
from geventhttpclient.response import HTTPParseError
from tritonclient.utils import InferenceServerException

from ensemble.client.memory import SharedInputs
from ensemble.client.transport import Answer, Busy, Call, Refused, Reply, Unreachable, arguments, late, reply, words

_Answer = TypeVar("_Answer")

_LARGE = 2**20


def _failure(error: InferenceServerException) -> Busy | Refused:
    return (Busy if error.status() == "503" else Refused)(words(error))


@contextmanager
def _failures(timeout: float) -> Iterator[None]:
    """Everything that the block raises as a Failure; the time ends by an alarm, for sockets count only silence."""
    alarm = gevent.Timeout(timeout, TimeoutError)
    try:
        with alarm:
            yield
    except InferenceServerException as error:
        raise _failure(error) from error
    except TimeoutError as error:
        raise late(timeout) from error
    except (OSError, HTTPParseError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error


class HttpTransport:
    """tritonclient.http, whose connections belong to one thread; requests run together as greenlets."""

    def __init__(self, address: str, timeout: float, concurrency: int, shared_memory: bool) -> None:
        self._concurrency = concurrency
        self._client = tritonclient.http.InferenceServerClient(
            address, concurrency=concurrency, connection_timeout=timeout, network_timeout=timeout
        )
        ways = self._client.register_system_shared_memory, self._client.unregister_system_shared_memory
        self._memory = SharedInputs(tritonclient.http, *ways) if shared_memory else None

    def is_ready(self, model: str, timeout: float) -> bool:
        """True when server and model are ready."""
        with _failures(timeout):
            return bool(self._client.is_server_ready() and self._client.is_model_ready(model))

    def metadata(self, model: str, timeout: float) -> Answer:
        """Return names, types and shapes."""
        with _failures(timeout):
            return _metadata(self._client.get_model_metadata(model), self._client.get_model_config(model))

    def models(self, timeout: float) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""
        with _failures(timeout):
            return _index(self._client.get_model_repository_index())

    def infer(self, call: Call, timeout: float) -> Reply:
        """Return the outputs of one request."""
        with _failures(timeout):
            if self._memory is None:
                return _reply(self._client.infer(**arguments(tritonclient.http, call)), call)
            with self._memory.holding(call.tensors) as inputs:
                return _reply(self._client.infer(**arguments(tritonclient.http, call, inputs)), call)

    def run_all(self, tasks: Iterable[Callable[[], _Answer]]) -> list[_Answer]:
        """Run tasks, several at a time; answers in order, and the first error is raised."""
        pool = gevent.pool.Pool(self._concurrency)
        answers = pool.imap(_outcome, tasks, maxsize=self._concurrency)
        try:
            return [_unwrap(answer) for answer in answers]
        finally:  # after an error nothing more begins, and what runs gives back what it holds
            answers.kill()
            pool.join()

    def close(self) -> None:
        """Close every connection, and give shared memory back."""
        try:
            if self._memory is not None:
                self._memory.close()
        finally:
            self._client.close()


def _outcome(task: Callable[[], _Answer]) -> _Answer | Exception:
    """A greenlet that ends with an error prints it; so the error is the answer."""
    try:
        return task()
    except Exception as error:
        return error


def _unwrap(answer: _Answer | Exception) -> _Answer:
    if isinstance(answer, Exception):
        raise answer
    return answer


class AsyncHttpTransport:
    """tritonclient.http.aio; one event loop's."""

    def __init__(self, address: str, connections: int) -> None:
        import aiohttp
        import tritonclient.http.aio

        class Large(tritonclient.http.aio.InferenceServerClient):  # type: ignore[misc]
            """Sends large bodies in parts: aiohttp warns of those that would hold up the event loop."""

            async def _post(self, request_uri: str, request_body: bytes, headers: Any, query_params: Any) -> Any:
                body = io.BytesIO(request_body) if len(request_body) > _LARGE else request_body
                return await super()._post(request_uri, body, headers, query_params)

        self._broken = aiohttp.ClientError
        self._client = Large(address, conn_limit=connections, conn_timeout=None)

    async def is_ready(self, model: str, timeout: float) -> bool:
        """True when server and model are ready."""

        async def ready() -> bool:
            return bool(await self._client.is_server_ready() and await self._client.is_model_ready(model))

        return await self._within(timeout, ready)

    async def metadata(self, model: str, timeout: float) -> Answer:
        """Return names, types and shapes."""

        async def metadata() -> Answer:
            said = await self._client.get_model_metadata(model)
            return _metadata(said, await self._client.get_model_config(model))

        return await self._within(timeout, metadata)

    async def models(self, timeout: float) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""

        async def models() -> dict[str, str]:
            return _index(await self._client.get_model_repository_index())

        return await self._within(timeout, models)

    async def infer(self, call: Call, timeout: float) -> Reply:
        """Return the outputs of one request."""

        async def infer() -> Reply:
            return _reply(await self._client.infer(**arguments(tritonclient.http, call)), call)

        return await self._within(timeout, infer)

    async def _within(self, timeout: float, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        try:
            async with asyncio.timeout(timeout):
                return await question()
        except InferenceServerException as error:
            raise _failure(error) from error
        except TimeoutError as error:
            raise late(timeout) from error
        except (OSError, self._broken) as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


def _reply(result: Any, call: Call) -> Reply:
    said = result.get_response()
    return reply(result, call, said.get("model_version", ""), said.get("id", ""))


def _index(models: Any) -> dict[str, str]:
    return {model["name"]: model.get("reason", "") for model in models}


def _metadata(said: Any, config: Any) -> Answer:
    tensors = {
        side: tuple((each["name"], each["datatype"], tuple(map(int, each["shape"]))) for each in said[side])
        for side in ("inputs", "outputs")
    }
    return Answer(
        name=said["name"],
        versions=tuple(said["versions"]),
        platform=said["platform"],
        **tensors,
        max_batch_size=int(config.get("max_batch_size", 0)),
        parameters={key: value["string_value"] for key, value in config.get("parameters", {}).items()},
    )
