"""Whether clients notice that the version is changed: a steady load over HTTP and gRPC while versions are swapped.

Two versions that answer differently; one is published over the other and rolled back, again and again, each time with
everything that `mews versions` does: load beside, compare, measure, switch, unload. The load runs in processes of its
own and judges each answer by its model_version and by its scores.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import polars as pl
from onnx import helper, numpy_helper

from benchmarks import machine, steady
from benchmarks.goals import Goal, judge
from ensemble.config import ExportConfig, ServeConfig
from ensemble.export.export import export
from ensemble.repository import activate
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestSchema
from ensemble.versions import change, recorded
from ensemble.versions.check import Limits
from ensemble.versions.control import Control
from ensemble.versions.state import Place
from ensemble.versions.work import Work
from etl.atomic import write_text
from etl.names import SCORE
from etl.progress import Progress, silent

GOALS = {
    "failed": Goal(0, at_most=True),
    "wrong_version": Goal(0, at_most=True),
    "p99_during_over_before": Goal(2.0, at_most=True),
}
_PROTOCOLS = ("http", "grpc")
_REQUESTS = 64
_WARM_SECONDS = 1.0


@dataclass(frozen=True)
class Settings:
    """`swaps` publishes, each followed by a rollback, with a pause after each; `rate` is per second and protocol."""

    swaps: int = 100
    seconds_between: float = 0.3
    seconds_before: float = 10.0
    rate: float = 100.0
    threads: int = 2
    check_requests: int = 20


@dataclass(frozen=True)
class Mark:
    """One change: when it began and ended (seconds, monotonic), and the version after it."""

    kind: str
    version: int
    started: float
    ended: float


def altered(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with half the score, so that its answers are told from the original's."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        node.output[:] = ["score/whole" if name == SCORE else name for name in node.output]
        node.input[:] = ["score/whole" if name == SCORE else name for name in node.input]
    changed.graph.initializer.append(numpy_helper.from_array(np.array(0.5, dtype=np.float32), "score/half"))
    changed.graph.node.append(helper.make_node("Mul", ["score/whole", "score/half"], [SCORE]))
    return changed


def prepare(
    workflow: Path, model: Path, folder: Path, config: ExportConfig, request: RequestSchema, rows: pl.DataFrame
) -> Place:
    """Export `model`, and it altered, as versions 1 and 2 of an ensemble in `folder`; version 1 is stable."""
    other = folder / "altered.onnx"
    onnx.save(altered(onnx.load(model)), other)
    place = Place(folder / "models", config.name)
    for graph in (model, other):
        export(workflow, graph, place.repository, config, request, {}, rows)
    activate(place.repository, place.name, 1)
    return place


def run(
    place: Place,
    rows: pl.DataFrame,
    request: RequestSchema,
    out: Path,
    settings: Settings | None = None,
    serve: ServeConfig | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Swap versions 1 and 2 of `place` under load; write the figures to `out` (JSON) and return them.

    Latencies are in microseconds, from the first byte sent to the answer read. "During" is everything from the start of
    the first change to the end of the last, pauses included. ServerError, ArtifactError as `ensemble.versions.change`.
    """
    settings = settings or Settings()
    requests = [encode(rows.slice(number, 1), request) for number in range(min(rows.height, _REQUESTS))]
    expected = {
        version: [recorded.offline(place, version, each)[SCORE] for each in requests]
        for version in place.state.versions
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mews-swap-")))
        steady.write_data(folder / "data.npz", requests, expected)
        server = stack.enter_context(TritonServer(place.repository, serve, [place.name]))
        urls = {"http": server.http_url, "grpc": server.grpc_url}
        loads = {protocol: _load(protocol, urls[protocol], place.name, folder, settings) for protocol in _PROTOCOLS}
        for load in loads.values():
            stack.callback(load.kill)
        control = stack.enter_context(Control(server.grpc_url))
        time.sleep(_WARM_SECONDS)
        begun = time.monotonic()
        time.sleep(settings.seconds_before)
        marks = swap(Work(place, control, limits=Limits(requests=settings.check_requests)), settings, progress)
        seen = {protocol: load.stop() for protocol, load in loads.items()}
    report = _report(seen, begun, marks, settings)
    write_text(out, json.dumps(report, indent=1) + "\n")
    return report


def swap(work: Work, settings: Settings, progress: Progress = silent) -> list[Mark]:
    """Publish version 2 and roll back to version 1, `swaps` times; returns when each was."""
    marks = []
    for number in range(settings.swaps):
        progress("swap", number, settings.swaps, "swaps")
        steps: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
            ("swap", lambda: change.publish(work, 2)),
            ("rollback", lambda: change.rollback(work)),
        )
        for kind, do in steps:
            started = time.monotonic()
            version = do()["stable"]
            marks.append(Mark(kind, version, started, time.monotonic()))
            time.sleep(settings.seconds_between)
    progress("swap", settings.swaps, settings.swaps, "swaps")
    return marks


