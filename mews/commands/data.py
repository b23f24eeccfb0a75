"""`mews data`: get data, check it, describe it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import data_app
from mews.session import Session, command


@data_app.command("generate")
@command
def data_generate(session: Session) -> Any:
    """Read or generate the rows of the configured source into the run folder."""
    return session.bring("data")["data"].result


@data_app.command("validate")
@command
def data_validate(session: Session) -> Any:
    """Check the rows; refused ones go to quarantine.parquet with the reason. Exit code 3 if the data is refused."""
    from mews.stages.data import checks_table, read_validation

    try:
        session.bring("validate")
    finally:
        if (report := read_validation(session.run)) is not None:
            session.terminal.line(checks_table(report))
    return report


@data_app.command("describe")
@command
def data_describe(
    session: Session,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...", help="Parquet, CSV or Arrow IPC files, or folders of them; the run's data if absent."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="Say how every column goes with this one.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="PATH", help="Measure the drift from this file or folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write describe.html and describe.json there.")
    ] = None,
) -> Any:
    """Say what every column holds, how it goes with a label, and how far it drifted from a reference."""
    import json

    from mews.describe import describe_files, describe_run, show

    if paths:
        described = describe_files(session, paths, label, reference, out)
        show(session.terminal, described)
        return described
    session.bring("split")
    profile = json.loads(session.run.profile.read_text(encoding="utf-8"))
    described = describe_run(session, label, reference, out)
    show(session.terminal, described)
    return profile | {"description": described}
