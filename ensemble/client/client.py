"""Asks a Triton server for scores: raw rows in, one float32 for each row out.

What the model takes is read from the server. An export says it in its parameters (`mews.request`). Any other ensemble
of raw columns can be asked too: a tensor with an `x__length` beside it is a list, a signed integer, float or string can
be null (see etl/dtypes.py for how).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import tenacity

from ensemble.client.transport import Busy, GrpcTransport, HttpTransport, Refused, Transport, Unreachable
from ensemble.config import Protocol
from ensemble.requests.encode import Array, did_you_mean, encode
from ensemble.requests.rows import from_arrays
from ensemble.spec import RequestColumn, RequestSchema, TensorSpec
from etl.dtypes import BY_TRITON
from etl.errors import MewsError, RequestError, ServerError
from etl.names import LENGTH, REQUEST, SCORE

_Answer = TypeVar("_Answer")

_TRANSPORTS: dict[str, Callable[[str, float, int], Transport]] = {"http": HttpTransport, "grpc": GrpcTransport}


@dataclass(frozen=True)
class ModelMetadata:
    """What a server says of a model; dims leave the batch out. `max_batch_size` 0 means that it has no batch."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def request(self) -> RequestSchema:
        """The raw columns behind the inputs; RequestError for a type that no column has."""
        if REQUEST in self.parameters:
            return self._declared
        names = {spec.name for spec in self.inputs}
        columns = []
        for spec in self.inputs:
            if spec.name.endswith(LENGTH) and spec.name.removesuffix(LENGTH) in names:
                continue
            if spec.dtype not in BY_TRITON:
                raise RequestError(f"input {spec}", expected=f"a type among {', '.join(BY_TRITON)}")
            columns.append(_column(spec, ragged=spec.name + LENGTH in names))
        return RequestSchema(tuple(columns))

    @property
    def _declared(self) -> RequestSchema:
        try:
            return RequestSchema.from_json(json.loads(self.parameters[REQUEST]))
        except (ValueError, TypeError, MewsError) as error:
            subject = f"parameter {REQUEST} of model {self.name!r}"
            raise RequestError(subject, expected="columns as Mews exports them", received=str(error)) from error


def _column(spec: TensorSpec, *, ragged: bool) -> RequestColumn:
    kind = BY_TRITON[spec.dtype].name
    if ragged or spec.dims in ((), (1,)):
        return RequestColumn(spec.name, kind, is_list=ragged)
    return RequestColumn(spec.name, kind, is_list=True, length=math.prod(spec.dims))


