"""One engine, one script: each trains alone as `python -m benchmarks.training.<engine> --data DIR --out DIR --json`.

Every engine trains the same network on the same rows (benchmarks/training/data.py), once, in the way it is best used:
    dlrm        vectors of 26 columns, 13 values through layers of 64 and dim, dot products of all pairs, layers of 64
                and 32, sigmoid; log loss
    two_tower   13 columns and 6 values of the user, 13 and 7 of the item, each side through a layer of 64 to a unit
                vector of dim; softmax of each row's item among the batch's, temperature 0.1
The optimizer is Adam in some form, learning rate 0.003. A script has `train(job, meter)`, which calls the meter after
every step and returns the scores of the held-out rows. This module needs the standard library and NumPy alone: PyTorch
runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ENGINES = ("mews", "merlin", "merlin_lazy", "keras", "torch")
MODELS = ("dlrm", "two_tower")
CODES = tuple(f"C{number}" for number in range(1, 27))
VALUES = tuple(f"I{number}" for number in range(1, 14))
USER_CODES, ITEM_CODES = 13, 13
USER_VALUES, ITEM_VALUES = 6, 7
LABEL = "label"
BOTTOM, TOP, TOWER = 64, (64, 32), 64
LEARNING_RATE, TEMPERATURE = 0.003, 0.1
_WARM_SHARE = 0.2
_WARM_SECONDS = 8.0

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """What an engine is given: the folder with train/ and valid/, what is trained, and how long at most."""

    data: Path
    model: str
    vocabulary: int
    rows: int
    batch: int
    dim: int
    seconds: float
    seed: int
    scratch: Path

    @property
    def train(self) -> Path:
        """Folder of the training rows."""
        return self.data / "train"

    @property
    def valid(self) -> Path:
        """Folder of the held-out rows."""
        return self.data / "valid"

    @property
    def cardinality(self) -> int:
        """Rows of each table: the vocabulary, and padding, null and unknown."""
        return self.vocabulary + 3


class TimeUpError(Exception):
    """The steps have taken as long as they may."""


class Meter:
    """Measures rows a second of the steps after the first ones, in which graphs are traced and memory is laid out.

    A fifth of the rows, or of the time where that is up sooner, counts as first. Called after each step with the rows
    that all steps so far have had; raises TimeUpError where the rest has taken `job.seconds`.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._began, self._ended = job, (0, 0.0), (0, 0.0)
        self._called = 0.0  # when the first step, which takes seconds, had ended

    def __call__(self, rows: int) -> None:
        """Take in that the steps so far have had so many rows."""
        now = time.perf_counter()
        self._called = self._called or now
        self._ended = rows, now
        steps = rows // self._job.batch
        first = rows <= self._job.rows * _WARM_SHARE and (steps < 2 or now - self._called < _WARM_SECONDS)
        if not self._began[0] or first:
            self._began = rows, now
        elif now - self._began[1] > self._job.seconds:
            raise TimeUpError

    def figures(self) -> dict[str, float]:
        """Return samples_per_s, and the rows and seconds that it comes from."""
        rows, seconds = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        if rows <= 0:
            sys.exit(f"too few rows to measure: {self._job.rows}, {self._job.batch} a step")
        return {"samples_per_s": rows / seconds, "measured_rows": rows, "measured_seconds": seconds}


Train = Callable[[Job, Meter], Scores]


def main(train: Train, arguments: Sequence[str] | None = None) -> int:
    """Train with one engine as the command line says, write OUT/scores.npy and print the figures.

    Where time was up, there are no scores, and `complete` is false.
    """
    options = _parser().parse_args(arguments)
    shape = json.loads((options.data / "shape.json").read_text(encoding="utf-8"))
    options.out.mkdir(parents=True, exist_ok=True)
    job = Job(
        options.data,
        shape["model"],
        shape["vocabulary"],
        shape["rows"],
        options.batch,
        options.dim,
        options.seconds,
        options.seed,
        options.out,
    )
    meter, complete = Meter(job), True
    try:
        np.save(options.out / "scores.npy", train(job, meter).reshape(-1).astype("float32"), allow_pickle=False)
    except TimeUpError:
        complete = False
    found: dict[str, Any] = {**meter.figures(), "complete": complete, "own_peak_rss_mb": round(_peak_mb(), 1)}
    print(json.dumps(found) if options.json else "\n".join(f"{key:<18}{value:>14}" for key, value in found.items()))
    sys.stdout.flush()
    os._exit(0)  # what the libraries do to end takes seconds, and measures nothing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train on Criteo-shaped rows with one engine.")
    parser.add_argument("--data", type=Path, required=True, help="Folder that benchmarks.training.data made.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for scores.npy and temporary files.")
    parser.add_argument("--batch", type=int, default=4096, help="Rows of a step.")
    parser.add_argument("--dim", type=int, default=16, help="Size of every vector.")
    parser.add_argument("--seconds", type=float, default=30.0, help="Stop after so many measured seconds.")
    parser.add_argument("--seed", type=int, default=0, help="Of weights and order.")
    parser.add_argument("--json", action="store_true", help="One JSON object as the last line.")
    return parser


def _peak_mb() -> float:
    """The most memory (RSS, MiB) that this process has had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
