"""The servers of one benchmark while they run: started one by one, compared, and what is known of each target."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks import answers, usage
from benchmarks.load import Point, Run, timed, warm_up
from benchmarks.perf_analyzer import BenchmarkError, PerfAnalyzer
from benchmarks.ratios import OWN
from benchmarks.targets import Field, Server, Target, write_requests
from etl.errors import MewsError
from etl.progress import Progress


@dataclass
class Standing:
    """Servers that run, what is known of each target, and what was measured."""

    servers: dict[str, Server] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, dict[int, Path]] = field(default_factory=dict)
    runs: dict[tuple[str, Point], list[Run]] = field(default_factory=dict)
    latencies: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, target: str, reason: str) -> None:
        """Say why a target has no figures."""
        lines = [line.strip() for line in reason.splitlines() if line.strip()]
        told = [line for line in lines if "rror" in line or "xception" in line] or lines
        self.about.setdefault(target, {})["failed"] = (told or ["nothing said"])[-1][:300]

    def single(self, target: str, protocol: str) -> float | None:
        """Seconds of one row from one client; None before it was measured."""
        found = [runs for (name, point), runs in self.runs.items() if name == target and point.protocol == protocol
                 and point.concurrency == 1 and point.batch == 1]  # fmt: skip
        return found[0][0].figures.p50_us / 1e6 if found else None


def start(
    found: Field,
    analyzer: PerfAnalyzer,
    frame: pl.DataFrame,
    work: Path,
    batches: Sequence[int],
    standing: Standing,
    stack: contextlib.ExitStack,
    progress: Progress,
) -> list[Target]:
    """Start every server, one after the other, and warm it up; returns the targets that can be measured."""
    started = []
    for number, target in enumerate(found.targets):
        progress(f"start {target.name}", number, len(found.targets), "servers")
        about = standing.about.setdefault(target.name, {})
        about |= {"note": target.note, "disk_mb": round(usage.disk_mb(target.disk), 2)}
        fitting = [size for size in batches if size <= target.largest_batch]
        standing.data[target.name] = write_requests(target, frame, work / "data" / target.name, fitting)
        try:
            if target.server not in standing.servers:
                _choose(found, target, analyzer, frame, standing, stack)
            about["startup_s"] = standing.about[target.server]["startup_s"]
            if "failed" in standing.about[target.server]:
                raise BenchmarkError(standing.about[target.server]["failed"])
        except (MewsError, OSError) as error:
            if target.name in OWN or target.name == "identity":
                raise
            standing.fail(target.name, str(error))
            continue
        started.append(target)
    progress("done", len(found.targets), len(found.targets), "servers")
    return started


def _choose(
    found: Field,
    target: Target,
    analyzer: PerfAnalyzer,
    frame: pl.DataFrame,
    standing: Standing,
    stack: contextlib.ExitStack,
) -> None:
    """Start a target's server; of several ways the one that answers most is kept, and what was chosen is told."""
    rates: list[tuple[float, Server, float]] = []
    makers = found.servers[target.server]
    protocols = [name for name in target.protocols if name == "http"]
    for make in makers:
        server = make()
        stack.callback(server.stop)
        _, seconds = timed(server.start)
        answers.scores(server.http_url, target, frame.head(1))  # says why not, where perf_analyzer does not
        data = next(iter(standing.data[target.name].values()))
        clients = 1 if len(makers) == 1 else 16
        rates.append((warm_up(server, analyzer, target, data, protocols, clients), server, seconds))
    best = max(rates, key=lambda one: one[0])
    for _, server, _ in rates:
        if server is not best[1]:
            server.stop()
    standing.servers[target.server] = best[1]
    about = standing.about[target.name]
    about["startup_s"] = round(best[2], 3)
    if hasattr(best[1], "workers"):
        about["workers"] = best[1].workers
    if len(rates) > 1:
        about["tried"] = {
            str(server.workers): round(rate, 1) for rate, server, _ in rates if hasattr(server, "workers")
        }


def compare(targets: Sequence[Target], frame: pl.DataFrame, standing: Standing) -> list[str]:
    """Ask every target for the scores of the same rows; returns the names of those that differ from the first."""
    found: dict[str, answers.Scores] = {}
    for target in targets:
        try:
            found[target.name] = answers.scores(standing.servers[target.server].http_url, target, frame)
        except (BenchmarkError, OSError, ValueError, KeyError) as error:
            if target.name in OWN:
                raise
            standing.fail(target.name, f"{type(error).__name__}: {error}")
    standing.about[targets[0].name]["reference"] = found[targets[0].name][-answers.ROWS :].tolist()
    differing = []
    for name, difference in answers.differences(found, targets[0].name).items():
        about = standing.about[name] = standing.about[name] | {"max_abs_diff": difference}
        about["differs"] = answers.differs(difference)
        if about["differs"]:
            differing.append(name)
    if wrong := [name for name in differing if name in OWN]:
        largest = max(standing.about[name]["max_abs_diff"] for name in wrong)
        subject = f"{', '.join(wrong)} and {targets[0].name} answer the same rows differently"
        raise BenchmarkError(subject, expected=f"at most {answers.TOLERANCE:g}", received=f"{largest:g}")
    return differing
