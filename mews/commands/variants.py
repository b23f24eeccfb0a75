"""`mews variants`: the model in other precisions, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, columns, command


@app.command()
@command
def variants(
    session: Session,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of 50 calls; medians are told.")] = 20,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of variants.json; the run's bench/.")] = None,
) -> Any:
    """Compare the model's precisions: accuracy on held-out rows, speed, size, time to load.

    The one to serve is chosen by export.precision; what loses more AUC than export.max_auc_drop is refused there.
    """
    from benchmarks import variants as benchmark
    from mews.stages.variants import model_rows, original, precomputed

    session.bring("export")
    run = session.run
    with session.terminal.stage("variants") as progress, precomputed(run) as (extra, refused):
        report = benchmark.run(
            original(run),
            *model_rows(run, "test"),
            model_rows(run, "valid")[0],
            out or run.bench.parent,
            max_auc_drop=session.config.export.max_auc_drop,
            extra=extra,
            rounds=rounds,
            progress=progress,
        )
    session.terminal.line(columns(benchmark.table(report), *benchmark.HEADERS))
    session.terminal.line(benchmark.summary(report))
    failed = {**report["failed"], **refused}
    for name, reason in failed.items():
        session.terminal.line(f"{name}: {reason}")
    return report | {"failed": failed}
