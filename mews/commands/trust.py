"""`mews verify`, `mews keys`: whether a version is what was exported, and who says so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import app, keys_app
from mews.session import Session, command

_Version = Annotated[
    str | None,
    typer.Argument(
        metavar="[VERSION]",
        help="A number, <repository>/<name>/<number>, <repository>/<name> (its stable one); else the one that serves.",
    ),
]


@app.command()
@command
def verify(
    session: Session,
    version: _Version = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="A public key: it must have signed the version. May be repeated.")
    ] = None,
) -> Any:
    """Check that an exported version is whole and unchanged; exit code 1 if it is not."""
    from mews.trust import verify as run_verify

    found = run_verify(session, version, key)
    if not found["ok"]:
        session.terminal.result(found)
        raise typer.Exit(1)
    return found


@keys_app.command("create")
@command
def keys_create(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The private key; the public one is <file>.pub.")],
) -> Any:
    """Make a pair of Ed25519 keys: the private one for MEWS_SIGNING_KEY_FILE, the public one for serve.trusted_keys."""
    from mews.trust import create_keys

    return create_keys(session, file)


@keys_app.command("sign")
@command
def keys_sign(session: Session, version: _Version = None) -> Any:
    """Sign a version that was exported unsigned, once it is found whole; the key is in the environment."""
    from mews.trust import sign

    return sign(session, version)
