"""`mews doctor`: what it says of this machine, and of machines that lack something."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from ensemble.server import embedded
from mews import doctor

ROOT = Path(__file__).resolve().parents[2]


def found(name: str) -> doctor.Check:
    """What the doctor says of one thing."""
    (check,) = (check for check in doctor.diagnose() if check.name == name)
    return check


def test_this_environment_can_run_everything() -> None:
    checks = {check.name: check for check in doctor.diagnose()}
    assert {"python", "machine", "packages", "libpython", "tritonserver", "perf_analyzer"} < set(checks)
    assert {"shared memory", "gpu", "browser"} < set(checks)
    assert [check for check in checks.values() if check.status == "FAIL"] == []
    assert "nvtabular 23." in checks["packages"].detail
    assert checks["tritonserver"].detail.endswith("tritonserver")


def test_the_command_prints_what_was_found() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mews.cli", "doctor", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout.splitlines()[-1])["checks"]
    assert {check["status"] for check in checks} <= {"PASS", "WARN"}
    assert "tritonserver" in done.stderr


def test_another_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    version = namedtuple("version", "major minor micro releaselevel serial")
    monkeypatch.setattr(sys, "version_info", version(3, 12, 1, "final", 0))
    assert found("python").status == "FAIL"


def test_missing_packages_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda names: {"polars": "1.0"})
    check = found("packages")
    assert check.status == "FAIL"
    assert "nvtabular, merlin-models" in check.detail
    assert "polars" not in check.detail
    assert "make setup" in check.detail


def test_no_tritonserver_fails_and_says_what_still_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = found("tritonserver")
    assert check.status == "FAIL"
    assert "--triton-url" in check.detail


def test_no_libpython_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "library_folders", lambda: (str(tmp_path),))
    assert {found("libpython").status, found("tritonserver").status} == {"FAIL"}


def test_no_perf_analyzer_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    check = found("perf_analyzer")
    assert check.status == "FAIL"
    assert "mews bench" in check.detail


def test_little_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(64 << 20, 0, 64 << 20))
    check = found("shared memory")
    assert (check.status, check.detail[:6]) == ("WARN", "64 MiB")


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=4 << 30))
    check = found("machine")
    assert check.status == "WARN"
    assert "4 GiB" in check.detail


def test_an_empty_path_has_neither_gpu_nor_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found("gpu").status == "PASS"
    assert "CPU" in found("gpu").detail
    assert found("browser").status == "WARN"
    (tmp_path / "chromium").touch(0o755)
    assert found("browser") == doctor.Check("browser", "PASS", str(tmp_path / "chromium"))
