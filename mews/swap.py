"""`mews bench swap`: the run's ensemble, swapped with one that answers differently, under load."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mews.session import Session, columns

_SWAP_FILE = "swap"


def swap(session: Session, out: Path, *, swaps: int, between: float, before: float, rate: float) -> dict[str, Any]:
    """Measure with the exported graphs of the run; writes swap.json and swap.svg into `out`, returns the figures."""
    from benchmarks import swap as benchmark
    from ensemble.spec import RequestSchema
    from mews.report import timeline
    from mews.stages.serving import held_out, serving_graph

    session.bring("export")
    run, config = session.run, session.config
    graph = serving_graph(run)
    request = RequestSchema.from_columns(graph.inputs, config.export.forms)
    rows = held_out(run, graph).head(64).collect()
    settings = benchmark.Settings(swaps=swaps, seconds_between=between, seconds_before=before, rate=rate)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mews-swap-") as folder, session.terminal.stage("bench") as progress:
        place = benchmark.prepare(
            run.onnx / "workflow.onnx", run.onnx / "model.onnx", Path(folder), config.export, request, rows
        )
        file = out / f"{_SWAP_FILE}.json"
        report = benchmark.run(place, rows, request, file, settings, config.serve, progress)
    plot = timeline.write(report, out / f"{_SWAP_FILE}.svg")
    session.terminal.line(_table(report))
    session.terminal.line(f"{file}, {plot}")
    return {key: value for key, value in report.items() if key != "timeline"}


def _table(report: dict[str, Any]) -> Any:
    rows = [
        [
            name,
            *(f"{found[key]:,}" for key in ("requests", "failed", "wrong_version")),
            *(
                f"{found[key] / 1000:.2f}"
                for key in ("p50_before_us", "p50_during_us", "p99_before_us", "p99_during_us")
            ),
            f"{found['slowest_during_us'] / 1000:.1f}",
        ]
        for name, found in {"all": report, **report["protocols"]}.items()
    ]
    headers = (
        "requests of",
        "sent",
        "failed",
        "wrong",
        "p50 before ms",
        "during",
        "p99 before ms",
        "during",
        "slowest ms",
    )
    return columns(rows, *headers)
