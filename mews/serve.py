"""`mews serve`: the embedded Triton in the foreground."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from etl.errors import ConfigError
from mews.session import Session

_DEFAULT_PORTS = {"http_port": 8000, "grpc_port": 8001, "metrics_port": 8002}


def serve(session: Session, given: dict[str, Any], triton_url: str | None) -> dict[str, Any]:
    """Serve the run's repository until Ctrl-C or SIGTERM; with `triton_url`, check that server instead."""
    from ensemble.server.triton import TritonServer
    from mews.stages.serving import server
    from mews.versions import resume

    config, run, name = session.config, session.run, session.config.export.name
    if triton_url or config.serve.triton_url:
        external = config.serve.model_copy(update={"triton_url": triton_url or config.serve.triton_url})
        with server(run, external, name) as found:
            session.terminal.line(f"{name} is ready at {found['http']}")
            return {"http": found["http"], "grpc": found["grpc"]}
    version = _newest(run.repository, name)
    ports = {key: getattr(config.serve, key) or port for key, port in _DEFAULT_PORTS.items()}
    settings = config.serve.model_copy(update=ports | given)
    triton = TritonServer(run.repository, settings, [name])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: triton.stop())
    with triton:
        urls: dict[str, str] = {"http": triton.http_url, "grpc": triton.grpc_url, "metrics": triton.metrics_url}
        write_text(run.serving, json.dumps(urls))
        try:
            resume(session, triton.grpc_url)
            _announce(session, name, version, urls, settings.host)
            triton.wait()
        finally:
            run.serving.unlink(missing_ok=True)
    session.terminal.line("stopped")
    return urls | {"version": version}


def _newest(repository: Path, name: str) -> int:
    from ensemble.repository import current

    version = current(repository, name) if repository.is_dir() else None
    if version is None:
        raise ConfigError(
            f"model repository {repository}",
            expected=f"an exported ensemble {name!r}",
            received="none",
            hint="Run `mews export` first.",
        )
    return version


def _announce(session: Session, name: str, version: int, urls: dict[str, str], host: str) -> None:
    line = session.terminal.line
    line(f"[bold]{name}[/bold] version {version} is ready")
    line(f"  HTTP     http://{urls['http']}/v2/models/{name}")
    line(f"  gRPC     {urls['grpc']}")
    line(f"  metrics  {urls['metrics']}")
    example = session.run.repository / name / str(version) / "request.example.json"
    if example.is_file():  # Triton takes no FP16 in JSON, so not every request has one
        line(f"  try      curl -s -d @{example} http://{urls['http']}/v2/models/{name}/infer")
    if host not in ("127.0.0.1", "::1", "localhost"):
        session.terminal.warn(f"{host} is open to the network, and Triton asks nobody who they are")
    line("Ctrl-C stops it.")
