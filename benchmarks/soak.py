"""Many requests, one server: no error, no wrong answer, and memory that stays flat once it is warm.

Clients over HTTP and gRPC send random rows in batches of 1 to the maximum: the values of each column are drawn from the
run's rows by themselves, with nulls among them. Every answer is compared with what ONNX Runtime says in this process.
The memory of the server and of its backends' processes is sampled every second.
"""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import polars as pl
import psutil

from benchmarks import machine
from ensemble import pbtxt
from ensemble.client.client import Client
from ensemble.config import ServeConfig
from ensemble.manifest import load
from ensemble.requests.encode import Array, encode
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestSchema, Step
from etl.atomic import write_text
from etl.errors import MewsError
from etl.names import SCORE
from etl.progress import Progress, silent

TOLERANCE = 1e-5
"""Largest difference between a served score and one computed in this process."""
SLOPE_LIMIT = 2.0
"""MiB for each 100,000 requests after the warm-up; what is below is what an allocator's noise makes."""
WARM_SHARE = 0.2
"""Share of the requests that are warm-up."""
_JUDGED = 100_000
"""Requests after the warm-up from which a slope says something."""
_DIFFERENT = 512
_NULLS = 0.05
_PROTOCOLS: tuple[Literal["http", "grpc"], ...] = ("http", "grpc")
_SHOWN_ERRORS = 5
_KEPT_SAMPLES = 500
"""Of more, every second, third, ... one is kept in the report; the slope is of all."""


@dataclass(frozen=True)
class Sample:
    """One look at the server: seconds since the start, requests answered, MiB of the server and of its stubs."""

    seconds: float
    requests: int
    server_mb: float
    stubs_mb: float

    @property
    def total_mb(self) -> float:
        """MiB of all processes."""
        return self.server_mb + self.stubs_mb


@dataclass
class _Tally:
    """What the clients found, counted together."""

    requests: int = 0
    rows: int = 0
    wrong: int = 0
    failed: int = 0
    messages: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, rows: int, wrong: bool, message: str) -> None:
        """Count one answer; `message` of one that failed."""
        with self.lock:
            self.requests += 1
            self.rows += rows
            self.wrong += wrong
            self.failed += bool(message)
            if message and len(self.messages) < _SHOWN_ERRORS:
                self.messages.append(message)


