"""What every command does about the end that a user asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLLECTED = """
class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)

def work():
    found = Interrupted()
    del found
    time.sleep(20)
"""
CALLBACK = """
import polars as pl

def interrupted(column):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)
    return column

def work():
    column = pl.col("a").map_batches(interrupted, return_dtype=pl.Int64(), is_elementwise=True)
    frame = pl.LazyFrame({"a": range(100)}).select(column)
    CONSUME
    time.sleep(20)
"""
SCRIPT = """
import os, signal, sys, time
from mews.console import Terminal
from mews.session import _guarded
WORK
sys.exit(_guarded(Terminal(), work))
"""


@pytest.mark.parametrize(
    "work",
    [
        COLLECTED,
        CALLBACK.replace("CONSUME", "frame.collect()"),
        CALLBACK.replace("CONSUME", "frame.collect(engine='streaming')"),
        CALLBACK.replace("CONSUME", "list(frame.collect_batches(chunk_size=10, maintain_order=True))"),
    ],
    ids=["collected", "in-memory", "streaming", "batches"],
)
def test_an_interrupt_ends_the_command_wherever_it_comes(work: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("WORK", work)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "interrupted; run the same command again to resume" in done.stderr


def test_a_panic_is_an_error_like_any_other() -> None:
    work = "from polars.exceptions import PanicException\n\ndef work():\n    raise PanicException('row 3')\n"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("WORK", work)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "PanicException: row 3" in done.stderr
