"""`mews bench serving` with peers or shapes: the run's own model or one of Criteo's shape, and what is printed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import answers, goals, serving, shapes
from benchmarks.subject import Subject
from etl.atomic import write_text
from etl.errors import ConfigError
from mews.session import Session, columns
from mews.stages.features import part_files
from mews.stages.serving import bench_table, serving_graph


def measure(
    session: Session,
    out: Path,
    peers: str,
    shape: tuple[str, str],
    loads: tuple[str, str, str],
    length: tuple[float, int],
    limits: Mapping[str, float],
) -> dict[str, Any]:
    """Measure and return the report of all shapes, also written to `out`; that of the demo also into the run folder.

    `shape` are --shape and --vocabulary, `loads` --protocols, --concurrency and --batch, `length` --seconds and
    --repeats. ConfigError for what none of them knows.
    """
    names, wanted = shapes.names(*shape), serving.peers(peers)
    protocols = tuple(part.strip() for part in loads[0].split(",") if part.strip())
    if not protocols or set(protocols) - {"http", "grpc"}:
        raise ConfigError("--protocols", expected="http, grpc, or both", received=repr(loads[0]))
    chosen = shapes.Loads(
        protocols, _numbers("--concurrency", loads[1]), _numbers("--batch", loads[2]), length[0], length[1]
    )
    if "demo" in names:
        session.bring("export")
    # As an exit, so that servers are stopped and temporary files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with session.terminal.stage("bench") as progress:
        report = shapes.run(
            names,
            out,
            demo=lambda: _demo(session),
            cache=out / "models",
            peers=wanted,
            loads=chosen,
            limits=limits,
            progress=progress,
        )
    if "demo" in names:
        own = json.loads((out / "serving-demo.json").read_text(encoding="utf-8"))
        write_text(session.run.bench, json.dumps(own, indent=1) + "\n")
    return report


def _demo(session: Session) -> Subject:
    run = session.run
    return Subject("demo", serving_graph(run), run.model, run.onnx, part_files(run, "test")[0])


def _numbers(option: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() and int(part) for part in parts):
        raise ConfigError(option, expected="numbers with commas, such as 1,16", received=repr(text))
    return sorted({int(part) for part in parts})


def show(session: Session, report: Mapping[str, Any]) -> None:
    """Print what was compared, what was measured, and which goals are met."""
    line = session.terminal.line
    for name, found in report["shapes"].items():
        line(
            columns(answers.table(found["targets"]), "target", "largest difference", "answers", title=f"{name}: scores")
        )
        line(columns(_costs(found["targets"]), "target", "memory MiB", "start s", "disk MiB", "what"))
        own = [result for result in report["results"] if result["shape"] == name]
        line(bench_table({"results": own}, f"{name}: loads"))
        for left in found["skipped"]:
            line(f"left out: {left['target']}, {left['concurrency']} clients, {left['batch']} rows: {left['why']}")
    rows = [[name, goal["limit"], f"{goal['measured']:g}", "met" if goal["met"] else "missed"]
            for name, goal in report["goals"].items()]  # fmt: skip
    line(columns(rows, "goal", "limit", "measured", "verdict"))
    judged = {goal.rpartition(": ")[2] for goal in report["goals"]}
    missing = [name for name in goals.GOALS if name not in judged]
    if missing:
        line(f"not measured: {', '.join(missing)}")


def _costs(targets: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    keys = ("memory_mb", "startup_s", "disk_mb")
    return [
        [name, *("-" if found.get(key) is None else f"{found[key]:.1f}" for key in keys), str(found.get("note", ""))]
        for name, found in targets.items()
    ]
