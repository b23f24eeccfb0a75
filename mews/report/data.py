"""What the report shows, read from a run folder: any part may be missing, a broken file is a note, not a failure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mews.report.numbers import number
from mews.run import Run

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Bin:
    """Rows whose value is in low..high; the ends are numbers, or texts for moments."""

    low: Any
    high: Any
    count: float


@dataclass(frozen=True)
class ColumnProfile:
    """What one raw column holds; `null_rate` is a share, `lengths` describes lists."""

    name: str
    dtype: str
    role: str
    null_rate: float | None
    distinct: float | None
    minimum: Any
    mean: Any
    maximum: Any
    lengths: Json
    top: tuple[tuple[str, float], ...]
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Check:
    """One line of the validation report; status is PASS, WARN or FAIL."""

    name: str
    column: str
    status: str
    detail: str

    @property
    def rank(self) -> int:
        """0 for what needs attention most."""
        return {"FAIL": 0, "WARN": 1}.get(self.status, 2)


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows."""

    number: float
    loss: float | None
    val_loss: float | None
    val_auc: float | None
    seconds: float | None
    samples_per_s: float | None


@dataclass(frozen=True)
class Measured:
    """One row of perf_analyzer's results; latencies in microseconds."""

    target: str
    protocol: str
    concurrency: int
    batch: int
    p50_us: float | None
    p90_us: float | None
    p99_us: float | None
    rows_per_s: float | None
    requests_per_s: float | None
    errors: float
    stable: bool


