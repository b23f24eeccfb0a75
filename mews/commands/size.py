"""`mews size`: replicas and cost for a load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command()
@command
def size(
    session: Session,
    requests: Annotated[float, typer.Option("--requests", min=0.001, help="Requests per second, at the peak.")],
    p99_ms: Annotated[float, typer.Option("--p99-ms", min=0.001, help="Limit of the p99, in the server.")] = 50.0,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows in a request.")] = 1,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Of one replica for an hour, in your currency.")
    ] = None,
    utilisation: Annotated[
        float, typer.Option("--utilisation", min=0.05, max=1, help="How full a replica is planned to be.")
    ] = 0.6,
    spare: Annotated[int, typer.Option("--spare", min=0, help="Replicas that may be lost at the peak.")] = 1,
    measured: Annotated[
        Path | None, typer.Option("--measured", help="serving.json of your own `mews bench serving`.")
    ] = None,
    shape: Annotated[str, typer.Option("--shape", help="Data of the published figures: demo, criteo-1m ...")] = "demo",
    target: Annotated[str, typer.Option("--target", help="What serves: fused, chained, packed ...")] = "chained",
) -> Any:
    """Tell how many replicas a load needs within a latency limit, and what a million predictions cost."""
    from mews.size import Load, Terms
    from mews.size import size as run_size

    return run_size(session, Load(requests, rows, p99_ms), Terms(utilisation, spare, price), measured, (shape, target))
