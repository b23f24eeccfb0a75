"""Whether an MLflow server answers, asked before MLflow itself asks: its own retries take minutes."""

from __future__ import annotations

import ssl
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from etl.errors import ArtifactError

ANSWERS = 10.0
"""Seconds a server has to take a connection, and then to answer on it."""


def check_answers(uri: str) -> None:
    """ArtifactError when nobody answers at the address `uri` within seconds.

    Any answer will do, a refusal too: a gateway before the server may not know what is asked for.
    """
    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWERS):
            return
    except HTTPError:
        return
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLError):
            return  # somebody is there; whose certificate is believed is told to MLflow, and for it to judge
        raise ArtifactError(
            f"registry {uri}",
            expected="a server that answers",
            received=getattr(reason, "strerror", None) or str(reason) or type(reason).__name__,
            hint="Start it, or correct registry.uri or train.mlflow. Neither the run nor the registry was changed.",
        ) from error
