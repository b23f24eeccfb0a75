"""How fast the exported ensembles answer, beside the floor and beside what people have today.

Each target has a server of its own: every export (fused, chained, packed), an identity ensemble with the same inputs
(the floor), Merlin Systems' export, and the peers of benchmarks/servers. All answer the same rows first and are
compared. perf_analyzer then sends real rows: one target is measured at a time, all targets in turn at each point, and
all points `repeats` times, so that what else runs on the machine meets all of them; figures are medians over repeats.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import answers, goals, in_process, machine, usage, waterfall
from benchmarks.load import Point, cdf, measure, points, result, too_slow, window
from benchmarks.perf_analyzer import STABLE, BenchmarkError, PerfAnalyzer
from benchmarks.ratios import OWN, ratios
from benchmarks.standing import Standing, compare, start
from benchmarks.targets import ALL_PEERS, IN_PROCESS, Served, Target, prepare, sample, steps
from ensemble import manifest
from etl.atomic import write_text
from etl.errors import ConfigError
from etl.graph import FeatureGraph
from etl.progress import Progress, silent

PACKAGES = ("fastapi", "uvicorn", "orjson", "litserve", "bentoml", "tensorflow")


@dataclass(frozen=True)
class Report:
    """What `run` wrote: see `to_json` for the keys."""

    results: tuple[Mapping[str, Any], ...]
    targets: Mapping[str, Mapping[str, Any]]
    skipped: Sequence[Mapping[str, Any]]
    ratios: Mapping[str, Mapping[str, float]]
    goals: Mapping[str, Mapping[str, Any]]
    cdf: Mapping[str, Mapping[str, list[float]]]
    waterfall: Mapping[str, Any]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    created: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields: `results`, `targets` by name, `ratios` by protocol, `cdf` by target."""
        return {**vars(self), "results": list(self.results)}


def peers(wanted: str) -> tuple[str, ...]:
    """Return the targets of "all", "none" or names with commas; ConfigError for others."""
    names = {"all": ALL_PEERS, "none": (), "": ()}.get(wanted, tuple(filter(None, map(str.strip, wanted.split(",")))))
    if unknown := [name for name in names if name not in ALL_PEERS]:
        expected = f"all, none, or some of {', '.join(ALL_PEERS)}"
        raise ConfigError("--peers", expected=expected, received=", ".join(unknown))
    return tuple(name for name in ALL_PEERS if name in names)


