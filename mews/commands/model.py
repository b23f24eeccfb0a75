"""`mews train`, `mews evaluate`, `mews export`: the model, and the ensemble it goes into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from etl.errors import ConfigError
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
    from mews.stages.model import metrics_table, ranking_table

    session.terminal.line(metrics_table(result))
    session.terminal.line(ranking_table(result.get("ranking", {})))
    return result


@app.command()
@command
def export(
    session: Session,
    shape: Annotated[str | None, typer.Option("--shape", help="chained, fused or split.")] = None,
    signature: Annotated[str | None, typer.Option("--signature", help="named, or packed by type.")] = None,
    fused: Annotated[bool, typer.Option("--fused", help="The same as --shape fused.")] = False,
    towers: Annotated[
        Path | None,
        typer.Option("--towers", metavar="OUT", help="Write the model's two towers and item vectors there instead."),
    ] = None,
) -> Any:
    """Write the next version of the ensemble into the Triton repository; docs/deployment-shapes.md has the shapes."""
    given = {"shape": "fused" if fused and shape is None else shape, "signature": signature}
    if towers is not None:
        return _towers(session, towers, [f"--{key}" for key, value in given.items() if value is not None])
    session.overrides += [f"export.{key}={value}" for key, value in given.items() if value is not None]
    return session.bring("export")["export"].result


def _towers(session: Session, out: Path, refused: Sequence[str]) -> Any:
    if refused:
        raise ConfigError("mews export --towers", expected="no other choices", received=", ".join(refused))
    from mews.stages.towers import export_towers

    session.bring("train")
    with session.run.locked():
        done = export_towers(session.run, session.config, out)
    session.terminal.line(done["says"])
    return done
