"""`mews compare`: models and baselines side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command()
@command
def compare(
    session: Session,
    models: Annotated[
        str | None, typer.Option("--models", help="Names with commas, or none; the ladder and more if absent.")
    ] = None,
    baselines: Annotated[
        str | None, typer.Option("--baselines", help="Names with commas, or none; all if absent.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Folder or file of a known data set; the run's if absent.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="The page; <run>/compare/compare.html if absent.")
    ] = None,
) -> Any:
    """Train models on one split, judge them beside baselines in one table with intervals, and write a page.

    A model that has not changed is not trained again; one that fails is told and does not stop the others.
    """
    from mews.compare.run import compare as run_compare

    if data is not None:
        from mews.demo import overrides_for

        session.overrides[:0] = overrides_for(data)
    return run_compare(session, _names(models), _names(baselines), out)


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",")]
