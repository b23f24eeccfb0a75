"""Peak memory: of this process, of what it starts, and of what has been given back since."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from mews.memory import PeakMemory

SLACK = 30
"""MiB by which the rest of the process may shrink or grow meanwhile."""


def resident() -> int:
    return int(psutil.Process().memory_info().rss) >> 20


def test_the_peak_counts_memory_that_is_given_back() -> None:
    before = resident()
    with PeakMemory(every_seconds=0.01) as memory:
        block = bytearray(150 << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(0.1)
        del block
        time.sleep(0.05)
    assert memory.megabytes >= before + 150 - SLACK


def test_processes_that_are_started_count() -> None:
    script = "import sys; block = bytearray(b'x') * (150 << 20); print('there', flush=True); sys.stdin.read()"
    with PeakMemory(every_seconds=0.01) as memory:
        before = memory.megabytes
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"there\n"
            time.sleep(0.1)
            child.communicate()
    assert memory.megabytes >= before + 150 - SLACK


def test_the_first_sample_is_taken_at_once_and_nothing_runs_afterwards() -> None:
    memory = PeakMemory(every_seconds=3600)
    started = time.monotonic()
    with memory:
        assert memory.megabytes > 0
    assert time.monotonic() - started < 5
    assert not memory._thread.is_alive()


def test_an_error_passes_through() -> None:
    with pytest.raises(KeyError), PeakMemory():
        raise KeyError
