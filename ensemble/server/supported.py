"""Which versions of Triton can run an export, and the check that a server is one of them."""

from __future__ import annotations

import http.client
import json
import re

from etl.errors import ServerError

OLDEST = (2, 46)
"""Triton of release 24.05, the first whose ONNX Runtime (1.18) has every operator that an export may hold."""
TESTED = (2, 51)
"""The embedded Triton, of release 24.10."""
_TIMEOUT = 5.0


def check_triton(version: str, where: str) -> None:
    """ServerError for a server at `where` that is older than what exports need, or says no version."""
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        raise ServerError(
            f"Triton at {where}",
            expected=f"version {OLDEST[0]}.{OLDEST[1]} (release 24.05) or newer",
            received=version or "no version",
            hint="Its ONNX Runtime lacks operators that exports use; take a newer image (docker/README.md).",
        )


def version_of(address: str) -> str:
    """Return the version that the server with the HTTP endpoint `address` (host:port) says; ServerError for none."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=_TIMEOUT)
    try:
        connection.request("GET", "/v2")
        response = connection.getresponse()
        said = json.loads(response.read(2**16))
        return str(said["version"]) if isinstance(said, dict) and "version" in said else ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerError(f"no answer from Triton at {address}", received=str(error)) from error
    finally:
        connection.close()
