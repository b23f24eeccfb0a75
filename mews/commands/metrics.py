"""`mews metrics`: what Prometheus scrapes of a run folder, or of a folder with one for each retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command()
@command
def metrics(
    session: Session,
    host: Annotated[str, typer.Option(help="Address to bind to; nobody is asked who they are.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 chooses a free one.")] = 9109,
    textfile: Annotated[
        Path | None, typer.Option("--textfile", help="Write this file once, for node_exporter's textfile collector.")
    ] = None,
    champion: Annotated[
        Path | None,
        typer.Option("--champion", metavar="FILE", help="Names the serving one of several run folders in --run."),
    ] = None,
) -> Any:
    """Serve what --run holds, a run folder or several, as Prometheus metrics: versions, stages, rows, quality."""
    from mews.watch import serve, write

    return write(session, textfile, champion) if textfile else serve(session, host, port, champion)
