"""What every command does about the end that a user asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import gc, os, signal, sys, time
from mews.console import Terminal
from mews.session import _guarded

class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)

def work():
    found = Interrupted()
    del found
    time.sleep(20)

sys.exit(_guarded(Terminal(), work))
"""


def test_an_interrupt_while_an_object_is_collected_ends_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "interrupted; run the same command again to resume" in done.stderr
