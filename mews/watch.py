"""`mews metrics`: serves the metrics of a run, or of a folder of generations, or writes them to a file once."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from etl.errors import ConfigError
from mews.metrics import collect, render, server
from mews.session import Session


def write(session: Session, path: Path, champion: Path | None) -> dict[str, Any]:
    """Write the metrics to `path`, whole or not at all; ConfigError unless it ends with .prom, as collectors ask."""
    if path.suffix != ".prom":
        raise ConfigError("--textfile", expected="a name that ends with .prom", received=path.name)
    samples = collect(session.run, _name(session), champion)
    write_text(path, render(samples))
    return {"textfile": str(path), "samples": len(samples)}


def serve(session: Session, host: str, port: int, champion: Path | None) -> dict[str, Any]:
    """Answer at /metrics until Ctrl-C or SIGTERM."""
    listening = server(session.run, _name(session), host, port, champion)
    for number in (signal.SIGTERM, signal.SIGINT):
        # From a thread: shutdown waits for the loop that this handler interrupts.
        signal.signal(number, lambda *_: threading.Thread(target=listening.shutdown).start())
    url = f"http://{host}:{listening.server_address[1]}/metrics"
    session.terminal.line(f"metrics of {session.run.folder} at {url}; Ctrl-C stops it.")
    if host not in ("127.0.0.1", "::1", "localhost"):
        session.terminal.warn(f"{host} is open to the network, and nobody is asked who they are")
    with listening:
        listening.serve_forever()
    return {"metrics": url}


def _name(session: Session) -> str | None:
    """The ensemble, if the options or the run folder say it; a folder of generations has the serving one's."""
    said = session.config_file or session.overrides or session.run.config.exists()
    return session.config.export.name if said else None