def run(
    exports: Sequence[Path],
    rows: Path,
    out: Path,
    *,
    graph: FeatureGraph | None = None,
    model: Path | None = None,
    onnx: Path | None = None,
    wanted_peers: Collection[str] = (),
    protocols: Sequence[str] = ("http", "grpc"),
    concurrencies: Sequence[int] = (1, 4, 16),
    batches: Sequence[int] = (1, 64),
    seconds: float = 0.9,
    repeats: int = 2,
    trace: bool = False,
    progress: Progress = silent,
) -> Report:
    """Measure the version folders `exports` (<repository>/<name>/<version>) with raw rows from the Parquet file `rows`.

    `wanted_peers` are names of targets.ALL_PEERS; they are made of the fitted `graph` without the label, the folder
    `model` of training.json and the SavedModel, and the folder `onnx` of workflow.onnx and model.onnx. `seconds` is
    what one load of one target takes, besides a third of a second of perf_analyzer's own. `trace` adds the waterfall.
    Writes JSON to `out`, atomically. Raises BenchmarkError (exports that read different columns or answer differently,
    one that answers nothing), ArtifactError, ServerError, RequestError (rows that do not fit). A peer that fails says
    so in its target.
    """
    wanted, standing = points(protocols, concurrencies, batches), Standing()
    served = Served(exports, rows, graph, model, onnx)
    with tempfile.TemporaryDirectory(prefix="mews-bench-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        found = prepare(served, work, wanted_peers)
        for name, reason in found.failed.items():
            standing.fail(name, reason)
        analyzer = PerfAnalyzer.find(work / "perf_analyzer")
        frame = _rows(served, wanted_peers, batches)
        targets = start(found, analyzer, frame, work, sorted(set(batches)), standing, stack, progress)
        differing = compare(targets, frame, standing)
        _measure_all(analyzer, targets, wanted, seconds, repeats, standing, progress)
        for target in targets:
            if "failed" not in standing.about[target.name]:
                standing.about[target.name]["memory_mb"] = round(
                    usage.memory_mb(standing.servers[target.server].pid), 1
                )
        stack.close()
        if IN_PROCESS in wanted_peers:
            _in_process(served, frame, wanted, seconds, work, standing)
        traces = _traces(analyzer, targets, standing, work, protocols[0], seconds, progress) if trace else {}
    results = _results(targets, wanted, standing)
    report = _report(results, standing, differing, protocols, traces)
    settings = {"seconds": seconds, "repeats": repeats, "stable_within": STABLE, "rows": str(rows)}
    report = Report(**{**vars(report), "settings": settings})
    write_text(out, json.dumps(report.to_json(), indent=1) + "\n")
    return report


def _rows(served: Served, wanted_peers: Collection[str], batches: Sequence[int]) -> pl.DataFrame:
    request = manifest.load(served.exports[0]).request
    return sample(served.rows, request, steps(batches), plain=bool(wanted_peers))


def _measure_all(
    analyzer: PerfAnalyzer,
    targets: Sequence[Target],
    wanted: Sequence[Point],
    seconds: float,
    repeats: int,
    standing: Standing,
    progress: Progress,
) -> None:
    """Measure all points, all targets in turn at each."""
    turns = [
        (repeat, point, target)
        for repeat, point, target in itertools.product(range(repeats), wanted, targets)
        if point.protocol in target.protocols and point.batch <= target.largest_batch
    ]
    for done, (repeat, point, target) in enumerate(turns):
        progress(f"{target.name} {point.protocol} x{point.concurrency} batch {point.batch}", done, len(turns), "loads")
        if "failed" in standing.about[target.name]:
            continue
        keep = repeat == repeats - 1 and point == wanted[0]
        _one(analyzer, target, point, seconds, keep, standing)
    progress("done", len(turns), len(turns), "loads")


def _one(analyzer: PerfAnalyzer, target: Target, point: Point, seconds: float, keep: bool, standing: Standing) -> None:
    """Measure one load, or tell why it was left out."""
    single = standing.single(target.name, point.protocol)
    told = {"target": target.name, **vars(point)}
    if why := too_slow(single, point):
        if told | {"why": why} not in standing.skipped:
            standing.skipped.append(told | {"why": why})
        return
    server, data = standing.servers[target.server], standing.data[target.name][point.batch]
    length = window(seconds, single, point)
    try:
        found = measure(server, analyzer, target, point, data, length, keep)
    except (BenchmarkError, OSError):
        try:  # perf_analyzer gives up when a busy peer answers a question about its statistics too late
            found = measure(server, analyzer, target, point, data, length, keep)
        except (BenchmarkError, OSError) as error:
            if target.name in (*OWN, "identity"):
                raise
            standing.skipped.append(told | {"why": str(error)[-300:]})
            return
    standing.runs.setdefault((target.name, point), []).append(found)
    if found.figures.latencies_us is not None:
        standing.latencies[target.name] = found.figures.latencies_us


def _in_process(
    served: Served, frame: pl.DataFrame, wanted: Sequence[Point], seconds: float, work: Path, standing: Standing
) -> None:
    """Measure TensorFlow alone on the features of the same rows; its results carry the protocol `none`."""
    from benchmarks.subject import transformed

    if served.model is None or served.onnx is None:
        standing.fail(IN_PROCESS, "there is no SavedModel, or no workflow.onnx to make features with")
        return
    request = manifest.load(served.exports[0]).request
    features = work / "features.npz"
    np.savez(features, **transformed(served.onnx / "workflow.onnx", frame, request))
    loads = [(point.concurrency, point.batch, seconds) for point in wanted if point.protocol == wanted[0].protocol]
    try:
        found = in_process.run(served.model, features, loads)
    except (BenchmarkError, OSError) as error:
        standing.fail(IN_PROCESS, str(error))
        return
    reference: list[float] = next((about["reference"] for about in standing.about.values() if "reference" in about), [])
    largest = float(np.abs(np.array(found["scores"]) - np.array(reference)).max()) if reference else None
    standing.about[IN_PROCESS] = {
        "note": "TensorFlow alone in this process: no features, no server",
        "disk_mb": round(usage.disk_mb([served.model / "saved_model"]), 2),
        "startup_s": found["startup_s"],
        "max_abs_diff": largest,
        "differs": answers.differs(largest),
        "memory_mb": found["memory_mb"],
        "results": found["results"],
    }


def _traces(
    analyzer: PerfAnalyzer,
    targets: Sequence[Target],
    standing: Standing,
    work: Path,
    protocol: str,
    seconds: float,
    progress: Progress,
) -> dict[str, Any]:
    """Return the waterfall of every ensemble of ours and of the floor."""
    found = {}
    chosen = [target for target in targets if target.name in (*OWN, "identity")]
    for number, target in enumerate(chosen):
        progress(f"trace {target.name}", number, len(chosen), "traces")
        repository = work / "servers" / target.server / "models"
        data = standing.data[target.name][min(standing.data[target.name])]
        found[target.name] = waterfall.measure(analyzer, repository, target, data, work, protocol, min(seconds, 1.0))
    return found


def _results(targets: Sequence[Target], wanted: Sequence[Point], standing: Standing) -> list[dict[str, Any]]:
    found = [
        result(target, point, standing.runs[target.name, point])
        for point in wanted
        for target in targets
        if (target.name, point) in standing.runs
    ]
    alone = standing.about.get(IN_PROCESS, {}).pop("results", [])
    return found + [{"target": IN_PROCESS, "protocol": "none", **one} for one in alone]


def _report(
    results: Sequence[dict[str, Any]],
    standing: Standing,
    differing: Sequence[str],
    protocols: Sequence[str],
    traces: Mapping[str, Any],
) -> Report:
    for about in standing.about.values():
        about.pop("reference", None)
    quotients = ratios(results, differing)
    return Report(
        results=tuple(results),
        targets=standing.about,
        skipped=standing.skipped,
        ratios=quotients,
        goals=goals.judge(quotients.get(protocols[0], {})),
        cdf={name: cdf(values) for name, values in standing.latencies.items()},
        waterfall=traces,
        machine=machine.describe(PACKAGES),
        settings={},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
