"""`mews demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, command

_DataOption = Annotated[
    Path | None, typer.Option("--data", "-d", help="Folder or file of a known data set; generated if absent.")
]


@app.command()
@command
def demo(session: Session, data: _DataOption = None) -> Any:
    """Take data to a served, queried, measured ensemble and a report; from the defaults without --config."""
    from mews.demo import demo as run_demo

    return run_demo(session, data)
