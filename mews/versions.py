"""`mews versions`: which versions there are, and which of them answers, on a server that is running."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mews.session import Session, columns

if TYPE_CHECKING:
    from ensemble.versions.check import Limits
    from ensemble.versions.control import Control
    from ensemble.versions.work import Work

_SHORT, _MINUTES = 12, len("2026-01-31T12:00")
_SHOWN = ("auc", "logloss")


@dataclass(frozen=True)
class Server:
    """The addresses (host:port) of a server; of gRPC, if absent, the port after that of HTTP. None: the run's."""

    http: str | None = None
    grpc: str | None = None


def listed(session: Session, server: Server) -> list[dict[str, Any]]:
    """Print and return what is known of each version; `ready` is null without a server."""
    from ensemble.versions.state import describe

    with _control(session, server) as control:
        ready = None if control is None else control.ready()
        serving = None if control is None else control.serving(session.config.export.name)
    found = describe(_place(session), ready)
    for each in found if ready is not None else ():
        # The stable version's name may still answer with another one.
        each["ready"] = each["version"] == serving or (each["ready"] and each["state"] != "stable")
    session.terminal.line(_table(found))
    return found


def change(
    session: Session,
    server: Server,
    do: Callable[[Work], dict[str, Any]],
    *,
    limits: Limits | None = None,
    check: bool = True,
    needs_server: bool = True,
) -> dict[str, Any]:
    """Run one change of versions and print its steps; without a server, one is started for it if it needs one."""
    from ensemble.versions.check import Limits
    from ensemble.versions.work import Work

    def tell(step: str) -> None:
        session.terminal.check()
        session.terminal.line(f"  {step}")

    with _control(session, server, start=needs_server) as control:
        work = Work(_place(session), control, tell, limits or Limits(), check, _trusted(session))
        answer = do(work)
    session.terminal.line(_says(answer))
    return answer


def serving(session: Session, server: Server) -> int | None:
    """Return the version that the server answers with; None without a server, or when it has none loaded."""
    with _control(session, server) as control:
        return None if control is None else control.serving(session.config.export.name)


def resume(session: Session, url: str) -> None:
    """After `mews serve` has started: load what is kept beside the stable version; a failure is a warning."""
    from ensemble.versions.change import resume as run_resume
    from ensemble.versions.control import Control
    from ensemble.versions.work import Work

    place = _place(session)
    if place.state.labels.beside:
        with Control(url) as control:
            for problem in run_resume(Work(place, control, trusted=_trusted(session))):
                session.terminal.warn(problem)


def exports(session: Session) -> list[dict[str, Any]]:
    """Return what the model repository tells of its versions as events; none without one. It does not record who."""
    from ensemble.versions.state import describe

    if not (session.run.repository / session.config.export.name).is_dir():
        return []
    return [
        {
            "at": one.get("created", ""),
            "by": "not recorded",
            "where": "repository",
            "version": one["version"],
            "event": "exported",
            "detail": f"now {one['state']}" if "created" in one else one["problem"],
        }
        for one in describe(_place(session))
    ]


def _place(session: Session) -> Any:
    from ensemble.versions.state import Place
    from etl.errors import ConfigError

    repository, name = session.run.repository, session.config.export.name
    if not (repository / name).is_dir():
        raise ConfigError(
            f"model repository {repository}",
            expected=f"an exported ensemble {name!r}",
            received="none",
            hint="Run `mews export` first.",
        )
    return Place(repository.absolute(), name)


@contextlib.contextmanager
def _control(session: Session, server: Server, *, start: bool = False) -> Iterator[Control | None]:
    """The server to change: the given one, the configured one, the run's `mews serve`, or one for this command."""
    from ensemble.server.triton import TritonServer
    from ensemble.versions.control import Control
    from mews.predict import running_server
    from mews.stages.serving import next_port

    _place(session)
    serve = session.config.serve
    http = server.http or serve.triton_url
    url = server.grpc or serve.triton_grpc_url or (next_port(http) if http else None)
    if url is None and (running := running_server(session)) is not None:
        url = running["grpc"]
    if url is not None:
        with Control(url) as control:
            yield control
    elif start:
        session.terminal.line("[dim]no `mews serve` of this run is up; trying on an embedded Triton[/dim]")
        with TritonServer(session.run.repository, serve, []) as own, Control(own.grpc_url) as control:
            yield control
    else:
        yield None


def _trusted(session: Session) -> Any:
    from ensemble.signing import PublicKey

    keys = session.config.serve.trusted_keys
    return None if keys is None else [PublicKey.read(path) for path in keys]


def _says(answer: dict[str, Any]) -> str:
    if "deleted" in answer:
        return f"version {answer['deleted']} deleted; version {answer['stable']} is stable"
    measured = [f"largest difference {answer['parity']:.1e}"] if "parity" in answer else []
    measured += [f"p99 {answer['p99_us'] / 1000:.2f} ms"] if "p99_us" in answer else []
    measured += [f"of the stable version {answer['stable_p99_us'] / 1000:.2f} ms"] if "stable_p99_us" in answer else []
    return ", ".join([f"version {answer['version']} {answer['did']}; version {answer['stable']} is stable", *measured])


def _table(found: list[dict[str, Any]]) -> Any:
    ready = {True: "ready", False: "not loaded", None: ""}
    rows = [
        [
            str(each["version"]),
            each["state"] + (f" {each['share']:.0%}" if "share" in each else ""),
            ready[each["ready"]],
            each["created"][:_MINUTES].replace("T", " ") if "created" in each else each["problem"],
            str(each.get("fingerprint", ""))[:_SHORT],
            f"{each.get('size', 0) / 2**20:.1f} MiB",
            ", ".join(f"{key} {value:.4g}" for key, value in _numbers(each.get("metrics", {})).items()),
        ]
        for each in found
    ]
    return columns(rows, "version", "state", "server", "created", "fingerprint", "size", "metrics")


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {key: metrics[key] for key in _SHOWN if isinstance(metrics.get(key), int | float)}
