"""A process of a benchmark: it ends with us, its memory is looked at, and it is stopped at a limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ensemble.server.supervisor import die_with_parent

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Limits:
    """What one process may use: MiB of memory with all its children, and seconds."""

    memory_mb: int
    seconds: float = 3600.0


@dataclass(frozen=True)
class Ended:
    """What a process printed, the most MiB (RSS) that it and its children had, and why it failed ("" if it did not)."""

    output: str
    peak_rss_mb: float
    failed: str


def run(
    command: Sequence[str], log: Path, limits: Limits, cwd: Path, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a command to its end or to a limit; what it says on stderr goes to `log`. `environment` adds to ours."""
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        ) as process,
    ):
        try:
            peak, stopped = _watch(process, limits)
        finally:  # an interrupt or SIGTERM reaches this process only
            _kill(process.pid)
        output = process.stdout.read() if process.stdout else ""
    failed = stopped or (_reason(process.returncode, log) if process.returncode else "")
    return Ended(output, peak, failed)


def _watch(process: subprocess.Popen[str], limits: Limits) -> tuple[float, str]:
    """Wait for a process; return the most MiB that it and its children had, and why it was stopped, if it was."""
    root, peak, began, stopped = psutil.Process(process.pid), 0.0, time.monotonic(), ""
    while process.poll() is None:
        peak = max(peak, _rss(root))
        if not stopped and peak > limits.memory_mb:
            stopped = f"stopped at the limit of {limits.memory_mb} MiB of memory"
        elif not stopped and time.monotonic() - began > limits.seconds:
            stopped = f"stopped at the limit of {limits.seconds:g} s"
        if stopped:
            _kill(process.pid)
        time.sleep(_LOOK_SECONDS)
    return peak, stopped


def _rss(root: psutil.Process) -> float:
    total = 0
    try:
        for process in (root, *root.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:  # it ended in between; the next look sees what is left
        return 0.0
    return total / 2**20


def _kill(group: int) -> None:
    """End a process that began its own session, with its children; nothing if all have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _reason(code: int, log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if code == -9:
        return "killed by the system, as it does when memory runs out"
    return f"ended with {code}: {(lines or ['nothing said'])[-1][:300]}"
