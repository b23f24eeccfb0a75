"""The options every command shares, and what happens when a command fails."""

from __future__ import annotations

import errno
import functools
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mews.console import Terminal
from mews.run import Run

if TYPE_CHECKING:
    from types import FrameType

    from mews.config import PipelineConfig
    from mews.pipeline import Outcome

INTERRUPTED = 130

_ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="pipeline.yaml; defaults, or the run's own configuration, if absent."),
]
_RunOption = Annotated[Path, typer.Option("--run", "-r", help="Folder of artifacts.")]
_SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change one key, e.g. model.epochs=2.")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]
_QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
_VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="More detail, and tracebacks.")]

_SHARED = {
    "config_file": (_ConfigOption, None),
    "run_folder": (_RunOption, Path("runs/demo")),
    "overrides": (_SetOption, None),
    "as_json": (_JsonOption, False),
    "quiet": (_QuietOption, False),
    "verbose": (_VerboseOption, False),
}


@dataclass
class Session:
    """One command's view of the options: where it works, with which configuration, and how it talks."""

    config_file: Path | None
    run: Run
    overrides: list[str]
    terminal: Terminal
    from_run: bool = True
    """Whether the run folder's own configuration stands in for an absent --config."""

    @functools.cached_property
    def config(self) -> PipelineConfig:
        """The resolved configuration: --config, else the run folder's own, else the defaults; then --set."""
        from mews.config import load

        path = self.config_file
        if path is None and self.from_run and self.run.config.exists():
            path = self.run.config
        return load(path, self.overrides)

    def bring(self, *stages: str, again: Collection[str] = ()) -> dict[str, Outcome]:
        """Bring `stages`, and what they need, up to date in the run folder; those in `again` run in any case."""
        from mews import pipeline

        with self.run.locked():
            return pipeline.run(self.config, self.run, self.terminal, stages, again)


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Give a command that takes a Session the shared options, and turn its errors into messages and exit codes.

    The JSON-able value that the command returns becomes the last line of stdout under --json.
    """
    own = inspect.signature(function, eval_str=True)
    kept = [parameter for name, parameter in own.parameters.items() if name != "session"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SHARED.items()
    ]

    @functools.wraps(function)
    def wrapped(**given: Any) -> None:
        options = {name: given.pop(name) for name in _SHARED}
        terminal = Terminal(quiet=options["quiet"], verbose=options["verbose"], as_json=options["as_json"])
        session = Session(options["config_file"], Run(options["run_folder"]), options["overrides"] or [], terminal)
        code = _guarded(terminal, lambda: function(session, **given))
        if code:
            raise typer.Exit(code)

    wrapped.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in kept] + shared, return_annotation=None
    )
    wrapped.__annotations__ = {p.name: p.annotation for p in (*kept, *shared)}
    return wrapped


def _guarded(terminal: Terminal, work: Callable[[], Any]) -> int:
    """Run `work`; print its result or its error; return the exit code."""
    signal.signal(signal.SIGINT, lambda _, frame: _interrupted(terminal, frame))
    sys.unraisablehook = _unraisable
    try:
        answer = work()
        terminal.check()
    except typer.Exit as ended:
        return ended.exit_code
    except BaseException as error:  # the last door before the user; a panic of Polars is no Exception
        if isinstance(error, SystemExit):
            raise
        return _explained(terminal, error)
    if answer is not None:
        terminal.result(answer)
    return 0


def _interrupted(terminal: Terminal, frame: FrameType | None) -> None:
    """End the command; within a call of Polars only as soon as it is left: its callbacks may panic at exceptions."""
    terminal.interrupted = True
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "polars":
            _interrupt_again(0.05)
            return
        frame = frame.f_back
    terminal.interrupt()


def _unraisable(dropped: Any) -> None:
    """Repeat an interrupt that came while an object was collected: there Python prints exceptions and drops them."""
    if dropped.exc_type is KeyboardInterrupt:
        _interrupt_again(0.01)
    else:
        sys.__unraisablehook__(dropped)


def _interrupt_again(seconds: float) -> None:
    """Send the interrupt once more, after `seconds`, from a thread of its own: the main thread has to go on first."""
    main = threading.main_thread().ident or 0
    again = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT))
    again.daemon = True
    again.start()


def _explained(terminal: Terminal, error: BaseException) -> int:
    """Say what went wrong and return the exit code; an interrupt may arrive as whatever third-party code made of it."""
    from etl.errors import MewsError

    if terminal.interrupted or isinstance(error, KeyboardInterrupt):
        return _failed(terminal, "interrupted; run the same command again to resume", INTERRUPTED, "Interrupted")
    if isinstance(error, MewsError):
        return _failed(terminal, str(error), error.exit_code, type(error).__name__)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _failed(terminal, f"no space left on the device: {error.filename or error}", 1, "DiskFull")
    hint = "" if terminal.verbose else " (the same command with -v shows where)"
    return _failed(terminal, f"{type(error).__name__}: {error}{hint}", 1, type(error).__name__)


def _failed(terminal: Terminal, message: str, code: int, kind: str) -> int:
    terminal.error(message)
    if terminal.verbose:
        terminal.error(traceback.format_exc())
    terminal.result({"error": message, "kind": kind, "exit_code": code})
    return code


_SHORT = 20


def columns(rows: Sequence[Sequence[str]], *headers: str, title: str = "") -> Any:
    """Return a table to print; columns of numbers are right aligned."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        numeric = all(row[number][:1].isdigit() or row[number] in ("", "-") for row in rows)
        names = not number and all(len(row[0]) <= _SHORT for row in rows)  # a row's name is not broken
        table.add_column(header, justify="right" if numeric else "left", overflow="fold", no_wrap=names)
    for row in rows:
        table.add_row(*row)
    return table
