"""A process that trains what it is told: one JSON object a line in, some out, until its input ends.

In: {"features", "out", "model", "train", "seed"}. Out: {"epoch": ...} after each epoch, to which the answer is "on",
"prune" or "stop"; at the end {"ended": "done", "history": all epochs}, {"ended": "prune" or "stop"} or {"failed": why}.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from etl.errors import MewsError

_SET_PARENT_DEATH_SIGNAL = 1  # prctl, linux/prctl.h


class _EndedError(Exception):
    """The searching process wants no more of this trial."""


def main() -> None:
    """Work until the input ends; whoever started this process may die at any time, and it dies with it."""
    # Interrupts of the terminal reach the whole group of processes: the one that searches decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is no message
    for line in sys.stdin:
        job = json.loads(line)
        _tell(out, _worked(job, lambda message: _tell(out, message)))


def _worked(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    try:
        history = _train(job, tell)
    except _EndedError as ended:
        return {"ended": str(ended)}
    except MewsError as error:
        return {"failed": str(error)}
    except Exception as error:  # the other trials go on; this one's reason is kept
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"ended": "done", "history": history}


def _train(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    from training.config import ModelConfig, TrainConfig
    from training.train import Epoch, train

    def after_epoch(epoch: Epoch) -> None:
        tell({"epoch": asdict(epoch)})
        answer = sys.stdin.readline().strip()
        if answer != "on":
            raise _EndedError(answer or "stop")

    trained = train(
        Path(job["features"]),
        ModelConfig.model_validate(job["model"]),
        Path(job["out"]),
        job["seed"],
        after_epoch=after_epoch,
        settings=TrainConfig.model_validate(job["train"]),
    )
    return [asdict(epoch) for epoch in trained.history]


def _tell(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
