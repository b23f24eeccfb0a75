"""`mews config`: look at and check pipeline.yaml."""

from __future__ import annotations

from typing import Any

import typer

from mews.commands.groups import config_app
from mews.session import Session, command


@config_app.command("show")
@command
def config_show(session: Session) -> Any:
    """Print the resolved configuration, every default included."""
    from mews.config import dump

    text = dump(session.config)
    if not session.terminal.as_json:
        typer.echo(text, nl=False)
    return session.config.model_dump(mode="json")


@config_app.command("validate")
@command
def config_validate(session: Session) -> Any:
    """Check the configuration, and build its feature graph's workflow if it names one."""
    config = session.config
    if config.features.workflow:
        from etl import workflow

        workflow.load(config.features.workflow)
    session.terminal.line("the configuration is valid")
    return {"valid": True}


@config_app.command("schema")
@command
def config_schema(session: Session) -> Any:
    """Print the JSON Schema of pipeline.yaml, for editors."""
    import json

    from mews.config import json_schema

    schema = json_schema()
    if not session.terminal.as_json:
        typer.echo(json.dumps(schema, indent=2))
    return schema
