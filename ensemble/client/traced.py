"""A client whose calls can be followed: a span and a log record for each, and the trace goes on within the server.

Triton takes part if it runs with `--trace-config=mode=opentelemetry`: its spans of the ensemble and of each step then
are children of the call's span. Needs the package opentelemetry-api; where spans go is the application's affair.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Unpack

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, TracerProvider
from tritonclient.grpc import InferenceServerClientPlugin

from ensemble.client.client import Client
from ensemble.client.conversation import Asking, Prediction
from ensemble.client.frames import Rows
from ensemble.logs import REQUESTS
from etl.errors import MewsError
from etl.names import SCORE

_log = logging.getLogger(REQUESTS)


class _Carrier(InferenceServerClientPlugin):  # type: ignore[misc]
    """Adds headers to each request; gRPC takes them as metadata."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: Mapping[str, str] = {}

    def __call__(self, request: Any) -> None:
        request.headers.update(self.headers)


class TracedClient(Client):
    """A Client with a span and a log record (`mews.requests`) for each call; parameters as those of Client.

    A call without a `request_id` gets one: it is in the span, in the log and in the server's log. `provider` makes the
    spans, None takes the application's own.
    """

    def __init__(
        self, url: str, model: str = "mews", *, provider: TracerProvider | None = None, **options: Any
    ) -> None:
        """As Client."""
        super().__init__(url, model, **options)
        self._tracer = trace.get_tracer("mews", tracer_provider=provider)
        self._carrier = _Carrier()
        transport: Any = self._transport
        transport._client.register_plugin(self._carrier)

    def ask(self, rows: Rows, outputs: Sequence[str] = (SCORE,), **asking: Unpack[Asking]) -> Prediction:
        """As Client.ask, followed."""
        asking["request_id"] = asking.get("request_id") or uuid.uuid4().hex
        with self._followed(asking["request_id"]) as told:
            prediction = super().ask(rows, outputs, **asking)
            told |= {
                "model": prediction.model,
                "version": ",".join(dict.fromkeys(prediction.versions)),
                "rows": len(prediction.outputs[outputs[0]]),
            }
        return prediction

    @contextmanager
    def _followed(self, request_id: str) -> Iterator[dict[str, Any]]:
        began = time.perf_counter()
        told: dict[str, Any] = {"request_id": request_id, "model": self.model}
        with self._tracer.start_as_current_span(f"ask {self.model}", kind=SpanKind.CLIENT) as span:
            headers: dict[str, str] = {}
            propagate.inject(headers)
            self._carrier.headers = headers
            try:
                yield told
            except MewsError as error:
                told["error"] = type(error).__name__
                raise
            finally:
                self._carrier.headers = {}
                told["milliseconds"] = round((time.perf_counter() - began) * 1000, 3)
                _tell(span, told)


def _tell(span: Span, told: Mapping[str, Any]) -> None:
    span.set_attributes({f"mews.{key}": value for key, value in told.items()})
    context = span.get_span_context()
    ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"} if context.is_valid else {}
    level = logging.ERROR if "error" in told else logging.INFO
    _log.log(level, "failed" if "error" in told else "answered", extra={**told, **ids})
