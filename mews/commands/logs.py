"""`mews logs`: tritonserver's log as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command()
@command
def logs(
    session: Session,
    file: Annotated[Path | None, typer.Argument(help="The log; standard input if absent.")] = None,
) -> None:
    """Turn a Triton server's log into JSON lines: time, level, message, source, the request's id where it has one."""
    from ensemble.logs import from_triton
    from etl.errors import DataError

    if file is not None and not file.is_file():
        raise DataError(f"log {file}", expected="a file", received="nothing there")
    with sys.stdin if file is None else file.open(encoding="utf-8", errors="replace") as lines:
        for line in from_triton(lines):
            session.terminal.check()
            print(json.dumps(line, ensure_ascii=False), flush=True)
