"""TensorFlow alone, in process: the lower bound of whoever serves this model with TensorFlow. No features, no server.

`python -m benchmarks.in_process MODEL FEATURES LOADS` loads the SavedModel, scores the features of FEATURES (an .npz of
{name: [rows, width]}) at the LOADS, "clients:rows:seconds" with commas, and prints JSON. Clients are threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import usage
from benchmarks.perf_analyzer import BenchmarkError
from benchmarks.processes import ROOT
from ensemble.server.supervisor import die_with_parent

_START_SECONDS = 120
_WARM_UP = 20

Columns = dict[str, npt.NDArray[Any]]


def run(model: Path, features: Path, loads: Sequence[tuple[int, int, float]]) -> dict[str, Any]:
    """Measure in a process of its own; returns `results`, `scores` of the first rows, memory_mb and startup_s."""
    written = ",".join(f"{clients}:{rows}:{seconds:g}" for clients, rows, seconds in loads)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.in_process", str(model), str(features), written]
    limit = _START_SECONDS + 4 * sum(seconds for _, _, seconds in loads)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False, preexec_fn=die_with_parent
    )
    if done.returncode:
        raise BenchmarkError("TensorFlow alone", received=done.stderr.strip()[-1000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main(model: Path, features: Path, loads: str) -> dict[str, Any]:
    began = time.perf_counter()
    from training.predict import load, read_features
    from training.train import read_training

    score = load(model, read_features(read_training(model)))
    columns: Columns = dict(np.load(features, allow_pickle=False))
    started = time.perf_counter() - began
    count = len(next(iter(columns.values())))
    scores = score({name: values[: min(64, count)] for name, values in columns.items()})
    results = [_measure(score, columns, *_load(text)) for text in loads.split(",")]
    memory = usage.memory_mb(os.getpid())
    return {
        "results": results,
        "scores": scores.tolist(),
        "startup_s": round(started, 3),
        "memory_mb": round(memory, 1),
    }


def _load(text: str) -> tuple[int, int, float]:
    clients, rows, seconds = text.split(":")
    return int(clients), int(rows), float(seconds)


def _measure(score: Any, columns: Columns, clients: int, rows: int, seconds: float) -> dict[str, Any]:
    count = len(next(iter(columns.values())))
    rows = min(rows, count)
    starts = range(0, count - rows + 1, rows)
    requests = [{name: values[start : start + rows] for name, values in columns.items()} for start in starts[:256]]
    for number in range(_WARM_UP):
        score(requests[number % len(requests)])
    took: list[list[int]] = [[] for _ in range(clients)]
    began, spent = time.monotonic(), usage.cpu_seconds(os.getpid())

    def client(own: list[int], first: int) -> None:
        number = first
        while time.monotonic() - began < seconds:
            start = time.perf_counter_ns()
            score(requests[number % len(requests)])
            own.append(time.perf_counter_ns() - start)
            number += 1

    threads = [threading.Thread(target=client, args=(own, place)) for place, own in enumerate(took)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _figures([one for own in took for one in own], clients, rows, time.monotonic() - began,
                    usage.cpu_seconds(os.getpid()) - spent)  # fmt: skip


def _figures(took: Sequence[int], clients: int, rows: int, seconds: float, cpu: float) -> dict[str, Any]:
    quantiles: Mapping[str, float] = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99}
    spread = {key: round(float(np.quantile(took, share)) / 1000, 1) for key, share in quantiles.items()}
    rate = len(took) / seconds
    return {"concurrency": clients, "batch": rows, **spread, "requests_per_s": round(rate, 1),
            "rows_per_s": round(rate * rows, 1), "cpu_s_per_1000_rows": round(cpu * 1000 / (len(took) * rows), 5),
            "errors": 0, "stable": True}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
