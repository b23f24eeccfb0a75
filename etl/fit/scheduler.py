"""Where the slices of a fit are aggregated: in this process, or on Dask workers.

A scheduler maps work over slices and gives the results in the order of the slices, however they were made; what is
done with them is then the same everywhere. A worker that dies loses nothing but time: its slices are done again.
"""

from __future__ import annotations

import functools
import io
import json
import os
import tempfile
import warnings
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from etl.errors import ConfigError, MewsError
from etl.fit.partial import Slice, Tables, Work
from etl.graph import FeatureGraph

KINDS = "local, dask, dask-cuda, or the address of a cluster (tcp://host:port)"
_AHEAD = 2
"""Slices that each worker may be ahead of the merge: memory against waiting."""
_ANSWER = "10s"
"""How long a cluster may take to answer."""


class Scheduler(Protocol):
    """Maps work over slices."""

    def map(self, work: Work, slices: Sequence[Slice]) -> Iterator[Tables]:
        """Yield the tables of each slice, in the order of the slices."""


class Local:
    """This process; Polars' threads spread each slice over the cores."""

    def map(self, work: Work, slices: Sequence[Slice]) -> Iterator[Tables]:
        """Yield the tables of each slice."""
        yield from map(work, slices)


class Dask:
    """The workers of a Dask cluster, through its client; results are fetched a few ahead of what was asked for."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def map(self, work: Work, slices: Sequence[Slice]) -> Iterator[Tables]:
        """Yield the tables of each slice; MewsError when workers keep dying."""
        from distributed import KilledWorker

        # Made by a task, not scattered: a task's result can be made again when the worker that held it is gone.
        held = self._client.submit(_itself, pack(work), pure=False)
        waiting: deque[Any] = deque()
        todo = iter(slices)
        ahead = _AHEAD * max(1, len(self._client.scheduler_info()["workers"]))
        try:
            for part in todo:
                waiting.append(self._client.submit(_run, held, part, pure=False))
                if len(waiting) >= ahead:
                    yield self._oldest(waiting)
            while waiting:
                yield self._oldest(waiting)
        except KilledWorker as error:
            hint = "Give the workers more memory, or make slices smaller."
            raise MewsError(
                "fit: workers died at the same rows again and again", received=str(error), hint=hint
            ) from None
        finally:
            self._client.cancel([held, *waiting])

    @staticmethod
    def _oldest(waiting: deque[Any]) -> Tables:
        future = waiting[0]
        found = {key: pl.read_ipc(io.BytesIO(table)) for key, table in future.result().items()}
        waiting.popleft()
        future.release()
        return found


# Only bytes travel: a worker's network thread that called into Polars could wait for a thread that waits for it.


def pack(work: Work) -> bytes:
    """Return work as bytes: the graph as on disk, and the names of its nodes."""
    with tempfile.TemporaryDirectory(prefix="mews-graph-") as folder:
        work.graph.save(Path(folder) / "graph")
        (Path(folder) / "nodes.json").write_text(json.dumps(work.nodes), encoding="utf-8")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(Path(folder).rglob("*")):
                archive.write(path, path.relative_to(folder))
    return packed.getvalue()


@functools.lru_cache(maxsize=2)
def unpack(packed: bytes) -> Work:
    """Return the work that `pack` made bytes of; a worker does so once, not for each slice."""
    with tempfile.TemporaryDirectory(prefix="mews-graph-") as folder:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(folder)
        nodes = json.loads((Path(folder) / "nodes.json").read_text(encoding="utf-8"))
        return Work(FeatureGraph.load(Path(folder) / "graph"), tuple(nodes))


def _itself(packed: bytes) -> bytes:
    return packed


def _run(packed: bytes, part: Slice) -> dict[tuple[str, str], bytes]:
    found = {}
    for key, table in unpack(packed)(part).items():
        stream = io.BytesIO()
        table.write_ipc(stream, compression="lz4")
        found[key] = stream.getvalue()
    return found


@contextmanager
def scheduler(kind: str = "local", workers: int = 0) -> Iterator[Scheduler]:
    """Yield the scheduler `kind` (see KINDS) with `workers` processes (0: one for each core, or for each GPU).

    A cluster that was started here listens on 127.0.0.1 only, without a dashboard, and ends with the block. Files are
    read by the workers, so those of a cluster elsewhere must see them under the same paths. Raises ConfigError for
    another kind, a package that is missing, or a cluster that does not answer.
    """
    if kind == "local":
        yield Local()
        return
    if kind not in ("dask", "dask-cuda") and not kind.startswith(("tcp://", "tls://")):
        raise ConfigError("scheduler", expected=KINDS, received=repr(kind))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        with _client(kind, workers) as client:
            yield Dask(client)


@contextmanager
def _client(kind: str, workers: int) -> Iterator[Any]:
    distributed = _package("distributed", kind)
    if kind not in ("dask", "dask-cuda"):
        try:
            client = distributed.Client(kind, timeout=_ANSWER, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(f"scheduler {kind}", expected="a cluster that answers", received=str(error)) from error
        with client:
            yield client
        return
    with _cluster(kind, workers) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


def _cluster(kind: str, workers: int) -> Any:
    http = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    shared: dict[str, Any] = {"host": "127.0.0.1", "threads_per_worker": 1, "scheduler_kwargs": http}
    if workers:
        shared["n_workers"] = workers
    if kind == "dask-cuda":
        return _package("dask_cuda", kind).LocalCUDACluster(**shared)
    cores = os.cpu_count() or 1
    shared.setdefault("n_workers", cores)
    threads = str(max(1, cores // shared["n_workers"]))
    # Memory is bounded here, by the size of slices; Dask's own limit would end workers that are only reading.
    return _package("distributed", kind).LocalCluster(
        processes=True, memory_limit=0, env={"POLARS_MAX_THREADS": threads}, **shared
    )


def _package(name: str, kind: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = f"Install {name.replace('_', '-')}, or use --scheduler local."
        raise ConfigError(f"scheduler {kind}", expected=f"the package {name}", received=str(error), hint=hint) from None
