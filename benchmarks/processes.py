"""A peer as a process that ends with us, whatever ends first, under the supervisor that Triton has too."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.perf_analyzer import BenchmarkError
from ensemble.server import supervisor

ROOT = Path(__file__).resolve().parents[1]
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 3
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}


class PeerServer:
    """One script of benchmarks/servers on 127.0.0.1 and a free port: `start`, `stop`; `pid` is the script's."""

    def __init__(self, module: str, settings: Path, model: str, workers: int, log: Path, seconds: float = 120) -> None:
        self.module, self.model, self.workers = module, model, workers
        self._settings, self._log, self._seconds = settings, log, seconds
        self._process: subprocess.Popen[str] | None = None
        self.pid, self._port = 0, 0

    @property
    def http_url(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._port}"

    grpc_url = http_url

    def start(self) -> PeerServer:
        """Start and wait until the model is ready; BenchmarkError with the last words of the log if it is not."""
        token = f"{supervisor.PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        folder = Path(tempfile.mkdtemp(prefix=f"{token}-"))
        lock = supervisor.take_lock(token, folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        job = {"command": self._command(), "log": str(self._log), "token": token, "folder": str(folder)}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(job | {"grace": _GRACE_SECONDS})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, **_QUIET, "PYTHONPATH": str(ROOT)},
                pass_fds=(lock,),
                start_new_session=True,
            )
        finally:
            os.close(lock)
        assert self._process.stdout is not None
        self.pid = int(self._process.stdout.readline() or 0)
        self._await_ready()
        return self

    def stop(self) -> None:
        """End the peer and what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(4 * _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        supervisor.sweep()

    def _command(self) -> Sequence[str]:
        own = ["--settings", str(self._settings), "--port", str(self._port), "--workers", str(self.workers)]
        return [sys.executable, "-W", "ignore", "-m", self.module, *own]

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self._seconds
        assert self._process is not None
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_ready():
                return
            time.sleep(_POLL_SECONDS)
        said = self._log.read_text(encoding="utf-8", errors="replace").strip() if self._log.exists() else ""
        self.stop()
        raise BenchmarkError(f"{self.module} did not start", received=said[-1500:] or "nothing said")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.http_url, timeout=2)
        try:
            connection.request("GET", f"/v2/models/{self.model}/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
