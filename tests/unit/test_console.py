"""What the user sees: plain lines in a pipe, bars on a terminal, JSON alone on stdout under --json."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mews import console
from mews.console import Terminal, short

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys, time
from mews import console
console.PLAIN_EVERY_SECONDS = 0.0
terminal = console.Terminal(**json.loads(sys.argv[1]))
with terminal.stage("fit") as progress:
    for done in range(0, 1001, 100):
        progress("rows", done, 1000, "rows")
        time.sleep(0.03)
    terminal.line("a line in between")
terminal.line("a line after it")
terminal.detail("a detail")
terminal.warn("careful")
terminal.result({"rows": 1000})
"""
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")
} | {"TERM": "xterm-256color"}


def in_a_pipe(**options: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(options)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)


def on_a_terminal(*, json_piped: bool = False, **options: bool) -> tuple[str, str]:
    """Run the script on a pseudo-terminal; return what that showed, and stdout if that is a pipe of its own."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, json.dumps(options)]
    stdout: Any = subprocess.PIPE if json_piped else theirs
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdin=theirs, stdout=stdout, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 30)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side has closed
                break
        piped = process.stdout.read().decode() if process.stdout is not None else ""
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode(), piped


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_pipe_gets_plain_lines_and_no_control_characters() -> None:
    done = in_a_pipe()
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout + done.stderr
    progress = [line for line in lines if line.startswith("  fit: rows ")]
    assert len(progress) >= 5
    assert all(re.fullmatch(r"  fit: rows [\d,]+ of 1,000 rows(, .+ rows/s, \d+ s left)?", line) for line in progress)
    assert [line for line in lines if line not in progress] == [
        "a line in between",
        "a line after it",
        "warning: careful",
    ]
    assert done.stderr == ""


def test_a_terminal_gets_bars_and_no_plain_lines() -> None:
    shown, _ = on_a_terminal()
    text = without_escapes(shown)
    assert "━" in text
    assert "fit: rows" in text
    assert "%" in text
    assert "\x1b[?25l" in shown  # the cursor hides while bars are drawn,
    assert "\x1b[?25h" in shown  # and is there again afterwards
    assert "of 1,000 rows" not in text
    assert "a line in between" in text
    assert "a line after it" in text


def test_json_has_stdout_to_itself() -> None:
    done = in_a_pipe(as_json=True)
    assert json.loads(done.stdout) == {"rows": 1000}
    assert done.stdout.count("\n") == 1
    for said in ("  fit: rows ", "a line in between", "a line after it", "warning: careful"):
        assert said in done.stderr


def test_json_in_a_pipe_leaves_the_bars_to_the_terminal() -> None:
    shown, piped = on_a_terminal(json_piped=True, as_json=True)
    assert json.loads(piped) == {"rows": 1000}
    assert "━" in without_escapes(shown)


def test_quiet_keeps_warnings_only() -> None:
    assert in_a_pipe(quiet=True).stdout == "warning: careful\n"
    shown, _ = on_a_terminal(quiet=True)
    assert without_escapes(shown).split() == ["warning:", "careful"]


def test_details_are_for_those_who_ask() -> None:
    assert "a detail" not in in_a_pipe().stdout
    assert "a detail" in in_a_pipe(verbose=True).stdout


def test_plain_lines_come_at_intervals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Terminal().stage("fit") as progress:
        for done in range(13):
            progress("rows", done * 100, None if done < 6 else 1200, "rows")
            now[0] += 1.0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "  fit: rows 600 of 1,200 rows, 100 rows/s, 6 s left",
        "  fit: rows 1,200 of 1,200 rows, 100 rows/s, 0 s left",
    ]


def test_an_interrupt_that_was_swallowed_comes_again() -> None:
    terminal = Terminal(quiet=True)
    terminal.check()
    with pytest.raises(KeyboardInterrupt):
        terminal.interrupt()
    with terminal.stage("fit") as progress, pytest.raises(KeyboardInterrupt):
        progress("rows", 1, 2, "rows")
    with pytest.raises(KeyboardInterrupt):
        terminal.check()


def test_errors_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(quiet=True).error("it [bold]broke[/bold]")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: it [bold]broke[/bold]\n")


def test_a_result_is_json_that_every_reader_takes(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(as_json=True).result({"path": Path("a"), "rows": 3})
    assert json.loads(capsys.readouterr().out) == {"path": "a", "rows": 3}
    with pytest.raises(ValueError, match="JSON compliant"):
        Terminal(as_json=True).result({"auc": float("nan")})
    Terminal().result({"rows": 3})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("number", "text"), [(0.5, "0.5"), (999, "999"), (1234567, "1.23 M"), (2e9, "2 G"), (-1500, "-1.5 k"), (0, "0")]
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text
