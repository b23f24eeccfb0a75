"""Peak memory of this process and everything it starts."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil


class PeakMemory:
    """Samples the resident memory of the process tree while the `with` block runs; `megabytes` is the largest sum seen.

    Pages that processes share are counted once for each, so the figure is an upper bound.
    """

    def __init__(self, every_seconds: float = 0.25) -> None:
        self._every = every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._peak = 0

    def __enter__(self) -> PeakMemory:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def megabytes(self) -> int:
        """The largest sum so far, in MiB."""
        return self._peak >> 20

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        me = psutil.Process()
        total = 0
        for process in (me, *me.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue  # it ended between the listing and the question
        self._peak = max(self._peak, total)
