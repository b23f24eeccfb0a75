"""One small demo run that the end-to-end tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
MEWS = Path(sys.executable).parent / "mews"
SMALL = (
    "data.rows=20000",
    "data.users=500",
    "data.items=100",
    "model.epochs=1",
    "model.batch_size=1024",
    "model.learning_rate=0.01",
    "evaluate.bootstrap=20",
    "bench.concurrency=[1, 2]",
    "bench.batch=[1, 8]",
    "bench.seconds=0.3",
    "bench.stock=false",
)


def mews(*arguments: object, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `mews` as a user would, output captured."""
    command = [str(MEWS), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def settings(*values: str) -> list[str]:
    """Turn key=value into --set options."""
    return [part for value in values for part in ("--set", value)]


def last_json(done: subprocess.CompletedProcess[str]) -> Any:
    """The object in the last line of stdout."""
    return json.loads(done.stdout.splitlines()[-1])


def leftovers(folder: Path) -> list[str]:
    """Temporary files below `folder`, and servers of ours that nobody owns any more."""
    found = [str(path) for path in folder.rglob(".*.tmp")]
    for process in psutil.process_iter(["name", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if "tritonserver" in line and str(folder) in line:
            found.append(line)
    return found


@dataclass(frozen=True)
class Demo:
    """A finished demo: its run folder, what it printed, its summary."""

    folder: Path
    stdout: str
    stderr: str
    summary: dict[str, Any]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("e2e") / "run"
    done = mews("demo", "--run", folder, "--json", *settings(*SMALL))
    assert done.returncode == 0, done.stderr
    return Demo(folder, done.stdout, done.stderr, last_json(done))


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a command that a test starts in the background."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
