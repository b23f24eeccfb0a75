"""`mews bench soak`: many requests, no error, flat memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import bench_app
from mews.session import Session, command


@bench_app.command("soak")
@command
def bench_soak(
    session: Session,
    requests: Annotated[int, typer.Option("--requests", min=1, help="How many.")] = 1_000_000,
    clients: Annotated[int, typer.Option("--clients", min=1, help="Half of them over gRPC.")] = 4,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")] = Path("runs/bench"),
) -> Any:
    """Send random rows to the run's ensemble over HTTP and gRPC; check every answer and the server's memory.

    Exit code 1 if a request failed, an answer was wrong, or memory grew by more than the limit.
    """
    from mews.soak import soak

    report = soak(session, requests, clients, out)
    if not report["ok"]:
        session.terminal.result(report)
        raise typer.Exit(1)
    return report
