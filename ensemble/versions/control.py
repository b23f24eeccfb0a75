"""Triton's repository API: what is loaded, load, unload; and requests whose answers say their version.

All over gRPC. Over HTTP the thread that loads a model answers nobody else meanwhile, and every connection that Triton
has given to that thread waits for seconds; over gRPC loads have a thread of their own.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ensemble.requests.encode import Array
from etl.errors import RequestError, ServerError

_SECONDS, _LOAD_SECONDS = 30.0, 600.0
_QUIET_SECONDS, _QUIET_POLL = 10.0, 0.1


@dataclass(frozen=True)
class Reply:
    """One answer: its outputs, the version of the ensemble that gave it, and how long it took (seconds)."""

    outputs: Mapping[str, Array]
    version: int
    seconds: float


class Control:
    """A connection to a server in explicit model control, by its gRPC address; a context manager.

    Every method raises ServerError when the server does not answer or refuses to load.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = tritonclient.grpc.InferenceServerClient(url.rpartition("://")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ready(self) -> set[str]:
        """Return the names of the models that are ready."""
        return {model.name for model in self._index("the list of models")}

    def serving(self, model: str) -> int | None:
        """Return the version that answers for `model`, None when it is not loaded."""
        found = (int(each.version) for each in self._index(f"model {model!r}") if each.name == model)
        return max(found, default=None)

    def load(self, model: str) -> None:
        """Load `model` as it is in the repository now; returns when it answers. What it replaces answers until then."""
        with self._errors(f"load of {model!r}"):
            self._client.load_model(model, client_timeout=_LOAD_SECONDS)

    def unload(self, models: Collection[str]) -> None:
        """Unload those of `models` that are loaded; requests in flight are answered first."""
        for model in sorted(self.ready().intersection(models)):
            with self._errors(f"unload of {model!r}"):
                self._client.unload_model(model, client_timeout=_LOAD_SECONDS)

    def quiet(self, models: Collection[str]) -> None:
        """Wait until none of `models` has run anything for a moment, or for ten seconds."""
        deadline = time.monotonic() + _QUIET_SECONDS
        before = self._executions(models)
        while time.monotonic() < deadline:
            time.sleep(_QUIET_POLL)
            now = self._executions(models)
            if now == before:
                return
            before = now

    def _executions(self, models: Collection[str]) -> list[tuple[str, int]]:
        counts = []
        for model in sorted(self.ready().intersection(models)):
            with self._errors(f"statistics of {model!r}"):
                found = self._client.get_inference_statistics(model, client_timeout=_SECONDS).model_stats
            counts += [(model, int(each.execution_count)) for each in found]
        return counts

    def _index(self, what: str) -> list[Any]:
        with self._errors(what):
            found = self._client.get_model_repository_index(client_timeout=_SECONDS).models
        return [model for model in found if model.state == "READY"]

    def ask(self, model: str, tensors: Mapping[str, Array], outputs: Sequence[str]) -> Reply:
        """Send one request and return these outputs; RequestError when the server refuses it."""
        grpc = tritonclient.grpc
        inputs = []
        for name, values in tensors.items():
            tensor = grpc.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
            inputs.append(tensor.set_data_from_numpy(values))
        wanted = [grpc.InferRequestedOutput(output) for output in outputs]
        with self._errors(f"a request to {model!r}", RequestError):
            started = time.perf_counter()
            answer = self._client.infer(model, inputs, outputs=wanted, client_timeout=_SECONDS)
            seconds = time.perf_counter() - started
        arrays = {output: np.asarray(answer.as_numpy(output)) for output in outputs}
        return Reply(arrays, int(answer.get_response().model_version), seconds)

    @contextmanager
    def _errors(self, what: str, refused: type[ServerError | RequestError] = ServerError) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            text = str(error.message()).partition("\n\nAt:")[0]  # Python's stack follows
            if str(error.status()).endswith(("UNAVAILABLE", "DEADLINE_EXCEEDED")):
                hint = "Start it again; it serves what config.pbtxt names. Then give the same command."
                raise ServerError(f"{what}: no answer from Triton at {self.url}", received=text, hint=hint) from error
            hint = next((hint for words, hint in _HINTS.items() if words in text), "")
            raise refused(f"{what}: Triton at {self.url} refused", received=text, hint=hint) from error


_HINTS = {
    "is not allowed": "Start it with --model-control-mode=explicit, as `mews serve` does.",
    "failed to poll": "Does the server read this repository?",
}
