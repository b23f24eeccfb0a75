"""`mews tune-serving`: settings of the export for a limit of latency."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command("tune-serving")
@command
def tune_serving(
    session: Session,
    latency_p99: Annotated[str, typer.Option(help="Limit with its unit, such as 5ms or 800us.")],
    protocol: Annotated[Literal["http", "grpc"], typer.Option(help="Protocol of the load.")] = "grpc",
    concurrency: Annotated[int, typer.Option(min=1, help="Clients that send at the same time.")] = 16,
    batch: Annotated[int, typer.Option(min=1, help="Rows of one request.")] = 1,
    trials: Annotated[int, typer.Option(min=1, help="Measurements at most, those of an earlier run included.")] = 20,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one measurement.")] = 1.0,
    apply: Annotated[bool, typer.Option("--apply", help="Export the next version with what was found.")] = False,
) -> Any:
    """Search queue delay, batch sizes, instances and threads for the most rows/s within a limit of latency.

    Each trial is measured by perf_analyzer on a Triton of its own with the run's held-out rows. A second run of the
    same command goes on where the first stopped. Writes tuned.yaml into the run folder.
    """
    from benchmarks.candidates import Traffic
    from mews.tune_serving import tune

    traffic = Traffic(protocol, concurrency, batch, seconds)
    return tune(session, latency_p99, traffic=traffic, trials=trials, apply=apply)