def run(
    folder: Path,
    rows: Path,
    out: Path,
    *,
    requests: int = 1_000_000,
    clients: int = 4,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Send `requests` random requests to the version `folder` and write the report to `out`, atomically.

    `rows` is a Parquet file of raw rows. `clients` take turns in the protocols. The report has `requests`, `rows`,
    `failed`, `wrong`, `errors` (some messages), `slope_mb_per_100k` (None where too few requests followed the warm-up),
    `slope_limit`, `flat`, `samples`, `ok`. Raises ArtifactError, ServerError, RequestError (rows that do not fit).
    """
    asked = prepare(folder, rows, seed)
    tally, samples = _Tally(), [Sample(0.0, 0, 0.0, 0.0)]
    name = folder.parent.name
    with TritonServer(folder.parent.parent, ServeConfig(start_timeout_seconds=180), [name]) as server:
        started = time.monotonic()
        counter = itertools.count()
        urls = {"http": server.http_url, "grpc": server.grpc_url}
        workers = [
            threading.Thread(
                target=_client, args=(urls, name, _PROTOCOLS[number % 2], asked, counter, requests, tally), daemon=True
            )
            for number in range(clients)
        ]
        samples[0] = look(server.pid, 0.0, 0)
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            next((worker for worker in workers if worker.is_alive()), workers[0]).join(1.0)
            samples.append(look(server.pid, time.monotonic() - started, tally.requests))
            progress("requests", tally.requests, requests, "requests")
        seconds = time.monotonic() - started
    report = _report(tally, samples, seconds) | {
        "clients": clients,
        "machine": machine.describe(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(out, json.dumps(report, indent=1) + "\n")
    return report


def prepare(folder: Path, rows: Path, seed: int) -> list[tuple[dict[str, Array], Array]]:
    """Return different requests, each with the scores that it must get: float32 [rows]."""
    manifest = load(folder)
    spec = pbtxt.parse((folder.parent / "configs" / f"{folder.name}.pbtxt").read_text(encoding="utf-8"))
    frame = pl.read_parquet(rows).select(manifest.request.names)
    random = np.random.default_rng(seed)
    largest = spec.max_batch_size or 64
    sizes = np.unique(np.geomspace(1, largest, 64).astype(int))
    chosen = [int(random.choice(sizes)) for _ in range(_DIFFERENT)]
    chosen[:2] = [1, largest]
    requests = [encode(random_rows(frame, manifest.request, size, random), manifest.request) for size in chosen]
    answers = in_process(folder.parent.parent, spec.steps)
    return [(request, answers(request)) for request in requests]


def random_rows(frame: pl.DataFrame, request: RequestSchema, count: int, random: np.random.Generator) -> pl.DataFrame:
    """Return rows whose values come from `frame`, each column by itself, with nulls where a request can say null."""
    columns = []
    for column in request.columns:
        drawn = frame.get_column(column.name).gather(random.integers(0, frame.height, count))
        if column.nullable:
            kept = pl.Series(random.random(count) >= _NULLS)
            drawn = pl.DataFrame({"x": drawn, "kept": kept}).select(pl.when("kept").then("x"))["x"].rename(column.name)
        columns.append(drawn)
    return pl.DataFrame(columns)


def in_process(repository: Path, steps: Sequence[Step]) -> Any:
    """Return a function from a request's tensors to its scores that runs the composing models' ONNX files here."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    models = [
        (step, ort.InferenceSession(repository / step.model / "1" / "model.onnx", options, ["CPUExecutionProvider"]))
        for step in steps
    ]

    def answer(tensors: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        values = {name: _text(array) for name, array in tensors.items()}
        for step, session in models:
            outputs = list(step.output_map)
            found = session.run(outputs, {name: values[source] for name, source in step.input_map.items()})
            values |= {step.output_map[name]: array for name, array in zip(outputs, found, strict=True)}
        return np.asarray(values[SCORE], dtype=np.float32).reshape(-1)

    return answer


def _text(array: Array) -> Array:
    if array.dtype != object:
        return array
    return np.array([value.decode() for value in array.reshape(-1)], dtype=object).reshape(array.shape)


def _client(
    urls: Mapping[str, str],
    name: str,
    protocol: Literal["http", "grpc"],
    asked: Sequence[tuple[dict[str, Array], Array]],
    counter: itertools.count[int],
    requests: int,
    tally: _Tally,
) -> None:
    """Send requests until `counter`, which the clients share, has counted all of them."""
    with Client(urls[protocol], name, protocol=protocol, attempts=1) as client:
        while (number := next(counter)) < requests:
            tensors, expected = asked[number * 7 % len(asked)]
            try:
                found = np.asarray(client.infer(tensors, SCORE)).reshape(-1)
                same = found.shape == expected.shape and np.allclose(found, expected, 0, TOLERANCE, equal_nan=True)
                tally.add(len(expected), not same, "")
            except MewsError as error:
                tally.add(len(expected), False, str(error))


def look(pid: int, seconds: float, requests: int) -> Sample:
    """Return the memory of the server `pid` and of the processes that it started."""
    try:
        server = psutil.Process(pid)
        stubs = sum(child.memory_info().rss for child in server.children(recursive=True))
        return Sample(round(seconds, 1), requests, _mb(server.memory_info().rss), _mb(stubs))
    except psutil.NoSuchProcess:
        return Sample(round(seconds, 1), requests, 0.0, 0.0)


def _mb(size: int) -> float:
    return round(size / 2**20, 2)


def slope(samples: Sequence[Sample], requests: int) -> float | None:
    """Return MiB for each 100,000 requests after the warm-up, by least squares; None where that says nothing."""
    warm = [sample for sample in samples if sample.requests >= WARM_SHARE * requests]
    if len(warm) < 3 or warm[-1].requests - warm[0].requests < _JUDGED:
        return None
    fitted = statistics.linear_regression([s.requests for s in warm], [s.total_mb for s in warm])
    return round(fitted.slope * 100_000, 3)


def _report(tally: _Tally, samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    found = slope(samples, tally.requests)
    flat = None if found is None else found <= SLOPE_LIMIT
    return {
        "requests": tally.requests,
        "rows": tally.rows,
        "failed": tally.failed,
        "wrong": tally.wrong,
        "errors": tally.messages,
        "seconds": round(seconds, 1),
        "requests_per_s": round(tally.requests / max(seconds, 1e-9), 1),
        "slope_mb_per_100k": found,
        "slope_limit": SLOPE_LIMIT,
        "flat": flat,
        "ok": not tally.failed and not tally.wrong and flat is not False,
        "samples": [asdict(sample) for sample in samples[:: len(samples) // _KEPT_SAMPLES + 1]],
    }
