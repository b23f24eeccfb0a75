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
    shape: Annotated[str | None, typer.Option("--shape", help="chained, fused or split.")] = None,
    signature: Annotated[str | None, typer.Option("--signature", help="named, or packed by type.")] = None,
    fused: Annotated[bool, typer.Option("--fused", help="The same as --shape fused.")] = False,
) -> Any:
    """Write the next version of the ensemble into the Triton repository; docs/deployment-shapes.md has the shapes."""
    given = {"shape": "fused" if fused and shape is None else shape, "signature": signature}
    session.overrides += [f"export.{key}={value}" for key, value in given.items() if value is not None]
    return session.bring("export")["export"].result
