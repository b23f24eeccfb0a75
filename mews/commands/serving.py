"""`mews serve`, `mews predict`: the ensemble on a Triton server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, command


@app.command()
@command
def serve(
    session: Session,
    host: Annotated[
        str | None, typer.Option(help="Address to bind to; not a loopback address: open to the network.")
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="0 chooses a free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="0 chooses a free one.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="0 chooses a free one.")] = None,
    triton_url: Annotated[str | None, typer.Option(help="Check a running server instead of starting one.")] = None,
) -> Any:
    """Serve the newest version with the embedded Triton until Ctrl-C."""
    from mews.serve import serve as run_serve

    given = {"host": host, "http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    return run_serve(session, {key: value for key, value in given.items() if value is not None}, triton_url)


@app.command()
@command
def predict(
    session: Session,
    input_file: Annotated[Path, typer.Option("--input", "-i", help="Rows: .json, .jsonl, .csv or .parquet.")],
    http: Annotated[bool, typer.Option("--http/--grpc", help="Protocol.")] = True,
    triton_url: Annotated[str | None, typer.Option(help="host:port; the run's `mews serve` if absent.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write scores to .csv, .json or .parquet.")
    ] = None,
) -> Any:
    """Score rows with a running server, or with one that is started for this command."""
    from mews.predict import predict as run_predict

    return run_predict(session, input_file, "http" if http else "grpc", triton_url, output)
