"""An exported version with other settings: its files as they are, its configuration new; measured in Triton."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.perf_analyzer import BenchmarkError, Load, PerfAnalyzer, write_data
from ensemble import manifest, pbtxt
from ensemble.config import ExportConfig, Protocol, ServeConfig
from ensemble.requests.encode import encode
from ensemble.scheduling import Device, scheduled
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestSchema

_CONFIG = "config.pbtxt"
_START_SECONDS = 120
_ROWS = 256


@dataclass(frozen=True)
class Settings:
    """What is tuned: keys of `export`, for all composing models whose placement does not say otherwise."""

    max_queue_delay_microseconds: int
    preferred_batch_sizes: tuple[int, ...]
    instances: int
    threads: int
    device: Device

    @classmethod
    def of(cls, config: ExportConfig) -> Settings:
        """Return what `config` says."""
        return cls(
            config.max_queue_delay_microseconds,
            tuple(config.preferred_batch_sizes),
            config.instances,
            config.threads,
            config.device,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the keys of `export`."""
        return {**asdict(self), "preferred_batch_sizes": list(self.preferred_batch_sizes)}

    def applied(self, config: ExportConfig) -> ExportConfig:
        """Return `config` with these."""
        return config.model_copy(update=self.to_json())


@dataclass(frozen=True)
class Figures:
    """What one load saw: latencies in microseconds, and whether perf_analyzer's windows agreed."""

    rows_per_s: float
    p50_us: int
    p99_us: int
    stable: bool


@dataclass(frozen=True)
class Traffic:
    """What is sent for `seconds`: requests of `batch` rows, `concurrency` of them at any time."""

    protocol: Protocol = "grpc"
    concurrency: int = 16
    batch: int = 1
    seconds: float = 1.0


@dataclass(frozen=True)
class Bench:
    """What is measured, and how: a version folder under `traffic`, in the folder `work`."""

    version: Path
    config: ExportConfig
    traffic: Traffic
    analyzer: PerfAnalyzer
    data: Path
    work: Path

    @classmethod
    def make(cls, version: Path, config: ExportConfig, traffic: Traffic, rows: Path, work: Path) -> Bench:
        """Write the data to send, from the Parquet file `rows`; BenchmarkError if Triton does not batch the version."""
        request = manifest.load(version).request
        if not config.max_batch_size:
            raise BenchmarkError(
                "there is nothing to tune", expected="export.max_batch_size >= 1", received="0: Triton makes no batches"
            )
        data = work / "rows.json"
        _write_rows(data, rows, request, traffic.batch)
        return cls(version, config, traffic, PerfAnalyzer.find(work / "tool"), data, work)

    def measure(self, settings: Settings) -> Figures:
        """Return what a server of its own shows with `settings`; ServerError or BenchmarkError if it shows nothing."""
        (figures,) = self.measure_in_turn([settings], 1)[0]
        return figures

    def measure_in_turn(self, candidates: Sequence[Settings], rounds: int) -> list[list[Figures]]:
        """Measure all in one server, in turn and back, `rounds` times; returns the figures of each candidate."""
        repository = self.work / "models"
        _remove(repository)
        names = [
            write_candidate(repository, self.version, settings.applied(self.config), f"candidate{number}")
            for number, settings in enumerate(candidates)
        ]
        found: list[list[Figures]] = [[] for _ in candidates]
        with TritonServer(repository, ServeConfig(start_timeout_seconds=_START_SECONDS), names) as server:
            url = server.http_url if self.traffic.protocol == "http" else server.grpc_url
            for turn in range(rounds):
                order = range(len(names)) if turn % 2 == 0 else reversed(range(len(names)))
                for number in order:
                    found[number].append(self._send(url, names[number]))
        return found

    def _send(self, url: str, model: str) -> Figures:
        sent = self.traffic
        load = Load(model, sent.protocol, sent.concurrency, sent.batch)
        seen = self.analyzer.measure(url, load, self.data, sent.seconds)
        return Figures(round(seen.requests_per_s * sent.batch, 1), seen.p50_us, seen.p99_us, seen.stable)


def write_candidate(repository: Path, version: Path, config: ExportConfig, name: str) -> str:
    """Add the version to `repository` as the ensemble `name`, scheduled as `config` says; returns `name`."""
    found, source = manifest.load(version), version.parent.parent.resolve()
    renamed: dict[str, str] = {}
    for model in found.models:
        role = model.removeprefix(f"{found.name}_").removesuffix(f"_{found.version}")
        renamed[model] = f"{name}_{role}"
        folder = repository / renamed[model]
        folder.mkdir(parents=True)
        for path in (source / model).iterdir():
            if path.name != _CONFIG:
                (folder / path.name).symlink_to(path)
        spec = replace(_spec(source / model / _CONFIG), name=renamed[model])
        (folder / _CONFIG).write_text(pbtxt.render(scheduled(spec, config, role)), encoding="utf-8")
    archived = _spec(source / found.name / "configs" / f"{found.version}.pbtxt")
    steps = tuple(replace(step, model=renamed[step.model]) for step in archived.steps)
    whole = replace(archived, name=name, versions=(), steps=steps)
    (repository / name / "1").mkdir(parents=True)
    (repository / name / _CONFIG).write_text(pbtxt.render(scheduled(whole, config, "")), encoding="utf-8")
    return name


def _spec(path: Path) -> Any:
    return pbtxt.parse(path.read_text(encoding="utf-8"))


def _remove(repository: Path) -> None:
    shutil.rmtree(repository, ignore_errors=True)
    repository.mkdir()


def _write_rows(path: Path, rows: Path, request: RequestSchema, batch: int) -> None:
    """Write single rows, each padded for itself as a client would, or rows padded alike for batches."""
    frame = pl.read_parquet(rows, columns=list(request.names), hive_partitioning=False, n_rows=max(_ROWS, 4 * batch))
    if frame.is_empty():
        raise BenchmarkError(f"{rows} has no rows to send")
    if batch == 1:
        requests: list[Mapping[str, Any]] = [encode(frame[place : place + 1], request) for place in range(frame.height)]
    else:
        tensors = encode(frame, request)
        requests = [
            {name: tensor[place : place + 1] for name, tensor in tensors.items()} for place in range(frame.height)
        ]
    write_data(path, requests, batched=True)
