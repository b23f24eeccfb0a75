"""Starts a TFJob and waits for it: `python -m mews.kubeflow.launch tfjob.json --generation NAME --runs FOLDER`.

Needs no package, and of the cluster the rights to create, get and delete TFJobs in its own namespace. Given again, it
waits for the TFJob of that name that is there; one that failed is removed and started once more. Exit codes: 0, the
TFJob succeeded, or its generation was released before; 1, it failed.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RELEASED = "release.json"
PLACEHOLDER = "GENERATION"
_PAUSE = 10.0
_GONE, _CONFLICT = 404, 409


@dataclass(frozen=True)
class Server:
    """The API server, as a pod sees it; the token is read for each request, because it is renewed on disk."""

    url: str
    account: Path

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON of an answer; OSError when nobody answers."""
        namespace = (self.account / "namespace").read_text(encoding="utf-8").strip()
        request = urllib.request.Request(
            f"{self.url}/apis/kubeflow.org/v1/namespaces/{namespace}/tfjobs{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(self.account / 'token').read_text(encoding='utf-8').strip()}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls()) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {"message": error.read().decode(errors="replace")[:500]}

    def _tls(self) -> ssl.SSLContext | None:
        if not self.url.startswith("https:"):
            return None
        return ssl.create_default_context(cafile=str(self.account / "ca.crt"))


def main(arguments: Sequence[str] | None = None, pause: float = _PAUSE) -> int:
    """Start the TFJob, wait for it and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mews.kubeflow.launch", description="Start a TFJob and wait.")
    parser.add_argument("manifest", type=Path, help=f"JSON of the TFJob, with {PLACEHOLDER} for the generation")
    parser.add_argument("--generation", required=True, help="name of the run folder and of the TFJob")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--seconds", type=float, default=43200, help="how long it may take")
    parser.add_argument("--server", default=_cluster(), help="the API server; the pod's own cluster if absent")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help="folder of token, ca.crt and namespace")
    given = parser.parse_args(arguments)
    if (given.runs / given.generation / RELEASED).exists():
        return _said(0, f"{given.generation} was released already")
    text = given.manifest.read_text(encoding="utf-8").replace(PLACEHOLDER, given.generation)
    try:
        return _run(Server(given.server, given.account), json.loads(text), time.monotonic() + given.seconds, pause)
    except OSError as error:
        return _said(1, f"the API server {given.server}: {error}")


def _run(server: Server, job: dict[str, Any], end: float, pause: float) -> int:
    name = job["metadata"]["name"]
    status, found = server.ask("GET", f"/{name}")
    if status == 200 and _state(found) == "Failed":
        _said(0, f"TFJob {name} failed before: starting it once more")
        server.ask("DELETE", f"/{name}")
        while server.ask("GET", f"/{name}")[0] != _GONE and time.monotonic() < end:
            time.sleep(pause)
    status, found = server.ask("POST", "", job)
    if status not in (200, 201, _CONFLICT):
        return _said(1, f"TFJob {name} was not taken ({status}): {found.get('message', '')}")
    while time.monotonic() < end:
        status, found = server.ask("GET", f"/{name}")
        if status == _GONE:
            return _said(1, f"TFJob {name} was removed by somebody")
        state = _state(found)
        if state in ("Succeeded", "Failed"):
            return _said(int(state == "Failed"), f"TFJob {name}: {state.lower()}. {_message(found)}")
        time.sleep(pause)
    return _said(1, f"TFJob {name} was not done in time")


def _conditions(found: dict[str, Any]) -> dict[str, str]:
    conditions = found.get("status", {}).get("conditions") or []
    return {each["type"]: each.get("message", "") for each in conditions if each.get("status") == "True"}


def _state(found: dict[str, Any]) -> str:
    return next((name for name in ("Succeeded", "Failed") if name in _conditions(found)), "")


def _message(found: dict[str, Any]) -> str:
    return _conditions(found).get(_state(found), "")


def _cluster() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host or 'kubernetes.default.svc'}:{port}"


def _said(code: int, text: str) -> int:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
