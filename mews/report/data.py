"""What the report shows, read from a run folder: any part may be missing, a broken file is a note, not a failure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """Results of the serving benchmark; `cdf` holds (microseconds, share) points by target."""

    results: tuple[Measured, ...]
    cdf: Mapping[str, tuple[tuple[float, float], ...]]
    cdf_note: str
    machine: Json
    created: str


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
        epochs=tuple(_epoch(index, found) for index, found in enumerate(_history(history))),
        best_epoch=number(first({**training, **history}, "best_epoch", "best")),
        training=training,
        metrics=load(run.evaluation / "metrics.json", run.model / "metrics.json"),
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
    """Rows of a table, however it was written: a list of objects, an object of lists, or objects by name."""
    if isinstance(value, list):
        return [found for found in value if isinstance(found, dict)]
    if not isinstance(value, dict) or not value:
        return []
    if all(isinstance(found, list) for found in value.values()):
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=False)]
    return [{"name": name, **found} for name, found in value.items() if isinstance(found, dict)]


def points(value: Any, x: Sequence[str], y: Sequence[str]) -> tuple[tuple[float, float], ...]:
    """Points of a curve, from a list of pairs or from `records`, under the first of `x` and of `y` that is there."""
    if isinstance(value, list) and value and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        pairs: Iterable[tuple[Any, Any]] = (tuple(pair) for pair in value)
    else:
        pairs = ((first(row, *x), first(row, *y)) for row in records(value))
    found = ((number(a), number(b)) for a, b in pairs)
    return tuple((a, b) for a, b in found if a is not None and b is not None)


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
        return {"results": document, "epochs": document}
    if not isinstance(document, dict):
        notes.append(f"{shown} holds no JSON object")
    return mapping(document)


def _newest_manifest(repository: Path) -> list[Path]:
    found = repository.glob("*/*/manifest.json")
    return sorted(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else -1, reverse=True)


def _history(history: Json) -> list[Json]:
    return records(first(history, "epochs", "history")) or (records(history) if "loss" in history else [])


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
    rate = number(found.get("null_rate"))
    if rate is None and nulls is not None and rows:
        rate = nulls / rows
    dtype = str(found.get("dtype", ""))
    listed = first(found, "list", "is_list") and not dtype.startswith("list")
    return ColumnProfile(
        name=str(found.get("name", "")),
        dtype=f"list of {dtype}" if listed else dtype,
        role=str(found.get("role") or ""),
        null_rate=rate,
        distinct=number(first(found, "distinct", "n_unique", "unique")),
        minimum=first(found, "min", "minimum"),
        mean=found.get("mean"),
        maximum=first(found, "max", "maximum"),
        lengths=mapping(found.get("lengths")),
        top=_top(first(found, "top", "top_values")),
        bins=_bins(found.get("histogram")),
    )


def _top(value: Any) -> tuple[tuple[str, float], ...]:
    if isinstance(value, dict) and not any(isinstance(found, list) for found in value.values()):
        pairs: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        pairs = [(pair[0], pair[1]) for pair in value]
    else:
        pairs = [(first(row, "value", "name"), first(row, "count", "rows")) for row in records(value)]
    return tuple(
        ("null" if name is None else str(name), count) for name, raw in pairs if (count := number(raw)) is not None
    )


def _bins(value: Any) -> tuple[Bin, ...]:
    edges = first(mapping(value), "edges", "breaks")
    counts = mapping(value).get("counts")
    if isinstance(edges, list) and isinstance(counts, list):
        rows: Iterable[tuple[Any, Any, Any]] = zip(edges, edges[1:], counts, strict=False)
    else:
        rows = (
            (first(r, "low", "min", "start"), first(r, "high", "max", "end"), r.get("count")) for r in records(value)
        )
    found = [(low, high, number(count)) for low, high, count in rows]
    return tuple(Bin(low, high, count) for low, high, count in found if count is not None)


def _check(found: Json) -> Check:
    status = str(found.get("status", "")).upper()
    return Check(str(found.get("name", "")), str(found.get("column") or ""), status, str(found.get("detail") or ""))


def _epoch(index: int, found: Json) -> Epoch:
    position = number(found.get("epoch"))
    return Epoch(
        index + 1 if position is None else position,
        number(first(found, "loss", "train_loss")),
        number(first(found, "val_loss", "valid_loss")),
        number(first(found, "val_auc", "valid_auc")),
        number(found.get("seconds")),
        number(found.get("samples_per_s")),
    )


def _serving(bench: Json) -> Serving | None:
    results = tuple(_measured(found) for found in records(bench.get("results")))
    if not results:
        return None
    curves = mapping(first(bench, "cdf", "latency_cdf"))
    note = str(curves.get("note") or curves.get("says") or "")
    curves = mapping(curves.get("targets")) or curves
    shown = {
        name: points(value, ("us", "latency_us", "x", "microseconds"), ("share", "p", "y"))
        for name, value in curves.items()
    }
    shown = {name: curve for name, curve in shown.items() if curve}
    return Serving(results, shown, note, mapping(bench.get("machine")), str(bench.get("created") or ""))


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
    listed = manifest.get("files")
    if isinstance(listed, dict) and listed and all(isinstance(found, str) for found in listed.values()):
        return [ManifestFile(str(path), str(digest), None) for path, digest in listed.items()]
    return [
        ManifestFile(
            str(first(row, "path", "name") or ""), str(row.get("sha256", "")), number(first(row, "bytes", "size"))
        )
        for row in records(listed)
    ]
