"""`mews doctor`: what this machine has, and what each missing thing costs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from etl.errors import MewsError
from etl.versions import installed


@dataclass(frozen=True)
class Check:
    """One finding: status is PASS, WARN (something is reduced) or FAIL (a stage cannot run)."""

    name: str
    status: str
    detail: str


def diagnose() -> list[Check]:
    """Run every check; none of them starts a server or imports TensorFlow."""
    return [
        check()
        for check in (_python, _machine, _packages, _libpython, _triton, _perf_analyzer, _shared_memory, _gpu, _browser)
    ]


def _python() -> Check:
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        return Check("python", "PASS", version)
    return Check("python", "FAIL", f"{version}: TensorFlow 2.12 needs 3.11; run make setup")


def _machine() -> Check:
    cores, memory = os.cpu_count() or 1, psutil.virtual_memory().total / 2**30
    detail = f"{cores} cores, {memory:.0f} GiB"
    return (
        Check("machine", "PASS", detail)
        if memory >= 6
        else Check("machine", "WARN", f"{detail}: the demo needs 4 GiB free")
    )


def _packages() -> Check:
    names = ("nvtabular", "merlin-models", "merlin-systems", "tensorflow", "polars", "onnxruntime", "tritonclient")
    found = installed(names)
    missing = [name for name in names if name not in found]
    if missing:
        return Check("packages", "FAIL", f"missing {', '.join(missing)}: run make setup")
    return Check("packages", "PASS", ", ".join(f"{name} {version}" for name, version in found.items()))


def _guard(name: str, find: Callable[[], object], cost: str) -> Check:
    try:
        return Check(name, "PASS", str(find()))
    except MewsError as error:
        return Check(name, "FAIL", f"{error} {cost}")


def _libpython() -> Check:
    from ensemble.server.embedded import libpython

    return _guard("libpython", libpython, "Without it nothing can be served.")


def _triton() -> Check:
    from ensemble.server.embedded import find

    with tempfile.TemporaryDirectory() as folder:
        return _guard(
            "tritonserver",
            lambda: find(Path(folder)).binary,
            "Without it nothing can be served here; --triton-url still works.",
        )


def _perf_analyzer() -> Check:
    from benchmarks.perf_analyzer import PerfAnalyzer

    with tempfile.TemporaryDirectory() as folder:
        return _guard(
            "perf_analyzer", lambda: PerfAnalyzer.find(Path(folder)).program, "Without it `mews bench` cannot measure."
        )


def _shared_memory() -> Check:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Check("shared memory", "FAIL", "no /dev/shm: Triton's Python backend needs it")
    free = shutil.disk_usage(folder).free >> 20
    if free < 256:
        return Check("shared memory", "WARN", f"{free} MiB free in /dev/shm: 256 are safe (docker run --shm-size=1g)")
    return Check("shared memory", "PASS", f"{free} MiB free in /dev/shm")


def _gpu() -> Check:
    if shutil.which("nvidia-smi"):
        return Check("gpu", "PASS", "nvidia-smi is there")
    return Check("gpu", "PASS", "none; everything runs on the CPU")


def _browser() -> Check:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    return (
        Check("browser", "PASS", found)
        if found
        else Check("browser", "WARN", "no Chromium: the report's browser test is skipped")
    )
