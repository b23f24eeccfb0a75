"""What the user sees: stages and progress bars on a terminal, plain lines elsewhere, one JSON line on request."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_EVERY_SECONDS = 5.0


class _Rate(ProgressColumn):
    """Units per second, such as `1.2 M rows/s`."""

    def render(self, task: Task) -> Text:
        if not task.speed or task.completed == 0:
            return Text("")
        return Text(f"{short(task.speed)} {task.fields.get('unit', '')}/s", style="cyan")


def short(number: float) -> str:
    """Return `number` with a unit prefix and about three digits: 1234567 -> '1.23 M'."""
    for limit, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{prefix}"
    return f"{number:.3g}"


class Terminal:
    """Prints to the user; `quiet` keeps only warnings and errors, `as_json` moves all prose to stderr."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False, as_json: bool = False) -> None:
        self.quiet, self.verbose, self.as_json = quiet, verbose, as_json
        self.interrupted = False
        self._out = Console(stderr=as_json, highlight=False, soft_wrap=True)
        self._bars: Progress | None = None

    def interrupt(self) -> NoReturn:
        """End the command, as Ctrl-C does; third-party code that swallows it only delays it to the next `check`."""
        self.interrupted = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if the user has asked for the end."""
        if self.interrupted:
            raise KeyboardInterrupt

    def line(self, text: str | RenderableType = "") -> None:
        """Print one line or one table, unless quiet."""
        if not self.quiet:
            (self._bars.console if self._bars else self._out).print(text)

    def detail(self, text: str) -> None:
        """Print a line that only `-v` shows."""
        if self.verbose:
            self.line(Text(text, style="dim"))

    def warn(self, text: str) -> None:
        """Print a warning, also when quiet."""
        (self._bars.console if self._bars else self._out).print(Text(f"warning: {text}", style="yellow"))

    def error(self, text: str) -> None:
        """Print an error to stderr."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"error: {text}", style="red"))

    def result(self, answer: Mapping[str, Any] | list[Any]) -> None:
        """With --json, print `answer` as the last line of stdout."""
        if self.as_json:
            sys.stdout.write(json.dumps(answer, default=str, allow_nan=False) + "\n")
            sys.stdout.flush()

    @contextmanager
    def stage(self, title: str) -> Iterator[ProgressLine]:
        """Show the progress of one stage while the block runs; the block's own closing line comes after."""
        if self.quiet or not self._out.is_terminal:
            yield ProgressLine(self, title, None)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=self._out, transient=True) as bars:
            self._bars = bars
            try:
                yield ProgressLine(self, title, bars)
            finally:
                self._bars = None


class ProgressLine:
    """The callback that libraries report to: `progress(what, done, total, unit)`."""

    def __init__(self, terminal: Terminal, title: str, bars: Progress | None) -> None:
        self._terminal, self._title, self._bars = terminal, title, bars
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._printed = time.monotonic()

    def __call__(self, what: str, done: int, total: int | None, unit: str) -> None:
        """Show that `done` of `total` (None: unknown) `unit` of `what` are through; see etl/progress.py."""
        self._terminal.check()
        now, work = time.monotonic(), what.partition(", ")[0]
        began, already = self._started.setdefault(work, (now, done))
        if self._bars is not None:
            if work not in self._tasks:
                self._tasks[work] = self._bars.add_task("", total=total, unit=unit)
            self._bars.update(self._tasks[work], description=f"{self._title}: {what}", completed=done, total=total)
        elif now - self._printed > PLAIN_EVERY_SECONDS:
            self._printed = now
            rate = (done - already) / (now - began) if now > began else 0.0
            self._terminal.line(self._plain(what, done, total, unit, rate))

    def _plain(self, what: str, done: int, total: int | None, unit: str, rate: float) -> str:
        text = f"  {self._title}: {what} {done:,}" + (f" of {total:,}" if total else "") + f" {unit}"
        if rate and total:
            text += f", {short(rate)} {unit}/s, {max(total - done, 0) / rate:.0f} s left"
        return text
