"""`mews tune` and `mews tune-serving`: settings of the model, and of the export for a limit of latency."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command()
@command
def tune(
    session: Session,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="At most, those of an earlier run included.")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Begin no trial after so many seconds.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Trials at the same time.")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="grid, random or tpe.")] = None,
    pruner: Annotated[str | None, typer.Option("--pruner", help="median, hyperband or none.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="loss, or a metric of the task such as auc.")] = None,
) -> Any:
    """Search the model's settings by what they give on the validation rows; `tune.space` says among which.

    A second run of the same command goes on where the first stopped. Writes pipeline.yaml with the best settings, and
    a page, into <run>/tune.
    """
    from mews.tune import tune as run_tune

    given = {"trials": trials, "seconds": seconds, "jobs": jobs, "sampler": sampler, "pruner": pruner, "metric": metric}
    session.overrides += [f"tune.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    return run_tune(session)


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
