"""A call followed from the client into the server: spans in a collector of ours, log lines with the request's id."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typer.testing import CliRunner

from ensemble.client.client import Client
from ensemble.client.traced import TracedClient
from ensemble.logs import REQUESTS, JsonFormatter, from_triton
from etl.errors import RequestError
from mews.commands.groups import app
from tests.ensemble.conftest import random_rows
from tests.watch.conftest import Collector, WatchedServer


@dataclass
class Spans:
    """What the application's own exporter was given."""

    exporter: InMemorySpanExporter
    provider: TracerProvider


@pytest.fixture
def spans() -> Spans:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(exporter, provider)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger(REQUESTS)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_trace_goes_on_in_the_server(
    protocol: Any, watched: WatchedServer, collector: Collector, spans: Spans
) -> None:
    url = watched.http_url if protocol == "http" else watched.grpc_url
    with TracedClient(url, "mews", protocol=protocol, provider=spans.provider) as client:
        client.predict(random_rows(3), request_id=f"followed-{protocol}")
    (own,) = spans.exporter.get_finished_spans()
    assert own.attributes is not None
    assert own.attributes["mews.request_id"] == f"followed-{protocol}"
    assert (own.attributes["mews.rows"], own.attributes["mews.version"]) == (3, "2")
    found = collector.of(own.context.trace_id, 6)
    by_name = {span["name"]: span for span in found}
    assert {"InferRequest", "mews", "mews_features_2", "mews_model_2"} <= set(by_name)
    assert by_name["InferRequest"]["parentSpanId"] == f"{own.context.span_id:016x}"
    assert by_name["mews_model_2"]["parentSpanId"] == by_name["mews"]["spanId"]


def test_a_call_in_parts_is_one_span(watched: WatchedServer, spans: Spans, collector: Collector) -> None:
    with TracedClient(watched.http_url, "mews", provider=spans.provider) as client:
        client.predict(random_rows(20))
    (own,) = spans.exporter.get_finished_spans()
    found = collector.of(own.context.trace_id, 18)
    assert [span["name"] for span in found].count("InferRequest") == 3  # of at most 8 rows


def test_the_log_has_the_request_on_both_sides(watched: WatchedServer, spans: Spans, log: io.StringIO) -> None:
    with TracedClient(watched.http_url, "mews", provider=spans.provider) as client:
        client.predict(random_rows(2), request_id="on-both-sides")
    (own,) = spans.exporter.get_finished_spans()
    line = json.loads(log.getvalue())
    assert line["request_id"] == "on-both-sides"
    assert line["trace_id"] == f"{own.context.trace_id:032x}"
    assert (line["level"], line["rows"], line["model"], line["version"]) == ("INFO", 2, "mews", "2")
    served = list(from_triton(watched.log_text().splitlines()))
    assert any(each.get("request_id") == "on-both-sides" for each in served)


def test_a_failure_is_in_the_span_and_in_the_log(watched: WatchedServer, spans: Spans, log: io.StringIO) -> None:
    with (
        TracedClient(watched.http_url, "mews", provider=spans.provider) as client,
        pytest.raises(RequestError),
    ):
        client.predict(random_rows(2), output="no_such_output")
    (own,) = spans.exporter.get_finished_spans()
    assert not own.status.is_ok
    line = json.loads(log.getvalue())
    assert (line["level"], line["error"]) == ("ERROR", "RefusedError")
    assert line["request_id"]


def test_only_what_is_followed_is_traced(watched: WatchedServer, spans: Spans, collector: Collector) -> None:
    before = {span["traceId"] for span in collector.spans}
    with Client(watched.http_url, "mews") as client:
        client.predict(random_rows(2))
    with TracedClient(watched.http_url, "mews", provider=spans.provider) as client:
        client.predict(random_rows(2))
    (own,) = spans.exporter.get_finished_spans()
    collector.of(own.context.trace_id, 6)
    assert {span["traceId"] for span in collector.spans} - before == {f"{own.context.trace_id:032x}"}


LINES = """\
I1121 15:05:34.925485 24052 grpc_server.cc:2558] "Started GRPCInferenceService at 127.0.0.1:37875"
2026-11-21T15:09:57Z W 31553 pinned_memory_manager.cc:170] "failed to allocate \\"pinned\\" memory"
2026-11-21T15:09:58Z I 31553 infer_request.cc:132] "[request id: <id_unknown>] Setting state"
2026-11-21T15:09:59Z E 31553 infer_request.cc:132] "[request id: a-1] prepared"
\x1b[1;31m2026-11-21 15:18:16.860160358 [E:onnxruntime:, sequential_executor.cc:572 ExecuteKernel] out of bounds\x1b[m
+------+
"""


def test_lines_of_triton_become_objects() -> None:
    first, second, third, fourth, fifth, last = from_triton(LINES.splitlines(keepends=True), year=2026)
    assert first["time"] == "2026-11-21T15:05:34.925Z"
    assert first["source"] == "grpc_server.cc:2558"
    assert (second["level"], second["message"]) == ("WARNING", 'failed to allocate "pinned" memory')
    assert "request_id" not in third
    assert (fourth["request_id"], fourth["level"], fourth["message"]) == ("a-1", "ERROR", "prepared")
    assert (fifth["level"], fifth["source"], fifth["message"]) == ("ERROR", "onnxruntime", "out of bounds")
    assert last == {"logger": "triton", "message": "+------+"}


def test_the_command_reads_a_file_and_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "triton.log"
    file.write_text(LINES)
    from_file = CliRunner().invoke(app, ["logs", str(file)])
    from_pipe = CliRunner().invoke(app, ["logs"], input=LINES)
    assert from_file.exit_code == from_pipe.exit_code == 0
    assert from_file.stdout == from_pipe.stdout
    assert [json.loads(line).get("request_id") for line in from_file.stdout.splitlines()].count("a-1") == 1
    assert CliRunner().invoke(app, ["logs", str(tmp_path / "none")]).exit_code == 3
