"""What all peers share: KServe v2 in JSON over HTTP, as far as perf_analyzer asks for it, and uvicorn workers.

A request is a dict of flat lists by tensor name with the number of rows; an answer is one `score` for each row.
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCORE = "score"
_SLOT = 8  # bytes


@dataclass(frozen=True)
class Request:
    """Rows as they came: flat lists by tensor name; `widths` are the tensors' second dimensions."""

    rows: int
    data: Mapping[str, list[Any]]
    widths: Mapping[str, int]


@dataclass(frozen=True)
class Settings:
    """What a peer serves: the model's name, `inputs` as [name, KServe type, dims without the batch], and a folder."""

    model: str
    inputs: Sequence[tuple[str, str, list[int]]]
    max_batch_size: int
    folder: Path

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read the file that `save` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**found, "folder": Path(found["folder"])})

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps({**vars(self), "folder": str(self.folder)}), encoding="utf-8")


Score = Callable[[Request], Sequence[float]]


class Counter:
    """Requests answered by all workers, in memory that they share; each writes its own place."""

    def __init__(self, workers: int = 1) -> None:
        self._counts = memoryview(mmap.mmap(-1, _SLOT * workers)).cast("q")
        self.place = 0

    def add(self) -> None:
        """Count one request of this process."""
        self._counts[self.place] += 1

    def total(self) -> int:
        """Return the requests of all workers."""
        return sum(self._counts)


def read(body: Mapping[str, Any]) -> Request:
    """Return the tensors of a request's JSON; nested lists are made flat."""
    data, widths, rows = {}, {}, 0
    for tensor in body["inputs"]:
        shape, values = tensor["shape"], tensor["data"]
        while values and isinstance(values[0], list):
            values = [value for part in values for value in part]
        data[tensor["name"]], rows = values, shape[0]
        widths[tensor["name"]] = shape[1] if len(shape) > 1 else 1
    return Request(rows, data, widths)


def answer(model: str, scores: Sequence[float]) -> dict[str, Any]:
    """Return a response's JSON."""
    output = {"name": SCORE, "datatype": "FP32", "shape": [len(scores), 1], "data": scores}
    return {"model_name": model, "model_version": "1", "outputs": [output]}


def add_routes(app: Any, settings: Settings, counter: Counter) -> None:
    """Give a FastAPI `app` what perf_analyzer asks for besides inference."""
    model = f"/v2/models/{settings.model}"
    for path in ("/v2/health/live", "/v2/health/ready", f"{model}/ready"):
        app.get(path)(_nothing)
    app.get("/v2")(lambda: {"name": "peer", "version": "1", "extensions": ["statistics", "model_configuration"]})
    for prefix in (model, f"{model}/versions/1"):
        app.get(prefix)(lambda: metadata(settings))
        app.get(f"{prefix}/config")(lambda: config(settings))
        app.get(f"{prefix}/stats")(lambda: statistics(settings, counter))


def _nothing() -> dict[str, Any]:
    return {}


def metadata(settings: Settings) -> dict[str, Any]:
    """Return the model's metadata."""
    inputs = [{"name": name, "datatype": kind, "shape": [-1, *dims]} for name, kind, dims in settings.inputs]
    outputs = [{"name": SCORE, "datatype": "FP32", "shape": [-1, 1]}]
    return {"name": settings.model, "versions": ["1"], "platform": "peer", "inputs": inputs, "outputs": outputs}


def config(settings: Settings) -> dict[str, Any]:
    """Return the model's configuration in Triton's form."""
    kinds = {"BYTES": "STRING"}
    inputs = [
        {"name": name, "data_type": f"TYPE_{kinds.get(kind, kind)}", "dims": dims}
        for name, kind, dims in settings.inputs
    ]
    outputs = [{"name": SCORE, "data_type": "TYPE_FP32", "dims": [1]}]
    limit = settings.max_batch_size
    return {"name": settings.model, "platform": "peer", "max_batch_size": limit, "input": inputs, "output": outputs}


def statistics(settings: Settings, counter: Counter) -> dict[str, Any]:
    """Return how many requests were answered; durations are not known and are told as 0."""
    requests = counter.total()
    names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    inference = {name: {"count": requests, "ns": 0} for name in names} | {"fail": {"count": 0, "ns": 0}}
    inference |= {name: {"count": 0, "ns": 0} for name in ("cache_hit", "cache_miss")}
    found = {"name": settings.model, "version": "1", "last_inference": 0, "inference_count": requests}
    return {"model_stats": [{**found, "execution_count": requests, "inference_stats": inference, "batch_stats": []}]}


def options() -> argparse.Namespace:
    """Return --settings, --port and --workers of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


def main(load: Callable[[Settings], Score]) -> None:
    """Serve what `load` returns with FastAPI in --workers processes, which all listen when all have loaded."""
    given = options()
    settings = Settings.load(given.settings)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", given.port))
    counter, loaded = Counter(given.workers), multiprocessing.get_context("fork").Barrier(given.workers)
    # Before anything heavy is imported, since TensorFlow and ONNX Runtime have threads that a fork would lose.
    place = next((number for number in range(1, given.workers) if os.fork() == 0), 0)
    counter.place = place
    app = fastapi_app(settings, load(settings), counter)
    loaded.wait()
    serve(app, listener)


def fastapi_app(settings: Settings, score: Score, counter: Counter) -> Any:
    """Return a FastAPI application that scores in its event loop, on a plain route: the least that FastAPI can cost."""
    import fastapi
    import orjson

    app = fastapi.FastAPI(openapi_url=None)
    add_routes(app, settings, counter)

    async def infer(request: Any) -> fastapi.Response:
        asked = read(orjson.loads(await request.body()))
        scores = score(asked)
        counter.add()
        return fastapi.Response(orjson.dumps(answer(settings.model, scores)), media_type="application/json")

    app.add_route(f"/v2/models/{settings.model}/infer", infer, methods=["POST"])
    return app


def serve(app: Any, listener: socket.socket) -> None:
    """Run `app` on a bound socket until the process is told to end."""
    import uvicorn

    told = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off")
    uvicorn.Server(told).run(sockets=[listener])
