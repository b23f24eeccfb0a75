"""`mews report`, `mews doctor`: what was done, and what can be."""

from __future__ import annotations

from typing import Any

import typer

from mews.commands.groups import app
from mews.session import Session, columns, command


@app.command()
@command
def report(session: Session) -> Any:
    """Write report.html from what the run folder holds."""
    from mews.report import render

    path = render(session.run.folder)
    session.terminal.line(f"report: {path}")
    return {"report": str(path)}


@app.command()
@command
def doctor(session: Session) -> Any:
    """Check what this machine has and lacks for every part of Mews."""
    from mews.doctor import diagnose

    checks = diagnose()
    session.terminal.line(columns([[c.name, c.status, c.detail] for c in checks], "check", "status", "detail"))
    if any(check.status == "FAIL" for check in checks):
        session.terminal.result({"checks": [vars(check) for check in checks]})
        raise typer.Exit(1)
    return {"checks": [vars(check) for check in checks]}
