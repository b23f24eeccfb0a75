"""`mews versions`: change the version that a running server answers with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mews.commands.groups import versions_app
from mews.session import Session, command

_Url = Annotated[
    str | None,
    typer.Option("--triton-url", help="host:port of a server's HTTP endpoint; the run's `mews serve` if absent."),
]
_Grpc = Annotated[str | None, typer.Option("--triton-grpc-url", help="Its gRPC endpoint; the next port if absent.")]
_Check = Annotated[bool, typer.Option("--check/--no-check", help="Check files, answers and latency first.")]
_P99 = Annotated[float | None, typer.Option("--p99-ms", min=0, help="Refuse a version whose p99 is above.")]
_Slower = Annotated[
    float, typer.Option("--slower", min=1, help="Refuse a version whose p99 is above this many times the stable one's.")
]
_Parity = Annotated[float, typer.Option("--parity", min=0, help="Largest difference from the recorded answers.")]
_Requests = Annotated[int, typer.Option("--requests", min=0, help="Requests to measure the p99 with; 0 does not.")]
_Version = Annotated[int, typer.Argument(help="Its number.")]


def _limits(p99_ms: float | None, slower: float, parity: float, requests: int) -> Any:
    from ensemble.versions.check import Limits

    return Limits(parity, p99_ms, slower, requests)


@versions_app.command("list")
@command
def list_versions(session: Session, triton_url: _Url = None, triton_grpc_url: _Grpc = None) -> Any:
    """List the versions in the repository: which is stable, which came before, which gets a share of the requests."""
    from mews.versions import Server, listed

    return listed(session, Server(triton_url, triton_grpc_url))


@versions_app.command()
@command
def history(session: Session) -> Any:
    """Tell what was registered, promoted, refused and exported: who, when, and why."""
    from mews.registry import history as run_history

    return run_history(session)


@versions_app.command()
@command
def publish(
    session: Session,
    version: Annotated[int | None, typer.Argument(help="Its number; the newest if absent.")] = None,
    candidate: Annotated[bool, typer.Option("--candidate", help="Keep it loaded beside the stable one only.")] = False,
    triton_url: _Url = None,
    triton_grpc_url: _Grpc = None,
    check: _Check = True,
    p99_ms: _P99 = None,
    slower: _Slower = 3.0,
    parity: _Parity = 1e-5,
    requests: _Requests = 100,
) -> Any:
    """Load a version beside the stable one, check it there, and make it stable; on failure the old one stays."""
    from ensemble.versions import change as versions
    from mews.versions import Server, change

    return change(
        session,
        Server(triton_url, triton_grpc_url),
        lambda work: versions.publish(work, version, candidate=candidate),
        limits=_limits(p99_ms, slower, parity, requests),
        check=check,
    )


@versions_app.command()
@command
def promote(
    session: Session,
    version: Annotated[int | None, typer.Argument(help="The canary, or else the candidate, if absent.")] = None,
    triton_url: _Url = None,
    triton_grpc_url: _Grpc = None,
    check: _Check = True,
    p99_ms: _P99 = None,
    slower: _Slower = 3.0,
    parity: _Parity = 1e-5,
    requests: _Requests = 100,
) -> Any:
    """Make the canary or the candidate stable."""
    from ensemble.versions import change as versions
    from mews.versions import Server, change

    limits = _limits(p99_ms, slower, parity, requests)
    return change(
        session,
        Server(triton_url, triton_grpc_url),
        lambda work: versions.promote(work, version),
        limits=limits,
        check=check,
    )


@versions_app.command()
@command
def canary(
    session: Session,
    version: _Version,
    share: Annotated[float, typer.Option("--share", help="Of the requests, 0 to 1; 0 ends it.")] = 0.1,
    triton_url: _Url = None,
    triton_grpc_url: _Grpc = None,
    check: _Check = True,
    p99_ms: _P99 = None,
    slower: _Slower = 3.0,
    parity: _Parity = 1e-5,
    requests: _Requests = 100,
) -> Any:
    """Check a version beside the stable one, and tell clients to send it a share of their requests."""
    from ensemble.versions import change as versions
    from mews.versions import Server, change

    limits = _limits(p99_ms, slower, parity, requests)
    return change(
        session,
        Server(triton_url, triton_grpc_url),
        lambda work: versions.canary(work, version, share),
        limits=limits,
        check=check,
    )


@versions_app.command()
@command
def rollback(
    session: Session,
    triton_url: _Url = None,
    triton_grpc_url: _Grpc = None,
    check: _Check = True,
    parity: _Parity = 1e-5,
) -> Any:
    """Return to the version that was stable before."""
    from ensemble.versions import change as versions
    from mews.versions import Server, change

    limits = _limits(None, 1.0, parity, 0)
    return change(
        session, Server(triton_url, triton_grpc_url), versions.rollback, limits=limits, check=check, needs_server=False
    )


@versions_app.command()
@command
def delete(session: Session, version: _Version, triton_url: _Url = None, triton_grpc_url: _Grpc = None) -> Any:
    """Remove a version that is neither stable, previous, candidate nor canary."""
    from ensemble.versions import change as versions
    from mews.versions import Server, change

    return change(
        session, Server(triton_url, triton_grpc_url), lambda work: versions.delete(work, version), needs_server=False
    )
