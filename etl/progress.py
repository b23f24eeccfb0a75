"""How libraries report progress: they call, the front door shows."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None, str], None]
"""Called with what is being done, how much is done, how much there is (None when unknown), and the unit ("rows").

What follows a comma and a space is a note that may change while the work goes on ("epoch 1/5, loss 0.43")."""


def silent(what: str, done: int, total: int | None, unit: str) -> None:
    """Report nothing; the default of every function that takes a Progress."""
