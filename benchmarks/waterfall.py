"""Where the time of one request goes: from Triton's trace of some hundred requests, one client, one row.

A trace has a time stamp at each step of a request and of the composing models below it. Phases are medians over the
requests, in microseconds; what perf_analyzer saw beyond the server's own is the client and the network. Beside them are
the means of Triton's statistics (/v2/models/x/stats) of the same requests, which are gathered another way.
"""

from __future__ import annotations

import json
import statistics
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import stock
from benchmarks.perf_analyzer import Load, PerfAnalyzer
from benchmarks.targets import Target
from ensemble.config import ServeConfig
from ensemble.server.triton import TritonServer

REQUESTS = 300
_STEPS = (
    ("queue", "QUEUE_START", "COMPUTE_START"),
    ("input", "COMPUTE_START", "COMPUTE_INPUT_END"),
    ("compute", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),
    ("output", "COMPUTE_OUTPUT_START", "COMPUTE_END"),
)
_RECEIVED = {"http": "HTTP_RECV_START", "grpc": "GRPC_WAITREAD_END"}
_SENT = {"http": "HTTP_SEND_END", "grpc": "GRPC_SEND_END"}

Stamps = dict[str, int]


class TracedServer(TritonServer):
    """A server that traces every request into a file."""

    def __init__(self, repository: Path, model: str, trace: Path) -> None:
        config = ServeConfig(start_timeout_seconds=180)
        super().__init__(repository, config, [model], environment=stock.ENVIRONMENT)
        self._trace = trace

    def _command(self, program: Any) -> list[str]:
        told = (f"triton,file={self._trace}", "level=TIMESTAMPS", "rate=1", "mode=triton")
        return [*super()._command(program), *(f"--trace-config={setting}" for setting in told)]


def measure(
    analyzer: PerfAnalyzer, repository: Path, target: Target, data: Path, work: Path, protocol: str, seconds: float
) -> dict[str, Any]:
    """Trace one row at a time from one client to the ensemble of `target` and return where its time goes.

    Keys: protocol, requests, client_p50_us, phases [{stage, phase, us}], statistics [{model, phase, us}].
    """
    trace = work / f"trace-{target.name}-{protocol}.json"
    with TracedServer(repository, target.model, trace) as server:
        url = server.http_url if protocol == "http" else server.grpc_url
        figures = analyzer.measure(url, Load(target.model, protocol, 1, 1), data, seconds)
        counted = _statistics(server.http_url)
    requests = list(traced(trace, target.model))[-REQUESTS:]
    phases = median_phases(requests, protocol)
    inside = sum(phase["us"] for phase in phases)
    outside = {"stage": "client", "phase": "client and network", "us": round(max(0.0, figures.p50_us - inside), 1)}
    return {
        "protocol": protocol,
        "requests": len(requests),
        "client_p50_us": figures.p50_us,
        "phases": [outside, *phases],
        "statistics": counted,
    }


def traced(path: Path, model: str) -> Iterator[tuple[Stamps, list[tuple[str, Stamps]]]]:
    """Yield each traced request of ensemble `model`: its time stamps (ns), and those of each composing model."""
    stamps: dict[int, Stamps] = {}
    about: dict[int, dict[str, Any]] = {}
    for entry in read_trace(path.read_text(encoding="utf-8")):
        if "model_name" in entry:
            about[entry["id"]] = entry
        for stamp in entry.get("timestamps", ()):
            stamps.setdefault(entry["id"], {})[stamp["name"]] = stamp["ns"]
    children: dict[int, list[int]] = {}
    for number, entry in about.items():
        if "parent_id" in entry:
            children.setdefault(entry["parent_id"], []).append(number)
    for number, entry in about.items():
        if entry["model_name"] == model and "REQUEST_END" in stamps.get(number, {}):
            below = [(about[child]["model_name"], stamps.get(child, {})) for child in children.get(number, ())]
            yield stamps[number], sorted(below, key=lambda one: one[1].get("QUEUE_START", 0))


def read_trace(text: str) -> list[dict[str, Any]]:
    """Return the entries of a trace file; Triton may leave the list without its end."""
    text = text.strip().rstrip(",")
    if text and not text.endswith("]"):
        text += "]"
    found: list[dict[str, Any]] = json.loads(text) if text else []
    return found


def median_phases(requests: Sequence[tuple[Stamps, list[tuple[str, Stamps]]]], protocol: str) -> list[dict[str, Any]]:
    """Return the median of every phase, in the order in which they happen."""
    taken: dict[tuple[str, str], list[float]] = {}
    for own, below in requests:
        for key, nanoseconds in _phases(own, below, protocol):
            taken.setdefault(key, []).append(nanoseconds / 1000)
    return [
        {"stage": stage, "phase": phase, "us": round(statistics.median(values), 1)}
        for (stage, phase), values in taken.items()
    ]


def _phases(own: Stamps, below: Sequence[tuple[str, Stamps]], protocol: str) -> Iterator[tuple[tuple[str, str], float]]:
    received, sent = own.get(_RECEIVED[protocol]), own.get(_SENT[protocol])
    if received is not None:
        yield ("server", f"{protocol} receive and parse"), own["REQUEST_START"] - received
    inside = 0
    for name, stamps in below:
        for phase, start, end in _STEPS:
            if start in stamps and end in stamps:
                yield (name, phase), stamps[end] - stamps[start]
                inside += stamps[end] - stamps[start]
    yield ("ensemble", "scheduling"), max(0, own["REQUEST_END"] - own["REQUEST_START"] - inside)
    if sent is not None:
        yield ("server", f"{protocol} send"), max(0, sent - own["REQUEST_END"])


def _statistics(url: str) -> list[dict[str, Any]]:
    """Return the mean microseconds of every phase, by model, as Triton counts them."""
    with urllib.request.urlopen(f"http://{url}/v2/models/stats", timeout=10) as answer:
        found = json.load(answer)["model_stats"]
    return [
        {"model": model["name"], "phase": phase, "us": round(_mean(model["inference_stats"][phase]), 1)}
        for model in found
        for phase in ("queue", "compute_input", "compute_infer", "compute_output", "success")
        if model["inference_stats"][phase]["count"]
    ]


def _mean(counted: Mapping[str, int]) -> float:
    return counted["ns"] / counted["count"] / 1000
