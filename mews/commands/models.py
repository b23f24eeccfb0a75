"""`mews models`: which models there are, and the registry of those that were trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from mews.commands.groups import models_app
from mews.session import Session, columns, command


@models_app.command("list")
@command
def list_(session: Session) -> Any:
    """List every model that `model.name` takes: its family, what it learns, whether it can be served."""
    from training.models.catalog import MODELS

    rows = [
        [model.name, model.family, model.task, "yes" if model.servable else "no", model.says]
        for model in MODELS.values()
    ]
    session.terminal.line(columns(rows, "model", "family", "task", "served", ""))
    return [asdict(model) for model in MODELS.values()]


@models_app.command()
@command
def register(
    session: Session,
    export: Annotated[
        bool, typer.Option("--export/--no-export", help="Keep the ONNX graphs too, exporting first if need be.")
    ] = True,
) -> Any:
    """Keep the run's model as the next version in the registry, the challenger, with card, metrics and fingerprints."""
    from mews.registry import register as run_register

    return run_register(session, export)


@models_app.command()
@command
def promote(
    session: Session,
    version: Annotated[str | None, typer.Argument(help="Its number or alias; the challenger if absent.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote it although it is worse; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; it is recorded.")] = None,
) -> Any:
    """Make a registered version the champion, unless it is worse than the one before beyond chance."""
    from mews.registry import promote as run_promote

    return run_promote(session, version, force, reason)


@models_app.command()
@command
def show(
    session: Session,
    version: Annotated[str | None, typer.Argument(help="Its number or alias; all if absent.")] = None,
) -> Any:
    """Show the registered versions, or everything that is recorded of one."""
    from mews.registry import show as run_show

    return run_show(session, version)


@models_app.command()
@command
def card(session: Session) -> Any:
    """Write the model card of the run's model to <run>/model_card.md, and print it."""
    from mews.registry import card as run_card

    return run_card(session)
