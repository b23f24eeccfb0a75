"""What the client's shared memory gains: the same requests with and without it, in turns, to an ensemble that computes
nothing.

`python -m benchmarks.shared_memory` prints JSON: median microseconds of a request of 26 int64 and 13 float32 columns,
by protocol and batch.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import identity
from benchmarks.machine import describe
from ensemble.client.client import Client
from ensemble.config import Protocol
from ensemble.server.triton import TritonServer
from ensemble.spec import TensorSpec

BATCHES = (1, 1024)
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
_MODEL = "criteo_like"
_INPUTS = [TensorSpec(f"c{n}", "INT64") for n in range(26)] + [TensorSpec(f"i{n}", "FP32") for n in range(13)]


def measure(requests: int = 400) -> dict[str, Any]:
    """Return `machine` and, for each protocol and batch, microseconds without and with shared memory."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        repository = Path(folder)
        identity.write(repository, _MODEL, _INPUTS, max(BATCHES))
        server = stack.enter_context(TritonServer(repository, models=[_MODEL]))
        found = [_pair(server, protocol, batch, requests) for protocol in PROTOCOLS for batch in BATCHES]
    return {"machine": describe(), "requests": requests, "columns": len(_INPUTS), "medians": found}


def _pair(server: TritonServer, protocol: Protocol, batch: int, requests: int) -> dict[str, Any]:
    url = server.http_url if protocol == "http" else server.grpc_url
    types = {"INT64": np.int64, "FP32": np.float32}
    tensors = {spec.name: np.ones((batch, 1), dtype=types[spec.dtype]) for spec in _INPUTS}
    times: dict[bool, list[float]] = {False: [], True: []}
    with (
        Client(url, _MODEL, protocol=protocol) as plain,
        Client(url, _MODEL, protocol=protocol, shared_memory=True) as shared,
    ):
        for number in range(requests + 20):
            for is_shared, client in ((False, plain), (True, shared)):
                started = time.perf_counter()
                client.infer(tensors, "c0_out")
                if number >= 20:
                    times[is_shared].append(time.perf_counter() - started)
    medians = {is_shared: round(statistics.median(each) * 1e6, 1) for is_shared, each in times.items()}
    return {"protocol": protocol, "batch": batch, "plain_us": medians[False], "shared_us": medians[True]}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
