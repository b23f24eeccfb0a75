"""The run's ensemble under many requests, and what is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mews.session import Session


def soak(session: Session, requests: int, clients: int, out: Path) -> dict[str, Any]:
    """Bring the export up to date, soak it, write soak-<requests>.json and .svg to `out`; returns the report."""
    from benchmarks.soak import run
    from etl.atomic import write_text
    from mews.report.soak import draw
    from mews.stages.features import part_files
    from mews.trust import version_folder

    session.bring("export")
    folder = version_folder(session, None)
    table = out / f"soak-{requests}.json"
    with session.terminal.stage("soak") as progress:
        report = run(
            folder, part_files(session.run, "test")[0], table, requests=requests, clients=clients, progress=progress
        )
    plot = table.with_suffix(".svg")
    write_text(plot, draw(report))
    line = session.terminal.line
    line(
        f"{report['requests']:,} requests, {report['rows']:,} rows, {report['requests_per_s']:,.0f} requests/s: "
        f"{report['failed']} failed, {report['wrong']} wrong"
    )
    slope = report["slope_mb_per_100k"]
    if slope is not None:
        line(f"memory: {slope:+g} MiB for each 100,000 requests after the warm-up (limit {report['slope_limit']:g})")
    for message in report["errors"]:
        session.terminal.error(message)
    line(f"{table}, {plot}")
    return report
