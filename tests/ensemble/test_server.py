"""A real embedded Triton: that it starts, says why it cannot, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import identity
from ensemble.config import ServeConfig
from ensemble.server import embedded, log, supervisor
from ensemble.server.triton import TritonServer
from ensemble.spec import TensorSpec
from etl.errors import ServerError

ROOT = Path(__file__).resolve().parents[2]
_OWNER = """
import sys, time
from pathlib import Path
from ensemble.server.triton import TritonServer
server = TritonServer(Path(sys.argv[1]), models=["same"]).start()
print(server.pid, server._supervisor.pid, server._token, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    identity.write(folder, "same", [TensorSpec("number", "INT64"), TensorSpec("word", "BYTES")], 8)
    return folder


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _processes(token: str) -> list[int]:
    """The server of this token and the stubs of its backends."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = command.read_text(errors="replace")
        except OSError:
            continue
        if token in line and "supervisor" not in line:
            found.append(int(command.parent.name))
    return found


def _left(token: str) -> list[Path]:
    folders = Path(os.environ.get("TMPDIR", "/tmp")).glob(f"{token}*")
    return [*supervisor.SHARED_MEMORY.glob(f"{token}*"), *folders]


def _eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def _infer(url: str) -> dict[str, object]:
    body = {
        "inputs": [
            {"name": "number", "shape": [1, 1], "datatype": "INT64", "data": [7]},
            {"name": "word", "shape": [1, 1], "datatype": "BYTES", "data": ["ä"]},
        ]
    }
    request = urllib.request.Request(f"http://{url}/v2/models/same/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_serves_two_at_a_time_and_leaves_nothing(repository: Path) -> None:
    with TritonServer(repository, models=["same"]) as first, TritonServer(repository, models=["same"]) as second:
        tokens = [first._token, second._token]
        for server in (first, second):
            assert server.running
            assert _infer(server.http_url)["outputs"][0]["data"] == [7]  # type: ignore[index]
            with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
                assert b"nv_inference_request_success" in answer.read()
            with socket.create_connection((server.grpc_url.split(":")[0], server.ports.grpc), timeout=5):
                pass
        assert all(len(_processes(token)) >= 2 for token in tokens)
    assert not first.running
    assert [_processes(token) for token in tokens] == [[], []]
    assert [_left(token) for token in tokens] == [[], []]
    assert "Started HTTPService" in first.log_text()
    first.stop()  # once more does nothing


def test_a_taken_port_is_named(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name in ("http_port", "grpc_port", "metrics_port"):
            with pytest.raises(ServerError, match=str(port)) as caught:
                TritonServer(repository, ServeConfig(**{name: port}), ["same"]).start()
            assert "choose another port" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("E1 main.cc:1] \"failed: Unavailable - Socket '127.0.0.1:8000' already in use \"", ("port 8000", "ss -ltnp")),
        ("stub: error while loading shared libraries: libpython3.11.so.1.0: cannot open", ("libpython", "apt-get")),
        ("Failed to initialize shared memory: No space left on device", ("--shm-size",)),
        ('E1121 01:58:00.7 1 a.cc:1] "something new"', ("something new",)),
        (
            """E1 a.cc:1] "failed to load 'm' version 1: Internal: no input \\"price\\" in the graph\"""",
            ("'m'", "price", "in the graph"),
        ),
    ],
)
def test_the_log_is_understood(line: str, words: tuple[str, ...]) -> None:
    error = str(log.explain("tritonserver did not start", f"I1121 fine\n{line}\n"))
    assert all(word in error for word in words)


def test_a_broken_model_is_named_with_the_reason(repository: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    identity.write(broken, "same", [TensorSpec("number", "INT64")], 8)
    (broken / "same_core" / "1" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ServerError, match=r"'same_core'.*INVALID_PROTOBUF"):
        TritonServer(broken, models=["same"]).start()
    with pytest.raises(ServerError, match=r"'missing'.*not found"):
        TritonServer(repository, models=["missing"]).start()
    with pytest.raises(ServerError, match="nothing there"):
        TritonServer(tmp_path / "absent").start()


def test_too_slow_a_start_is_said_and_leaves_nothing(repository: Path) -> None:
    server = TritonServer(repository, ServeConfig(start_timeout_seconds=0.01), ["same"])
    with pytest.raises(ServerError, match="start_timeout_seconds"):
        server.start()
    assert _left(server._token) == []
    assert _processes(server._token) == []


def test_a_crash_is_told_and_cleaned_up(repository: Path) -> None:
    with TritonServer(repository, models=["same"]) as server:
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerError, match=r"ended by itself \(signal 9\)"):
            server.wait(30)
        assert not server.running
        assert _processes(server._token) == []
        assert _left(server._token) == []


def test_stop_ends_wait_from_a_signal_handler(repository: Path) -> None:
    server = TritonServer(repository, models=["same"]).start()
    previous = signal.signal(signal.SIGUSR1, lambda *_: server.stop())
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        server.wait()
    finally:
        signal.signal(signal.SIGUSR1, previous)
        server.stop()
    assert _processes(server._token) == []
    assert _left(server._token) == []


@pytest.mark.parametrize("victims", ["owner", "owner and supervisor"])
def test_the_server_ends_with_its_owner(repository: Path, victims: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(repository)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        server, supervising, token = owner.stdout.readline().split()
        if victims != "owner":
            os.kill(int(supervising), signal.SIGKILL)
        owner.kill()
    assert _eventually(lambda: not _alive(int(server)))
    assert _eventually(lambda: _processes(token) == [])
    if victims != "owner":
        assert _eventually(lambda: not _alive(int(supervising)))
        supervisor.sweep()  # what every start does first
    assert _eventually(lambda: _left(token) == [])


def test_a_cache_of_pythons_in_the_wheel_is_left_there(tmp_path: Path) -> None:
    installed = embedded.find(tmp_path / "program").binary.parent.parent
    shutil.copytree(installed / "backends" / "python", tmp_path / "wheel" / "backends" / "python")
    (tmp_path / "wheel" / "python_backend_stubs").symlink_to(installed / "python_backend_stubs")
    (tmp_path / "wheel" / "backends" / "python" / "__pycache__").mkdir(exist_ok=True)
    made = embedded.make_backends(tmp_path / "wheel", tmp_path / "backends")
    assert (made / "python" / "libtriton_python.so").is_file()
    assert not (made / "python" / "__pycache__").exists()


def test_sweep_leaves_living_servers_alone(tmp_path: Path) -> None:
    token = f"{supervisor.PREFIX}{os.getpid()}-test"
    folder = tmp_path / f"{token}-folder"
    folder.mkdir()
    lock = supervisor.take_lock(token, folder)
    memory = supervisor.SHARED_MEMORY / f"{token}-region"
    memory.touch()
    try:
        assert token not in supervisor.sweep()
        assert memory.exists()
    finally:
        os.close(lock)
    assert token in supervisor.sweep()
    assert not memory.exists()
    assert not folder.exists()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="apt-get install libpython"):
        embedded.libpython([str(tmp_path)])
    assert embedded.libpython().is_file()
    monkeypatch.setattr(embedded, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="make setup"):
        embedded.find(tmp_path)