def _load(protocol: str, url: str, model: str, folder: Path, settings: Settings) -> steady.Process:
    data, out = str(folder / "data.npz"), str(folder / f"{protocol}.npz")
    job = steady.Job(url, protocol, model, SCORE, data, out, settings.threads, settings.rate)
    return steady.Process(job, folder)


def _report(seen: Mapping[str, steady.Seen], begun: float, marks: Sequence[Mark], settings: Settings) -> dict[str, Any]:
    first, last = marks[0].started, marks[-1].ended
    by_protocol = {protocol: _figures([each], begun, first, last) for protocol, each in seen.items()}
    figures = _figures(list(seen.values()), begun, first, last)
    ratio = figures["p99_during_us"] / figures["p99_before_us"]
    measured = {"failed": figures["failed"], "wrong_version": figures["wrong_version"], "p99_during_over_before": ratio}
    seconds = {
        kind: round(statistics.median(mark.ended - mark.started for mark in marks if mark.kind == kind), 3)
        for kind in ("swap", "rollback")
    }
    return {
        "swaps": sum(mark.kind == "swap" for mark in marks),
        "rollbacks": sum(mark.kind == "rollback" for mark in marks),
        **figures,
        "p99_during_over_before": round(ratio, 3),
        "goals": judge(measured, GOALS),
        "protocols": by_protocol,
        "seconds": seconds,
        "errors": [text for each in seen.values() for text in each.errors][:20],
        "timeline": _timeline(list(seen.values()), begun, marks),
        "settings": vars(settings),
        "machine": machine.describe(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _figures(seen: Sequence[steady.Seen], begun: float, first: float, last: float) -> dict[str, Any]:
    started, latency, version, verdict = (
        np.concatenate([getattr(each, name) for each in seen])
        for name in ("started", "latency_us", "version", "verdict")
    )
    answered = verdict == steady.OK
    windows = {
        "before": answered & (started >= begun) & (started < first),
        "during": answered & (started >= first) & (started <= last),
    }
    found: dict[str, Any] = {
        "requests": int(verdict.size),
        "failed": int((verdict == steady.FAILED).sum()),
        "wrong_version": int((verdict == steady.WRONG).sum()),
        "answers_by_version": {str(int(each)): int((version == each).sum()) for each in np.unique(version)},
    }
    for share in (50, 99):
        for window, inside in windows.items():
            found[f"p{share}_{window}_us"] = round(float(np.percentile(latency[inside], share)), 1)
    return found | {"slowest_during_us": round(float(latency[windows["during"]].max()), 1)}


def _timeline(seen: Sequence[steady.Seen], begun: float, marks: Sequence[Mark]) -> dict[str, Any]:
    """Percentiles of latency by time, in at most 400 steps, and the changes; seconds from the start."""
    started = np.concatenate([each.started for each in seen]) - begun
    latency = np.concatenate([each.latency_us for each in seen])
    kept = started >= 0
    started, latency = started[kept], latency[kept]
    step = max(0.25, float(started.max()) / 400)
    places: npt.NDArray[np.int64] = (started / step).astype(np.int64)
    points = []
    for place in np.unique(places):
        values = latency[places == place]
        p50, p99 = np.percentile(values, (50, 99))
        points.append([round((float(place) + 0.5) * step, 3), round(float(p50), 1), round(float(p99), 1)])
    changes = [[mark.kind, round(mark.started - begun, 3), round(mark.ended - begun, 3)] for mark in marks]
    return {"step_seconds": step, "points": points, "changes": changes}
