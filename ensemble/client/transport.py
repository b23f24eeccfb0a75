"""Two ways to a Triton server, HTTP and gRPC, behind one interface; the only door to tritonclient's clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import gevent.pool
import numpy as np
import tritonclient.grpc
import tritonclient.http
from geventhttpclient.response import HTTPParseError
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ensemble.requests.encode import Array

_Answer = TypeVar("_Answer")
_Tensor = tuple[str, str, tuple[int, ...]]


class Unreachable(Exception):  # noqa: N818 - internal; the client turns it into a ServerError
    """No answer: nobody listens, the connection broke, or the time was up."""


class Refused(Exception):  # noqa: N818
    """The server answered that it will not; the text is its own."""


class Busy(Exception):  # noqa: N818
    """The server answered that the model cannot answer now."""


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


class Transport(Protocol):
    """What the client needs of a protocol; every method may raise Unreachable, Refused or Busy."""

    def is_ready(self, model: str) -> bool:
        """True when server and model are ready."""

    def metadata(self, model: str) -> Answer:
        """Return names, types and shapes."""

    def models(self) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""

    def infer(self, model: str, tensors: Mapping[str, Array], output: str) -> Array:
        """Return one output for one request."""

    def run_all(self, requests: Iterable[Callable[[], _Answer]]) -> list[_Answer]:
        """Run requests, several at a time; answers in order, and the first error is raised."""

    def close(self) -> None:
        """Close every connection."""


def _inputs(module: Any, tensors: Mapping[str, Array]) -> list[Any]:
    inputs = []
    for name, values in tensors.items():
        tensor = module.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        inputs.append(tensor.set_data_from_numpy(values))
    return inputs


def _words(error: InferenceServerException) -> str:
    return str(error.message()).removeprefix("[request id: <id_unknown>] ").rstrip(". ")


def _array(result: Any, output: str) -> Array:
    values = result.as_numpy(output)
    if values is None:
        raise Refused(f"the answer has no output {output!r}")
    return np.asarray(values)


class HttpTransport:
    """tritonclient.http, whose connections belong to one thread; requests run together as greenlets."""

    def __init__(self, address: str, timeout: float, concurrency: int) -> None:
        self._timeout, self._concurrency = timeout, concurrency
        self._client = tritonclient.http.InferenceServerClient(
            address, concurrency=concurrency, connection_timeout=timeout, network_timeout=timeout
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            raise (Busy if error.status() == "503" else Refused)(_words(error)) from error
        except TimeoutError as error:
            raise Unreachable(f"nothing within {self._timeout:g} s") from error
        except (OSError, HTTPParseError) as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    def is_ready(self, model: str) -> bool:
        """True when server and model are ready."""
        with self._errors():
            return bool(self._client.is_server_ready() and self._client.is_model_ready(model))

    def metadata(self, model: str) -> Answer:
        """Return names, types and shapes."""
        with self._errors():
            said = self._client.get_model_metadata(model)
            config = self._client.get_model_config(model)
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

    def models(self) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""
        with self._errors():
            index = self._client.get_model_repository_index()
        return {model["name"]: model.get("reason", "") for model in index}

    def infer(self, model: str, tensors: Mapping[str, Array], output: str) -> Array:
        """Return one output for one request."""
        http = tritonclient.http
        with self._errors():
            wanted = [http.InferRequestedOutput(output)]
            return _array(self._client.infer(model, _inputs(http, tensors), outputs=wanted), output)

    def run_all(self, requests: Iterable[Callable[[], _Answer]]) -> list[_Answer]:
        """Run requests, several at a time; answers in order, and the first error is raised."""
        answers = gevent.pool.Pool(self._concurrency).imap(_outcome, requests, maxsize=self._concurrency)
        return [_unwrap(answer) for answer in answers]

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


def _outcome(request: Callable[[], _Answer]) -> _Answer | Exception:
    """A greenlet that ends with an error prints it; so the error is the answer."""
    try:
        return request()
    except Exception as error:
        return error


def _unwrap(answer: _Answer | Exception) -> _Answer:
    if isinstance(answer, Exception):
        raise answer
    return answer


class GrpcTransport:
    """tritonclient.grpc, with no limit on the size of messages but the protocol's own (2 GiB)."""

    def __init__(self, address: str, timeout: float, concurrency: int) -> None:
        self._timeout, self._concurrency = timeout, concurrency
        self._client = tritonclient.grpc.InferenceServerClient(address)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            status, text = str(error.status()), _words(error)
            if status.endswith("DEADLINE_EXCEEDED"):
                raise Unreachable(f"nothing within {self._timeout:g} s") from error
            if status.endswith("UNAVAILABLE"):
                raise (Busy(text) if self._is_live() else Unreachable(text)) from error
            raise Refused(text) from error

    def _is_live(self) -> bool:
        try:
            return bool(self._client.is_server_live(client_timeout=self._timeout))
        except InferenceServerException:
            return False

    def is_ready(self, model: str) -> bool:
        """True when server and model are ready."""
        with self._errors():
            ready = self._client.is_server_ready(client_timeout=self._timeout)
            return bool(ready and self._client.is_model_ready(model, client_timeout=self._timeout))

    def metadata(self, model: str) -> Answer:
        """Return names, types and shapes."""
        with self._errors():
            said = self._client.get_model_metadata(model, client_timeout=self._timeout)
            config = self._client.get_model_config(model, client_timeout=self._timeout).config
        return Answer(
            name=said.name,
            versions=tuple(said.versions),
            platform=said.platform,
            inputs=tuple((each.name, each.datatype, tuple(each.shape)) for each in said.inputs),
            outputs=tuple((each.name, each.datatype, tuple(each.shape)) for each in said.outputs),
            max_batch_size=config.max_batch_size,
            parameters={key: value.string_value for key, value in config.parameters.items()},
        )

    def models(self) -> dict[str, str]:
        """Return every model in the server's repository, with the reason when it is not ready."""
        with self._errors():
            index = self._client.get_model_repository_index(client_timeout=self._timeout)
        return {model.name: model.reason for model in index.models}

    def infer(self, model: str, tensors: Mapping[str, Array], output: str) -> Array:
        """Return one output for one request."""
        grpc = tritonclient.grpc
        with self._errors():
            wanted = [grpc.InferRequestedOutput(output)]
            inputs = _inputs(grpc, tensors)
            return _array(self._client.infer(model, inputs, outputs=wanted, client_timeout=self._timeout), output)

    def run_all(self, requests: Iterable[Callable[[], _Answer]]) -> list[_Answer]:
        """Run requests, several at a time; answers in order, and the first error is raised."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(lambda request: request(), requests))

    def close(self) -> None:
        """Close every connection."""
        self._client.close()
