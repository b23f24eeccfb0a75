"""What keeps a server from starting is said in a sentence that names it and says what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from benchmarks import identity
from ensemble.repository import writing
from ensemble.server import supported
from ensemble.server.embedded import find
from ensemble.server.triton import TritonServer
from ensemble.spec import TensorSpec
from etl.errors import ArtifactError, ServerError

ROOT = Path(__file__).resolve().parents[2]
_START = """
import sys
from pathlib import Path
from ensemble.server.triton import TritonServer
from etl.errors import MewsError
try:
    with TritonServer(Path(sys.argv[1]), models=["same"]):
        print("started")
except MewsError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messages") / "models"
    identity.write(folder, "same", [TensorSpec("number", "INT64")], 8)
    return folder


def _mounted(mount: str, folder: Path, *arguments: object) -> str:
    """Run _START where `mount` was done for `folder`, seen by that process only."""
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", folder], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"this user may not mount: {probe.stderr.strip()}")
    command = f'{mount} && shift && exec "$@"'
    started = [sys.executable, "-c", _START, *map(str, arguments)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", folder, *started],
        cwd=ROOT,
        env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin"} if "tmpfs" in mount else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_full_disk_is_said(repository: Path, tmp_path: Path) -> None:
    said = _mounted('mount -t tmpfs -o size=1m none "$1"', tmp_path, repository)
    assert f"cannot prepare a server in {tmp_path}" in said
    assert "No space left on device" in said
    assert "TMPDIR" in said


def test_a_read_only_repository_is_served(repository: Path) -> None:
    said = _mounted('mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"', repository, repository)
    assert said == "started\n"


def test_nothing_is_exported_to_a_place_that_takes_no_files() -> None:
    with (
        pytest.raises(ArtifactError, match=r"cannot write to the model repository.*give write permission"),
        writing(Path("/proc/mews/models")),
    ):
        pass


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("onnxruntime/model.py", "unable to find backend library for backend 'onnxruntime'"),
        ("onnxruntime", "unable to find backend library for backend 'onnxruntime'"),
        ("python/triton_python_backend_stub", "triton_python_backend_stub is not found"),
        ("python", "libtriton_python.so"),
    ],
)
def test_a_missing_backend_or_shim_is_named(repository: Path, tmp_path: Path, missing: str, says: str) -> None:
    program = find(tmp_path)
    assert program.backends is not None
    gone = program.backends / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(ServerError) as caught:
        TritonServer(repository, models=["same"], backend_directory=program.backends).start()
    assert says in str(caught.value)
    assert "This server lacks the backend" in str(caught.value)


def test_a_backend_that_no_server_has_is_named(tmp_path: Path) -> None:
    identity.write(tmp_path, "same", [TensorSpec("number", "INT64")], 8)
    config = tmp_path / "same_core" / "config.pbtxt"
    config.write_text(config.read_text().replace("onnxruntime", "tensorflow"))
    with pytest.raises(ServerError, match=r"'same_core'.*tensorflow.*Exports need onnxruntime"):
        TritonServer(tmp_path, models=["same"]).start()


def test_the_server_says_its_version(repository: Path) -> None:
    with TritonServer(repository, models=["same"]) as server:
        assert server.version == supported.version_of(server.http_url)
        assert tuple(map(int, server.version.split(".")[:2])) == supported.TESTED >= supported.OLDEST


@pytest.fixture
def says() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that answers with the bytes in the list, as another Triton would."""
    answers: list[bytes] = [b""]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[0])

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", answers
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("version", ["2.45.0", "1.15.0", "", "new"])
def test_a_triton_that_is_too_old_is_refused(says: tuple[str, list[bytes]], version: str) -> None:
    address, answers = says
    answers[0] = json.dumps({"name": "triton", "version": version}).encode()
    with pytest.raises(ServerError, match=r"expected version 2\.46 \(release 24\.05\) or newer.*docker/README\.md"):
        supported.check_triton(supported.version_of(address), address)
    for newer in ("2.46.0", "2.61.0", "3.0.0dev"):
        supported.check_triton(newer, address)


@pytest.mark.parametrize("answer", [b"", b"hello", b"[]"])
def test_what_is_no_triton_is_refused(says: tuple[str, list[bytes]], answer: bytes) -> None:
    address, answers = says
    answers[0] = answer
    with pytest.raises(ServerError, match=f"Triton at {address}"):
        supported.check_triton(supported.version_of(address), address)
