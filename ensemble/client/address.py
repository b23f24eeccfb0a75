"""Where a server is, and settings of a client that make no sense."""

from __future__ import annotations

from etl.errors import RequestError

_PROTOCOLS = ("http", "grpc")


def check(protocol: str, *, timeout: float, deadline: float | None) -> None:
    """RequestError for a protocol that there is not, and for times that are none."""
    if protocol not in _PROTOCOLS:
        raise RequestError("protocol", expected="http or grpc", received=repr(protocol))
    for name, seconds in (("timeout", timeout), ("deadline", deadline)):
        if seconds is not None and not seconds > 0:
            raise RequestError(name, expected="seconds above 0", received=str(seconds))


def address_of(url: str, protocol: str) -> str:
    """Return host:port; RequestError for anything else, and for the scheme of another protocol."""
    scheme, separator, rest = url.rpartition("://")
    host, colon, port = rest.rstrip("/").rpartition(":")
    if separator and scheme not in _PROTOCOLS:
        raise RequestError(f"URL {url!r}", expected="host:port, http://host:port or grpc://host:port")
    if separator and scheme != protocol:
        raise RequestError(f"URL {url!r}", expected=f"{protocol}://", hint=f"Or ask for protocol {scheme!r}.")
    if not host or not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise RequestError(f"URL {url!r}", expected="host:port, such as 127.0.0.1:8000")
    return f"{host}:{port}"
