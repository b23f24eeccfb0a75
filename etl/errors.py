"""Every error Mews raises on purpose.

    MewsError                     exit code 1: the work failed
    ├── ConfigError               2: a configuration, an option or a workflow that cannot be used
    │   └── CompileError          2: operators that a target cannot express; carries one Problem for each
    ├── DataError                 3: data that is refused
    │   └── SchemaError           3: columns that are missing, unknown or of another type
    ├── ArtifactError             1: a file of ours that is missing, changed, truncated or from another graph
    ├── ServerError               1: Triton did not start, or ended
    │   ├── UnreachableError      1: nobody answers at the address
    │   ├── TimedOutError         1: no answer within the time given
    │   └── BusyError             1: the model cannot answer now: not ready, or its queue is full
    └── RequestError              1: a request that cannot be sent, or that the server refused
        ├── RefusedError          1: the server found the request wrong
        └── UnknownModelError     1: the server has no such model

Each says its subject, what was expected, what was received, and what to do about it. The five of a client also carry
the `url` and the `model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


class MewsError(Exception):
    """A failure with a subject, what was expected, what was received and a hint; any of the last three may be empty."""

    exit_code = 1

    def __init__(self, subject: str, *, expected: str = "", received: str = "", hint: str = "") -> None:
        self.subject, self.expected, self.received, self.hint = subject, expected, received, hint
        super().__init__(subject)

    def __str__(self) -> str:
        parts = [self.subject]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.received:
            parts.append(f"received {self.received}")
        text = "; ".join(parts)
        if text.endswith("\n"):  # a list of problems, each on its line
            return text + self.hint if self.hint else text.removesuffix("\n")
        return f"{text}. {self.hint}" if self.hint else f"{text}."


class ConfigError(MewsError):
    """A configuration, an option or a workflow that cannot be used as it is."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One operator that one target cannot express."""

    operator: str
    columns: tuple[str, ...]
    target: str
    reason: str
    instead: str

    def __str__(self) -> str:
        where = ", ".join(self.columns) or "no columns"
        return f"{self.operator} on {where} ({self.target}): {self.reason} {self.instead}".rstrip()


class CompileError(ConfigError):
    """A graph that cannot be compiled; `problems` holds every reason, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} operator(s) cannot be compiled:\n{listed}\n")


class DataError(MewsError):
    """Data that is refused; nothing was written."""

    exit_code = 3


class SchemaError(DataError):
    """Columns that are missing, unknown or of another type than the graph was made for."""


class ArtifactError(MewsError):
    """A file written by Mews that is missing, changed, truncated or from another graph."""


class ServerError(MewsError):
    """Triton did not start, or ended before it was told to."""


class RequestError(MewsError):
    """A request that cannot be sent as it is, or that the server refused."""


class _Asked:
    """Which server was asked for which model; the client fills it in."""

    url = ""
    model = ""

    def at(self, url: str, model: str) -> Self:
        """Return the same error, of this server and model."""
        self.url, self.model = url, model
        return self


class UnreachableError(_Asked, ServerError):
    """Nobody answers at the address, or the connection broke before an answer."""


class TimedOutError(_Asked, ServerError):
    """No answer within the time given."""


class BusyError(_Asked, ServerError):
    """The model cannot answer now: it is not ready, its queue is full, or the request waited there too long."""


class RefusedError(_Asked, RequestError):
    """The server found the request wrong; `received` is in its words."""


class UnknownModelError(_Asked, RequestError):
    """The server has no model of this name."""
