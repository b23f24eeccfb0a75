"""Set-up on machines that lack something. The real set-up is what runs these tests."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import io
import os
import platform
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = (ROOT / "requirements" / "uv.in").read_text().strip().split("==")[1]
NAME = f"uv-{platform.machine()}-unknown-linux-gnu"


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TOOLS", tmp_path / ".uv")
    return module


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server that holds one release of uv, whose binary is a script that tells its version."""
    folder = tmp_path / "releases" / VERSION
    folder.mkdir(parents=True)
    script = f"#!/bin/sh\necho uv {VERSION}\n".encode()
    archive = folder / f"{NAME}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(f"{NAME}/uv")
        member.size = len(script)
        tar.addfile(member, io.BytesIO(script))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (folder / f"{NAME}.tar.gz.sha256").write_text(f"{digest}  {NAME}.tar.gz\n")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "releases"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_uv_comes_from_its_release_where_there_is_no_pip(
    bootstrap: ModuleType, releases: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "UV_RELEASES", releases[0])
    uv = bootstrap.uv_from_release()
    assert uv is not None
    assert subprocess.check_output([uv, "--version"], text=True) == f"uv {VERSION}\n"
    assert Path(uv).stat().st_mode & stat.S_IXUSR


def test_a_release_with_another_sha256_is_refused(
    bootstrap: ModuleType,
    releases: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, folder = releases
    (folder / f"{NAME}.tar.gz.sha256").write_text("0" * 64)
    monkeypatch.setattr(bootstrap, "UV_RELEASES", address)
    assert bootstrap.uv_from_release() is None
    assert "not the published one" in capsys.readouterr().out
    assert not (bootstrap.TOOLS / "bin" / "uv").exists()


def test_an_old_uv_is_not_used(bootstrap: ModuleType, tmp_path: Path) -> None:
    old = tmp_path / "uv"
    old.write_text("#!/bin/sh\necho uv 0.1.2\n")
    old.chmod(0o755)
    assert bootstrap.usable_uv(str(old)) is None


def test_a_second_run_does_nothing() -> None:
    if not (ROOT / ".venv" / "installed.sha256").exists():
        pytest.skip("this environment was not made by bootstrap.py")
    done = subprocess.run([sys.executable, ROOT / "bootstrap.py"], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_the_script_parses_on_python_3_8() -> None:
    """Old systems must get as far as the message that helps them."""
    import ast

    ast.parse((ROOT / "bootstrap.py").read_text(), feature_version=(3, 8))


def test_locks_pin_every_package_by_hash_and_name_no_index() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.lock")):
        text = lock.read_text()
        assert "://" not in text, lock.name
        assert "--index" not in text, lock.name
        for block in text.replace("\\\n", " ").splitlines():
            if block and not block.lstrip().startswith("#"):
                assert "--hash=sha256:" in block, f"{lock.name}: {block[:60]}"


def test_no_environment_variable_is_needed() -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    script = "import runpy, sys; sys.argv = ['x']; runpy.run_path('bootstrap.py', run_name='not_main')"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=bare, check=True)
