"""Starts a Triton server on a model repository, waits until it answers, and stops it with nothing left behind.

The server runs under `ensemble/server/supervisor.py`, so that it ends, and its shared memory goes, also when this
process is killed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ensemble.config import ServeConfig
from ensemble.loading import check_models, unchanged
from ensemble.server import supervisor
from ensemble.server.embedded import Program, find
from ensemble.server.log import explain, ports_taken
from ensemble.server.ports import Ports, choose
from ensemble.server.supported import check_triton
from ensemble.signing import PublicKey
from etl.errors import ServerError

_PORT_ATTEMPTS = 5
_POLL_SECONDS = 0.05
_WAIT_SECONDS = 0.5
_METRICS_STARTED = "Started Metrics Service"
_INPUT, _OUTPUT = (re.compile(rf"^{side} *[\[{{]", re.MULTILINE) for side in ("input", "output"))
_HTTP_THREADS = 8  # Triton's default; on fewer cores they only take turns
_GRACE_SECONDS = 5  # beyond Triton's own exit timeout, before SIGKILL


class TritonServer:
    """One tritonserver in explicit model control: a context manager, or `start` and `stop`.

    `models` are loaded at the start, with the models that ensembles among them are made of; None loads every model.
    `binary` and `backend_directory` take another server than the embedded one (on an NGC image
    `/opt/tritonserver/bin/tritonserver`, with its own backends). `log` keeps the server's log in a file of yours.
    `environment` is added to the server's.
    """

    def __init__(
        self,
        repository: Path,
        config: ServeConfig | None = None,
        models: Sequence[str] | None = None,
        *,
        binary: Path | None = None,
        backend_directory: Path | None = None,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.repository = repository
        self.config = config or ServeConfig()
        self.models = None if models is None else tuple(models)
        self._binary, self._backend_directory, self._log_path = binary, backend_directory, log
        self._environment = dict(environment or {})
        self._supervisor: subprocess.Popen[str] | None = None
        self._stopping = False
        self._token = ""
        self._log_file = -1
        self.pid = 0
        self.version = ""
        self.ports = Ports(0, 0, 0)

    @property
    def http_url(self) -> str:
        """`host:port`, as tritonclient takes it."""
        return self._url(self.ports.http)

    @property
    def grpc_url(self) -> str:
        """`host:port`, as tritonclient takes it."""
        return self._url(self.ports.grpc)

    @property
    def metrics_url(self) -> str:
        """Prometheus metrics, `http://host:port/metrics`."""
        return f"http://{self._url(self.ports.metrics)}/metrics"

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self) -> Self:
        """Check what is to be loaded, start the server, and wait until every model is ready.

        ServerError says why it did not start, ArtifactError what is wrong with a version (ensemble/verification.py).
        """
        if self.running:
            raise ServerError("the server is running already")
        if not self.repository.is_dir():
            raise ServerError(f"model repository {self.repository}", expected="a folder", received="nothing there")
        checked = check_models(self.repository, self.models, self._trusted())
        supervisor.sweep()
        for attempt in range(_PORT_ATTEMPTS):
            self.ports = choose(self.config.host, self._wanted)
            try:
                self._spawn()
                self._await_ready()
                check_triton(self.version, self.http_url)
                unchanged(checked)  # what Triton has loaded is what was checked
                return self
            except OSError as error:
                self.stop()
                raise ServerError(
                    f"cannot prepare a server in {tempfile.gettempdir()} and {supervisor.SHARED_MEMORY}",
                    received=str(error),
                    hint="Make room (a server needs 4 MB, and shared memory for its models), or set TMPDIR.",
                ) from error
            except ServerError:
                taken = ports_taken(self.log_text())
                self.stop()
                if not taken or set(self._wanted).intersection(taken) or attempt == _PORT_ATTEMPTS - 1:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("unreachable")

    @property
    def _wanted(self) -> tuple[int, int, int]:
        return self.config.http_port, self.config.grpc_port, self.config.metrics_port

    def _trusted(self) -> list[PublicKey] | None:
        keys = self.config.trusted_keys
        return None if keys is None else [PublicKey.read(path) for path in keys]

    def stop(self) -> None:
        """End the server and remove what it held; does nothing if it has ended."""
        self._stopping = True
        process, self._supervisor = self._supervisor, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(self.config.exit_timeout_seconds + 3 * _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # the kernel then kills the server
            process.wait()
        process.stdout.close()
        supervisor.sweep()

    def wait(self, timeout: float | None = None) -> None:
        """Return when `stop` was called (by a signal handler or another thread) or after `timeout` seconds.

        ServerError if the server ends by itself.
        """
        process = self._supervisor
        if process is None:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        # In short steps: an endless wait holds a lock that `stop`, called by a signal handler, would wait for.
        while process.poll() is None and not self._stopping:
            left = _WAIT_SECONDS if deadline is None else min(_WAIT_SECONDS, deadline - time.monotonic())
            if left <= 0:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left)
        if not self._stopping:
            raise self._failure(f"tritonserver ended by itself ({_status(process.returncode)})")

    def log_text(self) -> str:
        """Return what the server has logged, also after it ended."""
        if self._log_file < 0:
            return ""
        size = os.fstat(self._log_file).st_size
        return os.pread(self._log_file, size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def __del__(self) -> None:
        if self._log_file >= 0:
            os.close(self._log_file)

    def _url(self, port: int) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.config.host, self.config.host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _spawn(self) -> None:
        """Start supervisor and server; what they hold is theirs from here on."""
        self._token = f"{supervisor.PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        folder = Path(tempfile.mkdtemp(prefix=f"{self._token}-"))
        lock = supervisor.take_lock(self._token, folder)
        try:
            log = self._open_log(folder)
            program = self._program(folder)
            job = {
                "command": self._command(program),
                "log": str(log),
                "token": self._token,
                "folder": str(folder),
                "grace": self.config.exit_timeout_seconds + _GRACE_SECONDS,
            }
            self._stopping = False
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**program.environment, **self._environment},
                pass_fds=(lock,),
                start_new_session=True,  # a Ctrl-C in the terminal reaches us only; we then stop the server in order
            )
        except BaseException:
            supervisor.remove(self._token, folder)
            raise
        finally:
            os.close(lock)
        assert self._supervisor.stdout is not None
        self.pid = int(self._supervisor.stdout.readline() or 0)

    def _open_log(self, folder: Path) -> Path:
        path = (self._log_path or folder / "tritonserver.log").absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._log_file >= 0:
            os.close(self._log_file)
        self._log_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        return path

    def _program(self, folder: Path) -> Program:
        if self._binary is not None:
            return Program(self._binary, self._backend_directory, dict(os.environ))
        program = find(folder)
        return Program(program.binary, self._backend_directory or program.backends, program.environment)

    def _command(self, program: Program) -> list[str]:
        host = self.config.host
        options = {
            "id": self._token,
            "model-repository": self.repository.absolute(),
            "model-control-mode": "explicit",
            "strict-readiness": "false",  # or the server is not ready while any model is loaded or unloaded
            "http-address": host,
            "http-port": self.ports.http,
            "http-thread-count": min(_HTTP_THREADS, max(2, os.cpu_count() or 1)),
            "grpc-address": host,
            "grpc-port": self.ports.grpc,
            "metrics-address": host,
            "metrics-port": self.ports.metrics,
            "allow-gpu-metrics": str(Path("/dev/nvidiactl").exists()).lower(),
            "exit-timeout-secs": self.config.exit_timeout_seconds,
            "backend-config": f"python,shm-region-prefix-name={self._token}",
        }
        if program.backends is not None:
            options["backend-directory"] = program.backends
        if self.config.latency_quantiles:
            options["metrics-config"] = "summary_latencies=true"
        if self.config.cache_bytes:
            options["cache-config"] = f"local,size={self.config.cache_bytes}"
            if (caches := program.binary.parents[1] / "caches").is_dir():
                options["cache-directory"] = caches
        if self.config.rate_limit:
            options["rate-limit"] = "execution_count"
        loads = [f"--load-model={model}" for model in (("*",) if self.models is None else self.models)]
        loads += [f"--rate-limit-resource={name}:{count}" for name, count in self.config.resources.items()]
        if _all_complete(self.repository):
            loads.append("--disable-auto-complete-config")
        return [str(program.binary), *(f"--{name}={value}" for name, value in options.items()), *loads]

    def _await_ready(self) -> None:
        """Poll the server; ServerError if it ends or `start_timeout_seconds` pass first."""
        deadline = time.monotonic() + self.config.start_timeout_seconds
        while time.monotonic() < deadline:
            if not self.running:
                assert self._supervisor is not None
                raise self._failure(f"tritonserver did not start ({_status(self._supervisor.returncode)})")
            if ports_taken(self.log_text()):  # Triton goes on without its metrics
                raise self._failure("tritonserver did not start")
            if self._is_ready() and _METRICS_STARTED in self.log_text():
                return
            time.sleep(_POLL_SECONDS)
        raise self._failure(
            f"tritonserver was not ready after {self.config.start_timeout_seconds:g} seconds (start_timeout_seconds)"
        )

    def _is_ready(self) -> bool:
        """Whether our server (another may have been faster at our port) answers for itself and for every model."""
        connection = http.client.HTTPConnection(self._url(self.ports.http), timeout=2)
        try:
            connection.request("GET", "/v2")
            said = json.loads(connection.getresponse().read())
            if said.get("name") != self._token:
                return False
            self.version = str(said.get("version", ""))
            paths = ["/v2/health/ready", *(f"/v2/models/{model}/ready" for model in self.models or ())]
            for path in paths:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    return False
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        return True

    def _failure(self, subject: str) -> ServerError:
        return explain(subject, self.log_text())


def _all_complete(repository: Path) -> bool:
    """Whether every model says its inputs and outputs; else Triton starts each backend twice, once to ask for them."""
    configs = [path / "config.pbtxt" for path in repository.iterdir() if path.is_dir()]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        texts = [config.read_text(encoding="utf-8") for config in configs]
        return all(_INPUT.search(text) and _OUTPUT.search(text) for text in texts)
    return False


def _status(code: int) -> str:
    return f"exit status {code}" if code < 128 else f"signal {code - 128}"