@dataclass(frozen=True)
class Serving:
    """Results of the serving benchmark; `cdf` holds (microseconds, share) points by target.

    `targets` are their costs and answers by name, `phases` (stage, phase, microseconds) by target.
    """

    results: tuple[Measured, ...]
    cdf: Mapping[str, tuple[tuple[float, float], ...]]
    machine: Json
    created: str
    targets: Mapping[str, Json] = field(default_factory=dict)
    phases: Mapping[str, tuple[tuple[str, str, float], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ManifestFile:
    """A file of the exported repository."""

    path: str
    sha256: str
    size: float | None


@dataclass(frozen=True)
class ReportData:
    """All of a run folder that the report shows; an absent part is empty."""

    name: str
    summary: Json
    config: str
    dataset: Json
    profile: Json
    columns: tuple[ColumnProfile, ...]
    validation: Json
    checks: tuple[Check, ...]
    features: Json
    graph: Json
    epochs: tuple[Epoch, ...]
    best_epoch: float | None
    training: Json
    metrics: Json
    parity: Json
    serving: Serving | None
    manifest: Json
    files: tuple[ManifestFile, ...]
    seconds: Mapping[str, float]
    notes: tuple[str, ...]


def read(folder: Path) -> ReportData:
    """Read the run in `folder`. Files that cannot be read become `notes`; nothing raises but an unreadable folder."""
    run, notes = Run(folder), list[str]()

    def load(*paths: Path) -> Json:
        return next((_load(path, folder, notes) for path in paths if path.is_file()), {})

    summary, profile, validation = load(run.summary), load(run.profile), load(run.validation)
    history, bench = load(run.model / "history.json"), load(run.bench)
    manifest, training = load(*_newest_manifest(run.repository)), load(run.model / "training.json")
    config = run.config.read_text(encoding="utf-8", errors="replace") if run.config.is_file() else ""
    return ReportData(
        name=folder.resolve().name,
        summary=summary,
        config=config,
        dataset=load(run.raw / "dataset.json"),
        profile=profile,
        columns=tuple(_column(found) for found in records(profile.get("columns"))),
        validation=validation,
        checks=tuple(
            _check(found) for part in (validation, load(run.split_checks)) for found in records(part.get("checks"))
        ),
        features=load(run.features_summary),
        graph=load(run.graph / "graph.json"),
        epochs=tuple(_epoch(index, found) for index, found in enumerate(records(history.get("items")))),
        best_epoch=number(training.get("best_epoch")),
        training=training,
        metrics=load(run.evaluation / "metrics.json"),
        parity=load(run.parity) or mapping(summary.get("parity")),
        serving=_serving(bench),
        manifest=manifest,
        files=tuple(_files(manifest)),
        seconds=_seconds(run, summary, notes),
        notes=tuple(notes),
    )


def mapping(value: Any) -> Json:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def records(value: Any) -> list[Json]:
    """The objects in a JSON list; nothing for what is no list."""
    return [found for found in value if isinstance(found, dict)] if isinstance(value, list) else []


def points(value: Any, x: str, y: str) -> tuple[tuple[float, float], ...]:
    """Points of a curve under the keys `x` and `y`: of a list of objects, or of an object that holds two lists."""
    if isinstance(value, dict):
        pairs = zip(numbered(value.get(x)), numbered(value.get(y)), strict=False)
    else:
        pairs = zip(*(numbered([row.get(key) for row in records(value)]) for key in (x, y)), strict=True)
    return tuple((a, b) for a, b in pairs if a is not None and b is not None)


def numbered(value: Any) -> list[float | None]:
    """The values of a JSON list, None for what is no number; nothing for what is no list."""
    return [number(one) for one in value] if isinstance(value, list) else []


def first(row: Json, *keys: str) -> Any:
    """The value of the first of `keys` that is there and not null."""
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _load(path: Path, folder: Path, notes: list[str]) -> Json:
    shown = path.relative_to(folder)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{shown} cannot be read: {error}")
        return {}
    if isinstance(document, list):
        return {"items": document}
    if not isinstance(document, dict):
        notes.append(f"{shown} holds no JSON object")
    return mapping(document)


def _newest_manifest(repository: Path) -> list[Path]:
    found = repository.glob("*/*/manifest.json")
    return sorted(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else -1, reverse=True)


def _seconds(run: Run, summary: Json, notes: list[str]) -> dict[str, float]:
    """Seconds by stage: as summed up at the end of a run, else from the stages' own records."""
    listed = {
        name: taken for name, value in mapping(summary.get("seconds")).items() if (taken := number(value)) is not None
    }
    if listed or not run.stages.is_dir():
        return listed
    loaded = [(path.stat().st_mtime, path.stem, _load(path, run.folder, notes)) for path in run.stages.glob("*.json")]
    return {stage: number(found.get("seconds")) or 0.0 for _, stage, found in sorted(loaded, key=lambda item: item[:2])}


def _column(found: Json) -> ColumnProfile:
    rows, nulls = number(found.get("rows")), number(found.get("nulls"))
    dtype = str(found.get("dtype", ""))
    return ColumnProfile(
        name=str(found.get("name", "")),
        dtype=f"list of {dtype}" if found.get("list") else dtype,
        role=str(found.get("role") or ""),
        null_rate=nulls / rows if nulls is not None and rows else None,
        distinct=number(found.get("distinct")),
        minimum=found.get("min"),
        mean=found.get("mean"),
        maximum=found.get("max"),
        lengths=mapping(found.get("lengths")),
        top=_top(found.get("top")),
        bins=_bins(found.get("histogram")),
    )


def _top(value: Any) -> tuple[tuple[str, float], ...]:
    counts = ((str(row.get("value")), number(row.get("count"))) for row in records(value))
    return tuple((name, count) for name, count in counts if count is not None)


def _bins(value: Any) -> tuple[Bin, ...]:
    edges, counts = mapping(value).get("edges"), numbered(mapping(value).get("counts"))
    if not isinstance(edges, list):
        return ()
    found = zip(edges, edges[1:], counts, strict=False)
    return tuple(Bin(low, high, count) for low, high, count in found if count is not None)


def _check(found: Json) -> Check:
    status = str(found.get("status", "")).upper()
    return Check(str(found.get("name", "")), str(found.get("column") or ""), status, str(found.get("detail") or ""))


def _epoch(index: int, found: Json) -> Epoch:
    position = number(found.get("epoch"))
    return Epoch(
        index + 1 if position is None else position,
        number(found.get("train_loss")),
        number(found.get("valid_loss")),
        number(mapping(found.get("valid")).get("auc")),
        number(found.get("seconds")),
        number(found.get("samples_per_s")),
    )


def _serving(bench: Json) -> Serving | None:
    results = tuple(_measured(found) for found in records(bench.get("results")))
    if not results:
        return None
    curves = {name: points(value, "us", "share") for name, value in mapping(bench.get("cdf")).items()}
    shown = {name: curve for name, curve in curves.items() if curve}
    return Serving(
        results,
        shown,
        mapping(bench.get("machine")),
        str(bench.get("created") or ""),
        {name: mapping(found) for name, found in mapping(bench.get("targets")).items()},
        {name: tuple(_phases(found)) for name, found in mapping(bench.get("waterfall")).items()},
    )


def _phases(traced: Any) -> Iterable[tuple[str, str, float]]:
    for found in records(mapping(traced).get("phases")):
        if (taken := number(found.get("us"))) is not None:
            yield str(found.get("stage", "")), str(found.get("phase", "")), taken


def _measured(found: Json) -> Measured:
    return Measured(
        target=str(found.get("target", "")),
        protocol=str(found.get("protocol", "")),
        concurrency=int(number(found.get("concurrency")) or 1),
        batch=int(number(found.get("batch")) or 1),
        p50_us=number(found.get("p50_us")),
        p90_us=number(found.get("p90_us")),
        p99_us=number(found.get("p99_us")),
        rows_per_s=number(found.get("rows_per_s")),
        requests_per_s=number(found.get("requests_per_s")),
        errors=number(found.get("errors")) or 0.0,
        stable=found.get("stable") is not False,
    )


def _files(manifest: Json) -> Iterable[ManifestFile]:
    for path, found in mapping(manifest.get("files")).items():
        yield ManifestFile(path, str(mapping(found).get("sha256", "")), number(mapping(found).get("size")))
