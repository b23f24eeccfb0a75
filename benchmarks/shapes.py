"""`mews bench serving --peers ... --shape ...`: the shapes that are measured, one after the other, and their report.

A shape is the demo's run, or Criteo's columns with a vocabulary. Each is exported fused, chained and packed, and
measured by serving.py into a file of its own; the report of all has every result with its shape.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import budget, goals, serving
from benchmarks.ratios import flatness
from benchmarks.subject import VOCABULARIES, Subject, criteo, exports, vocabularies
from etl.atomic import write_text
from etl.errors import ConfigError
from etl.progress import Progress, silent

SHAPES = ("demo", "criteo")
CRITEO = "criteo-"
_PARTS = ("targets", "skipped", "ratios", "goals", "waterfall", "cdf")


@dataclass(frozen=True)
class Loads:
    """What is measured of every shape; see serving.run."""

    protocols: Sequence[str] = ("http",)
    concurrencies: Sequence[int] = (1, 4, 16, 64)
    batches: Sequence[int] = (1, 64, 1024)
    seconds: float = 0.5
    repeats: int = 1


def names(shapes: str, vocabulary: str) -> list[str]:
    """Return demo, criteo-1k and so on of "demo,criteo" and "1k,100k"; ConfigError for others."""
    wanted = [name.strip() for name in shapes.split(",") if name.strip()]
    if not wanted or (unknown := [name for name in wanted if name not in SHAPES]):
        received = ", ".join(unknown) if wanted else repr(shapes)
        raise ConfigError("--shape", expected=f"some of {', '.join(SHAPES)}", received=received)
    found = ["demo"] if "demo" in wanted else []
    if "criteo" in wanted:
        found += [f"{CRITEO}{size}" for size in sorted(vocabularies(vocabulary), key=VOCABULARIES.__getitem__)]
    return found


def run(
    shapes: Sequence[str],
    out: Path,
    *,
    demo: Callable[[], Subject],
    cache: Path,
    peers: Sequence[str],
    loads: Loads,
    limits: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure `shapes` and return the report of all, also written to `out`/serving.json.

    `demo` makes the demo's subject, if it is asked for; `cache` keeps the models of Criteo's shape. Keys: results (with
    `shape`), targets, ratios, goals and waterfall of the first shape, shapes (the same of each), flatness, budget,
    machine, settings, created.
    """
    reports = {}
    for name in shapes:
        size = name.removeprefix(CRITEO)
        subject = demo() if name == "demo" else criteo(VOCABULARIES[size], name, cache / name)
        reports[name] = one(subject, out / f"serving-{name}.json", peers, loads, _named(name, progress))
    report = together(reports, limits or {})
    write_text(out / "serving.json", json.dumps(report, indent=1) + "\n")
    return report


def _named(name: str, progress: Progress) -> Progress:
    return lambda what, done, total, unit: progress(f"{name}: {what}", done, total, unit)


def one(subject: Subject, out: Path, peers: Sequence[str], loads: Loads, progress: Progress = silent) -> dict[str, Any]:
    """Export a subject in every shape of deployment and measure it; returns the report, also written to `out`."""
    with tempfile.TemporaryDirectory(prefix="mews-exports-") as folder:
        report = serving.run(
            exports(subject, Path(folder)),
            subject.rows,
            out,
            graph=subject.graph,
            model=subject.model,
            onnx=subject.onnx,
            wanted_peers=peers,
            **vars(loads),
            trace=True,
            progress=progress,
        )
    return report.to_json()


def together(reports: Mapping[str, Mapping[str, Any]], limits: Mapping[str, float]) -> dict[str, Any]:
    """Return the report of all shapes."""
    first = next(iter(reports.values()))
    results = [{"shape": name, **result} for name, report in reports.items() for result in report["results"]]
    p50 = {name: found for name, report in reports.items()
           if name.startswith(CRITEO) and (found := _single(report["results"])) is not None}  # fmt: skip
    judged = {f"{name}: {goal}": found for name, report in reports.items() for goal, found in report["goals"].items()}
    flat = flatness(p50)
    if flat is not None:
        judged |= goals.judge({"fused_p50_over_smallest_vocabulary": flat})
    return {
        "results": results,
        **{part: first[part] for part in _PARTS},
        "goals": judged,
        "shapes": {name: {part: report[part] for part in _PARTS} for name, report in reports.items()},
        "flatness": {"p50_us": p50, "largest_over_smallest": flat},
        "budget": {"limits": dict(limits), "broken": budget.broken(limits, results)},
        **{part: first[part] for part in ("machine", "settings")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _single(results: Iterable[Mapping[str, Any]]) -> float | None:
    """p50 of the fused ensemble over HTTP, one row, the fewest clients."""
    found = [one for one in results if one["target"] == "fused" and one["batch"] == 1 and one["protocol"] == "http"]
    return min(found, key=lambda one: int(one["concurrency"]))["p50_us"] if found else None
