"""Where a server listens: the ports that are asked for, or free ones."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from etl.errors import ServerError


@dataclass(frozen=True)
class Ports:
    """Where a server listens."""

    http: int
    grpc: int
    metrics: int


def choose(host: str, wanted: Sequence[int]) -> Ports:
    """Take the `wanted` ports (HTTP, gRPC, metrics), and free ones for those that are 0.

    All stay bound until all are chosen. ServerError for one that is taken or forbidden.
    """
    with contextlib.ExitStack() as stack:
        return Ports(*(_probe(host, port, stack) for port in wanted))


def _probe(host: str, port: int, stack: contextlib.ExitStack) -> int:
    """Bind `host:port` until `stack` closes and return the port; ServerError if it is taken or forbidden."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise ServerError(
            f"cannot listen on {host}:{port}",
            expected="a free port",
            received=error.strerror or str(error),
            hint=f"Find its user with `ss -ltnp 'sport = :{port}'`, choose another port, or 0 for any free one.",
        ) from None
    chosen: int = listener.getsockname()[1]
    return chosen
