"""The worker processes of a search: jobs go to them, messages come back, and a dead one is told of and replaced."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

_ENDS = ("ended", "failed")
_LAST_WORDS = 300


class Pool:
    """Up to `jobs` processes of `training.tuning.worker`; what they print goes to <folder>/worker_<number>.log."""

    def __init__(self, jobs: int, folder: Path) -> None:
        self.jobs, self.folder = jobs, folder
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.end()
        self._selector.close()

    @property
    def busy(self) -> list[int]:
        """The workers that have a job."""
        return [number for number, worker in self._workers.items() if worker.busy]

    @property
    def idle(self) -> bool:
        """Whether another job can be given."""
        return len(self.busy) < self.jobs

    def give(self, job: Mapping[str, Any]) -> int:
        """Give a job to a free worker, started if need be; returns its number."""
        number = next(number for number in range(self.jobs) if number not in self.busy)
        if number not in self._workers:
            self._workers[number] = worker = _Worker(number, self.jobs, self.folder)
            self._selector.register(worker.out, selectors.EVENT_READ, number)
        self._workers[number].busy = True
        self.answer(number, json.dumps(job))
        return number

    def answer(self, number: int, text: str) -> None:
        """Send a line to a worker; one that has died is noticed by `messages`."""
        with contextlib.suppress(BrokenPipeError):
            self._workers[number].tell(text)

    def messages(self, seconds: float = 1.0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (worker, message) of those that have some, waiting up to `seconds` for the first."""
        for key, _ in self._selector.select(seconds):
            number: int = key.data
            worker = self._workers[number]
            line = worker.out.readline()
            message = json.loads(line) if line.endswith(b"\n") else {"failed": worker.how_it_ended()}
            if not line.endswith(b"\n"):
                self._selector.unregister(worker.out)
                worker.end()
                del self._workers[number]
            elif any(end in message for end in _ENDS):
                worker.busy = False
            yield number, message


class _Worker:
    """One process: its pipes, and whether it has a job."""

    def __init__(self, number: int, jobs: int, folder: Path) -> None:
        self.busy = False
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"worker_{number}.log"
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        shared = {"TF_NUM_INTRAOP_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)} if jobs > 1 else {}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "training.tuning.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **shared},
                bufsize=0,
            )

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def tell(self, text: str) -> None:
        """Write one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    def how_it_ended(self) -> str:
        """Wait for a process that has closed its output, and say what is known of its end."""
        code = self.process.wait()
        last = self.log.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the process ended ({how}); its last words in {self.log}: {last or 'none'}"

    def end(self) -> None:
        """Kill the process, if it lives, and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
