"""Loads: which are measured, how one is, and what is told of it."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import usage
from benchmarks.perf_analyzer import Figures, Load, PerfAnalyzer
from benchmarks.targets import Server, Target

CDF_POINTS = 200
LONGEST_ANSWER_SECONDS = 3.0
"""A load whose answers would take longer is left out: its clients wait in line, and its figures say nothing new."""
_STAT_SECONDS = 10


@dataclass(frozen=True)
class Point:
    """One load: what every target gets."""

    protocol: str
    concurrency: int
    batch: int

    def __str__(self) -> str:
        return f"{self.protocol}, {self.concurrency} clients, {self.batch} rows"


@dataclass(frozen=True)
class Run:
    """One measurement: perf_analyzer's figures, failed requests, and the server's processor seconds for 1,000 rows."""

    figures: Figures
    errors: int
    cpu_s_per_1000_rows: float | None


def points(protocols: Sequence[str], concurrencies: Sequence[int], batches: Sequence[int]) -> list[Point]:
    """Return every concurrency at the first batch size, and every other batch size at the first concurrency."""
    loads = [(concurrency, batches[0]) for concurrency in concurrencies]
    loads += [(concurrencies[0], batch) for batch in batches[1:]]
    return [Point(protocol, *load) for protocol in protocols for load in loads]


def measure(
    server: Server,
    analyzer: PerfAnalyzer,
    target: Target,
    point: Point,
    data: Path,
    seconds: float,
    keep: bool = False,
) -> Run:
    """Send one load to one target for about `seconds`; `keep` keeps the latency of every request."""
    url = server.http_url if point.protocol == "http" else server.grpc_url
    load = Load(target.model, point.protocol, point.concurrency, point.batch if target.batched else 1, target.as_json)
    before, spent = _counts(server.http_url, target.model), usage.cpu_seconds(server.pid)
    figures = analyzer.measure(url, load, data, seconds, latencies=keep)
    after, cpu = _counts(server.http_url, target.model), usage.cpu_seconds(server.pid) - spent
    rows = (after[0] - before[0]) * point.batch
    return Run(figures, after[1] - before[1], cpu * 1000 / rows if rows else None)


def _counts(url: str, model: str) -> tuple[int, int]:
    """How many requests a server has answered, and how many failed."""
    with urllib.request.urlopen(f"http://{url}/v2/models/{model}/stats", timeout=_STAT_SECONDS) as answer:
        found = [version["inference_stats"] for version in json.load(answer)["model_stats"]]
    answered, failed = (sum(int(each[key]["count"]) for each in found) for key in ("success", "fail"))
    return answered, failed


def warm_up(
    server: Server, analyzer: PerfAnalyzer, target: Target, data: Path, protocols: Sequence[str], clients: int = 4
) -> float:
    """Send rows for a moment, over every protocol; returns the requests answered in a second by the last."""
    rate = 0.0
    for protocol in protocols:
        rate = measure(server, analyzer, target, Point(protocol, clients, 1), data, 0.3).figures.requests_per_s
    return rate


def too_slow(single: float | None, point: Point) -> str:
    """Say why a load is left out, given the seconds of one row from one client; nothing if it is not."""
    expected = (single or 0.0) * point.concurrency
    return f"an answer would take about {expected:.0f} s" if expected > LONGEST_ANSWER_SECONDS else ""


def window(seconds: float, single: float | None, point: Point) -> float:
    """Return how long to measure, so that each of the three windows has a few answers of every client."""
    return max(seconds, 4.5 * (single or 0.0) * (1 if point.concurrency == 1 else 0.5 * point.concurrency))


def result(target: Target, point: Point, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what is told of a target at a point: medians over the repeats, the sum of errors."""
    figures = [run.figures for run in runs]
    requests = statistics.median(figure.requests_per_s for figure in figures)
    cpu = [run.cpu_s_per_1000_rows for run in runs if run.cpu_s_per_1000_rows is not None]
    return {
        "target": target.name,
        "protocol": point.protocol,
        "concurrency": point.concurrency,
        "batch": point.batch,
        **{f"{key}_us": statistics.median(vars(one)[f"{key}_us"] for one in figures) for key in ("p50", "p90", "p99")},
        "rows_per_s": round(requests * point.batch, 1),
        "requests_per_s": round(requests, 1),
        "cpu_s_per_1000_rows": round(statistics.median(cpu), 5) if cpu else None,
        "errors": sum(run.errors for run in runs),
        "stable": all(figure.stable for figure in figures),
    }


def cdf(latencies: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    """Return the distribution of latencies for a plot: `share` of the requests that took at most `us`."""
    share = np.linspace(0, 1, CDF_POINTS + 1)
    return {
        "share": [round(float(one), 4) for one in share],
        "us": [round(float(one), 1) for one in np.quantile(latencies, share)],
    }


def throughput_curve(results: Sequence[Mapping[str, Any]], protocol: str) -> dict[str, dict[str, list[float]]]:
    """Return rows/s and p50 (µs) over the clients, by target, for single rows over `protocol`."""
    curves: dict[str, dict[str, list[float]]] = {}
    for found in sorted(results, key=lambda found: int(found["concurrency"])):
        if found["protocol"] == protocol and found["batch"] == 1:
            curve = curves.setdefault(found["target"], {"concurrency": [], "rows_per_s": [], "p50_us": []})
            for key, values in curve.items():
                values.append(found[key])
    return curves


def timed(start: Any) -> tuple[Any, float]:
    """Return what `start` returns and the seconds that it took."""
    began = time.perf_counter()
    return start(), time.perf_counter() - began