class Client:
    """A connection to one model of a Triton server; a context manager.

    `url` is host:port, with or without http:// or grpc://. `timeout` (seconds) holds for each request. A server that
    cannot be reached is tried `attempts` times in all; a server's answer, good or bad, is final. Frames larger than the
    model's max_batch_size go as several requests, up to `concurrency` at a time. Use a Client from one thread.
    """

    def __init__(
        self,
        url: str,
        model: str = "mews",
        *,
        protocol: Protocol = "http",
        timeout: float = 30.0,
        attempts: int = 3,
        concurrency: int = 2,
    ) -> None:
        """RequestError for a URL or protocol that makes no sense; nothing is sent yet."""
        if protocol not in _TRANSPORTS:
            raise RequestError("protocol", expected="http or grpc", received=repr(protocol))
        self.url, self.model, self.protocol = url, model, protocol
        self._concurrency = max(concurrency, 1)
        self._transport = _TRANSPORTS[protocol](_address(url, protocol), timeout, self._concurrency)
        self._metadata: ModelMetadata | None = None
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unreachable),
            stop=tenacity.stop_after_attempt(max(attempts, 1)),
            wait=tenacity.wait_exponential(multiplier=0.1, max=2),
            reraise=True,
        )

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
            return self._transport.is_ready(self.model)
        except (Unreachable, Refused, Busy):
            return False

    def metadata(self) -> ModelMetadata:
        """Return what the server says of the model, asked once.

        RequestError for a model that the server does not know; ServerError when it cannot be reached or is not ready.
        """
        if self._metadata is None:
            answer = self._ask(lambda: self._transport.metadata(self.model))
            batched = answer.max_batch_size > 0
            self._metadata = ModelMetadata(
                answer.name,
                answer.versions,
                answer.platform,
                tuple(TensorSpec(name, kind, dims[batched:]) for name, kind, dims in answer.inputs),
                tuple(TensorSpec(name, kind, dims[batched:]) for name, kind, dims in answer.outputs),
                answer.max_batch_size,
                answer.parameters,
            )
        return self._metadata

    def predict(self, rows: pl.DataFrame | Mapping[str, Any], output: str = SCORE) -> npt.NDArray[np.float32]:
        """Return one score for each row, in order: float32 [rows]; for no rows nothing is sent.

        Columns may also be given as arrays, a list as `x__values` and `x__offsets`: see
        `ensemble.requests.rows.from_arrays`. RequestError when the rows do not fit the model or the server refuses
        them; ServerError when it cannot be reached.
        """
        metadata = self.metadata()
        request = metadata.request
        rows = rows if isinstance(rows, pl.DataFrame) else from_arrays(rows, request)
        if rows.is_empty():
            encode(rows, request)
            return np.empty(0, dtype=np.float32)
        size = metadata.max_batch_size or rows.height
        requests = [
            partial(self._scores, rows.slice(start, size), request, start, output)
            for start in range(0, rows.height, size)
        ]
        answers = [requests[0]()] if len(requests) == 1 else self._transport.run_all(requests)
        return np.concatenate(answers)

    def infer(self, tensors: Mapping[str, Array], output: str = SCORE) -> Array:
        """Send tensors exactly as they are and return the output; errors as in `predict`."""
        return self._ask(lambda: self._transport.infer(self.model, tensors, output))

    def _scores(
        self, rows: pl.DataFrame, request: RequestSchema, first_row: int, output: str
    ) -> npt.NDArray[np.float32]:
        answer = self.infer(encode(rows, request, first_row), output)
        if answer.size != rows.height:
            raise ServerError(
                f"output {output!r} of model {self.model!r} at {self.url}",
                expected=f"{rows.height} scores",
                received=f"an array of shape {answer.shape}",
            )
        return answer.reshape(-1).astype(np.float32, copy=False)

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Put a question, again while the server cannot be reached; a failure becomes an error that says what to do."""
        try:
            return self._retrying(question)
        except Unreachable as error:
            raise ServerError(
                f"no answer from Triton at {self.url} over {self.protocol}",
                received=str(error),
                hint="Start it with `mews serve`, or check the address and that the port is the one for "
                f"{'HTTP' if self.protocol == 'http' else 'gRPC'}.",
            ) from error
        except Busy as error:
            raise ServerError(f"model {self.model!r} at {self.url} is not ready", received=str(error)) from error
        except Refused as error:
            raise self._refusal(str(error)) from error

    def _refusal(self, text: str) -> RequestError | ServerError:
        if "unknown model" not in text.lower() and "is not found" not in text:
            return RequestError(f"the server at {self.url} refused the request to {self.model!r}", received=text)
        try:
            known = self._transport.models()
        except (Unreachable, Refused, Busy):
            known = {}
        if self.model in known:
            why = known[self.model] or "it is not loaded"
            return ServerError(f"model {self.model!r} at {self.url} is not ready", received=why)
        listed = ", ".join(sorted(known)) or "none"
        subject = f"unknown model {self.model!r} at {self.url}{did_you_mean(self.model, sorted(known))}"
        return RequestError(subject, expected=f"one of: {listed}")


def _address(url: str, protocol: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    host, colon, port = rest.rstrip("/").rpartition(":")
    if separator and scheme not in ("http", "grpc"):
        raise RequestError(f"URL {url!r}", expected="host:port, http://host:port or grpc://host:port")
    if separator and scheme != protocol:
        raise RequestError(f"URL {url!r}", expected=f"{protocol}://", hint=f"Or ask for protocol {scheme!r}.")
    if not host or not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise RequestError(f"URL {url!r}", expected="host:port, such as 127.0.0.1:8000")
    return f"{host}:{port}"
