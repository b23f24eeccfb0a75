"""A steady load on one model from a process of its own: known requests at a fixed rate, every answer checked.

    python -m benchmarks.steady job.json

Prints `ready` and sends until its standard input closes; then writes what it saw. An answer is right if its
model_version is a known one and its scores are those of that version. Nothing is tried again: an error is a failed
request.
"""

from __future__ import annotations

import gc
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.errors import MewsError

TOLERANCE = 1e-5
OK, FAILED, WRONG = 0, 1, 2
_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Job:
    """What one process sends: `requests` and `expected` (scores by version) are in the .npz file `data`.

    `rate` is requests a second, of all `threads` together. Strings are in `data` as fixed-width bytes.
    """

    url: str
    protocol: str
    model: str
    output: str
    data: str
    out: str
    threads: int = 2
    rate: float = 100.0


@dataclass(frozen=True)
class Seen:
    """One element for each request, in the order of their ends: start (seconds, monotonic), latency (microseconds),
    version of the answer (0 for none), verdict; `errors` are the first few texts.
    """

    started: _Array
    latency_us: _Array
    version: _Array
    verdict: _Array
    errors: tuple[str, ...]


def write_data(path: Path, requests: Sequence[Mapping[str, _Array]], expected: Mapping[int, Sequence[_Array]]) -> None:
    """Write requests, and the right scores of each version to each, for `Job.data`; without pickle."""
    arrays: dict[str, _Array] = {"versions": np.array(sorted(expected))}
    for number, request in enumerate(requests):
        for name, values in request.items():
            arrays[f"request/{number}/{name}"] = values.astype(np.bytes_) if values.dtype == object else values
        for version, answers in expected.items():
            arrays[f"expected/{number}/{version}"] = answers[number]
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_data(path: Path) -> tuple[list[dict[str, _Array]], list[dict[int, _Array]]]:
    """Return requests and, for each, the right scores by version."""
    requests: dict[int, dict[str, _Array]] = {}
    expected: dict[int, dict[int, _Array]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            kind, _, rest = key.partition("/")
            number, _, name = rest.partition("/")
            values = arrays[key]
            if kind == "request":
                texts = values.dtype.kind == "S"
                requests.setdefault(int(number), {})[name] = values.astype(np.object_) if texts else values
            elif kind == "expected":
                expected.setdefault(int(number), {})[int(name)] = values
    return [requests[number] for number in sorted(requests)], [expected[number] for number in sorted(expected)]


class Process:
    """One load in a process of its own; `stop` ends it and returns what it saw."""

    def __init__(self, job: Job, folder: Path) -> None:
        """Start it and wait until its connections stand; MewsError if it ends first."""
        self._job = job
        file = folder / f"{job.protocol}.json"
        file.write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.steady", str(file)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).resolve().parents[1]
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise MewsError(f"the load over {job.protocol} did not start", hint="Its own words are above.")

    def stop(self) -> Seen:
        """End the load; MewsError if it had ended by itself."""
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._process.returncode != 0:
            raise MewsError(f"the load over {self._job.protocol} ended with status {self._process.returncode}")
        with np.load(self._job.out, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
        errors = tuple(str(text) for text in found.pop("errors"))
        return Seen(**found, errors=errors)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()


_Ask = Callable[[int], tuple[int, _Array]]


def _http(job: Job, requests: Sequence[Mapping[str, _Array]]) -> _Ask:
    import tritonclient.http

    client = tritonclient.http.InferenceServerClient
    outputs = [tritonclient.http.InferRequestedOutput(job.output)]
    bodies = [client.generate_request_body(_inputs(tritonclient.http, each), outputs=outputs) for each in requests]
    connection = http.client.HTTPConnection(job.url, timeout=30)
    header = "Inference-Header-Content-Length"

    def ask(number: int) -> tuple[int, _Array]:
        body, length = bodies[number]
        connection.request("POST", f"/v2/models/{job.model}/infer", body, {header: str(length)} if length else {})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise MewsError(content.decode(errors="replace")[:300])
        answer = client.parse_response_body(content, header_length=int(response.headers[header]))
        return int(answer.get_response()["model_version"]), answer.as_numpy(job.output)

    return ask


def _grpc(job: Job, requests: Sequence[Mapping[str, _Array]]) -> _Ask:
    import tritonclient.grpc

    client = tritonclient.grpc.InferenceServerClient(job.url)
    outputs = [tritonclient.grpc.InferRequestedOutput(job.output)]
    bodies = [_inputs(tritonclient.grpc, each) for each in requests]

    def ask(number: int) -> tuple[int, _Array]:
        answer = client.infer(job.model, bodies[number], outputs=outputs, client_timeout=30)
        return int(answer.get_response().model_version), answer.as_numpy(job.output)

    return ask


_ASKS: dict[str, Callable[[Job, Sequence[Mapping[str, _Array]]], _Ask]] = {"http": _http, "grpc": _grpc}


def _inputs(module: Any, tensors: Mapping[str, _Array]) -> list[Any]:
    from tritonclient.utils import np_to_triton_dtype

    inputs = []
    for name, values in tensors.items():
        tensor = module.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        inputs.append(tensor.set_data_from_numpy(values))
    return inputs


class _Sender:
    """One thread: a request every `threads / rate` seconds, or at once when the one before took longer."""

    def __init__(self, job: Job, first: int) -> None:
        self.requests, self.expected = read_data(Path(job.data))
        self.job, self.next = job, first
        self.ask = _ASKS[job.protocol](job, self.requests)
        self.seen: list[tuple[float, float, int, int]] = []
        self.errors: list[str] = []
        self.ask(first % len(self.requests))

    def send(self, stop: threading.Event) -> None:
        """Send until `stop`."""
        period = self.job.threads / self.job.rate
        due = time.monotonic() + period * self.next / self.job.threads
        while not stop.is_set():
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            else:
                due = time.monotonic()
            due += period
            self.one()

    def one(self) -> None:
        """Send one request and judge its answer."""
        number = self.next % len(self.requests)
        self.next += self.job.threads
        version, verdict, started = 0, FAILED, time.monotonic()
        try:
            version, scores = self.ask(number)
            ended = time.monotonic()
            verdict = OK if _right(scores, self.expected[number].get(version)) else WRONG
        except Exception as error:  # whatever it is, it is a failed request
            ended = time.monotonic()
            self.errors.append(f"{type(error).__name__}: {error}"[:300])
            self.ask = _ASKS[self.job.protocol](self.job, self.requests)
        self.seen.append((started, (ended - started) * 1e6, version, verdict))


def _right(scores: _Array, expected: _Array | None) -> bool:
    return expected is not None and scores.shape == expected.shape and bool(np.allclose(scores, expected, 0, TOLERANCE))


def main(file: Path) -> None:
    """Run the job in `file` until standard input closes."""
    job = Job(**json.loads(file.read_text(encoding="utf-8")))
    senders = [_Sender(job, first) for first in range(job.threads)]
    stop = threading.Event()
    threads = [threading.Thread(target=sender.send, args=(stop,)) for sender in senders]
    gc.collect()
    gc.disable()  # a collection would look like a slow answer
    sys.setswitchinterval(1e-4)
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    seen = sorted(each for sender in senders for each in sender.seen)
    columns = [np.array(column) for column in zip(*seen, strict=True)] if seen else [np.zeros(0)] * 4
    errors = np.array([text for sender in senders for text in sender.errors][:20], dtype=np.str_)
    with Path(job.out).open("wb") as target:
        names = ("started", "latency_us", "version", "verdict")
        np.savez(target, **dict(zip(names, columns, strict=True)), errors=errors)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
