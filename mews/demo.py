"""`mews demo`: every stage, the summary, the report, and what to try next."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from mews import pipeline
from mews.session import Session
from mews.summary import summarise


def demo(session: Session, data: Path | None) -> dict[str, Any]:
    """Run the whole pipeline in the session's run folder and return the summary."""
    session.from_run = False  # the same command makes the same demo, whatever was tried in the folder before
    if data is not None:
        session.overrides[:0] = overrides_for(data)
    terminal, run, config = session.terminal, session.run, session.config
    terminal.line(f"[bold]mews demo[/bold]: {config.data.source} data, {config.model.name}, into {run.folder}")
    started = time.monotonic()
    with run.locked():
        outcomes = pipeline.run(config, run, terminal, tuple(pipeline.STAGES))
        summary = summarise(config, outcomes, time.monotonic() - started)
        write_text(run.summary, json.dumps(summary, indent=2) + "\n")
        from mews.report import render

        render(run.folder)
    _closing_lines(session, summary)
    return summary


def overrides_for(data: Path) -> list[str]:
    """Say which source `data` is, as --set would."""
    from etl.sources.registry import detect

    return [f"data.source={detect(data)}", f"data.path={json.dumps(str(data.resolve()))}"]


def _closing_lines(session: Session, summary: dict[str, Any]) -> None:
    from mews.stages.model import with_interval

    line, run, mews = session.terminal.line, shlex.quote(str(session.run.folder)), _program()
    model, parity = summary["model"], summary["parity"]
    best = f" (best reachable {model['auc_best']:.4f})" if model["auc_best"] is not None else ""
    line()
    line(f"AUC {with_interval(model, 'auc')}{best}" if model["auc"] is not None else _ranked(model["ranking"]))
    largest = max(parity["http_max_abs_diff"], parity["grpc_max_abs_diff"])
    line(f"served = offline within {largest:.1e} on {parity['rows']:,} held-out rows, over HTTP and gRPC")
    line(f"{summary['seconds']['total']:.0f} s, {summary['peak_rss_mb']:,} MiB at the peak; report: {run}/report.html")
    line()
    commands = {
        f"{mews} serve --run {run}": "Triton on 127.0.0.1:8000 and :8001",
        f"{mews} predict --grpc --input {run}/examples/rows.json --run {run}": "scores for a few rows",
        f"{mews} demo --config {run}/config.yaml --run {run} --set model.name=dcn_v2": "only what changes runs",
        f"{mews} config show --run {run}": "every setting",
    }
    line("Next:")
    for command, what in commands.items():
        line(f"  {command:<{max(map(len, commands))}}  # {what}")


def _ranked(ranking: dict[str, Any]) -> str:
    from mews.stages.model import ranked_with_interval

    return ", ".join(f"{name} {ranked_with_interval(found)}" for name, found in ranking.items())


def _program() -> str:
    """Return how to call `mews` from the current folder."""
    path = Path(sys.executable).absolute().with_name("mews")
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
