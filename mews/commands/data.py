"""`mews data`: get data, check it, describe it."""

from __future__ import annotations

from typing import Any

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
def data_describe(session: Session) -> Any:
    """Print what every column holds."""
    import json

    from mews.stages.data import profile_table

    session.bring("split")
    profile = json.loads(session.run.profile.read_text(encoding="utf-8"))
    session.terminal.line(profile_table(profile))
    return profile
