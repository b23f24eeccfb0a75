"""`mews train`, `mews evaluate`, `mews export`: the model, and the ensemble it goes into."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command()
@command
def train(session: Session) -> Any:
    """Train the configured model on the features."""
    return session.bring("train")["train"].result


@app.command()
@command
def evaluate(session: Session) -> Any:
    """Judge the model on the held-out rows, against baselines, with intervals."""
    result = session.bring("evaluate")["evaluate"].result
    from mews.stages.model import metrics_table

    session.terminal.line(metrics_table(result))
    return result


@app.command()
@command
def export(
    session: Session,
    fused: Annotated[bool, typer.Option("--fused", help="Preprocessing and model in one graph.")] = False,
) -> Any:
    """Write the next version of the ensemble into the Triton repository."""
    if fused:
        session.overrides.append("export.shape=fused")
    return session.bring("export")["export"].result
