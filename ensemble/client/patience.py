"""How long a call is tried: attempts, seconds for each, and seconds in all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import tenacity

from ensemble.client.transport import Busy, TimedOut, Unreachable, late
from etl.errors import RequestError

_Answer = TypeVar("_Answer")

_SAFE = tenacity.retry_if_exception_type((Unreachable, TimedOut, Busy))
"""Nobody answered, or the server said not now: scoring changes nothing, so it may be asked again."""

_WAIT = tenacity.wait_exponential(multiplier=0.1, max=2) + tenacity.wait_random(0, 0.05)


@dataclass(frozen=True)
class Patience:
    """At most `attempts`, of at most `timeout` seconds each; `deadline` seconds in all, at the moment `ends`."""

    attempts: int
    timeout: float
    deadline: float | None = None
    ends: float | None = None

    def begun(self, deadline: float | None) -> Patience:
        """Return the patience of a call that begins now; `deadline` None is the client's. RequestError for no time."""
        if deadline is not None and deadline <= 0:
            raise RequestError("deadline", expected="seconds above 0", received=str(deadline))
        deadline = self.deadline if deadline is None else deadline
        ends = None if deadline is None else time.monotonic() + deadline
        return Patience(self.attempts, self.timeout, deadline, ends)

    def ask(self, question: Callable[[float], _Answer]) -> _Answer:
        """Put a question, which is given its seconds, again while that is safe; the last Failure is raised."""
        return tenacity.Retrying(**self._policy())(lambda: question(self._seconds()))

    async def ask_async(self, question: Callable[[float], Awaitable[_Answer]]) -> _Answer:
        """The same for a coroutine."""

        async def attempt() -> _Answer:
            return await question(self._seconds())

        return await tenacity.AsyncRetrying(**self._policy())(attempt)

    def _seconds(self) -> float:
        """What the next attempt may take; TimedOut when nothing is left."""
        if self.ends is None:
            return self.timeout
        left = self.ends - time.monotonic()
        if left <= 0:
            raise late(self.deadline or 0)
        return min(self.timeout, left)

    def _policy(self) -> dict[str, Any]:
        return {"retry": _SAFE, "stop": self._stops, "wait": _WAIT, "reraise": True}

    def _stops(self, state: tenacity.RetryCallState) -> bool:
        """True when the attempts are used up, or the deadline would pass before the next one begins."""
        if state.attempt_number >= self.attempts:
            return True
        return self.ends is not None and time.monotonic() + (state.upcoming_sleep or 0) >= self.ends
