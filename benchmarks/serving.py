"""How fast the exported ensembles answer, beside the floor and beside what people have today.

One server holds everything that is compared: each export (fused, chained), an identity ensemble with the same inputs
(the floor) and Merlin Systems' preprocessing of the same features (stock; without the model behind it). perf_analyzer
sends real rows. One target is measured at a time, all targets in turn at each point, and all points `repeats` times, so
that what else runs on the machine meets all of them; figures are medians over the repeats.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks import goals, identity, machine, stock
from benchmarks.perf_analyzer import STABLE, BenchmarkError, Figures, Load, PerfAnalyzer, write_data
from ensemble import manifest, pbtxt
from ensemble.config import ServeConfig
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestColumn, RequestSchema
from etl.atomic import write_text
from etl.graph import FeatureGraph
from etl.progress import Progress, silent

SINGLE_ROW_STEPS = 256
BATCH_STEPS = 4
CDF_POINTS = 200


@dataclass(frozen=True)
class Point:
    """One load: what every target gets."""

    protocol: str
    concurrency: int
    batch: int


@dataclass(frozen=True)
class Target:
    """One model that is measured, and its data files by batch size; stock has no batch, rows are a dimension."""

    name: str
    model: str
    data: Mapping[int, Path]
    batched: bool = True


@dataclass(frozen=True)
class Report:
    """What `run` wrote: see `to_json` for the keys."""

    results: tuple[Mapping[str, Any], ...]
    ratios: Mapping[str, Mapping[str, float]]
    goals: Mapping[str, Mapping[str, Any]]
    cdf: Mapping[str, Mapping[str, list[float]]]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    created: str

    def to_json(self) -> dict[str, Any]:
        """Return `results` (by target and point), `ratios` by protocol, `goals`, `cdf` by target, `machine`."""
        return {**vars(self), "results": list(self.results)}


def points(protocols: Sequence[str], concurrencies: Sequence[int], batches: Sequence[int]) -> list[Point]:
    """Return every concurrency at the first batch size, and every other batch size at the first concurrency."""
    loads = [(concurrency, batches[0]) for concurrency in concurrencies]
    loads += [(concurrencies[0], batch) for batch in batches[1:]]
    return [Point(protocol, *load) for protocol in protocols for load in loads]


def run(
    exports: Sequence[Path],
    rows: Path,
    out: Path,
    *,
    graph: FeatureGraph | None = None,
    protocols: Sequence[str] = ("http", "grpc"),
    concurrencies: Sequence[int] = (1, 4, 16),
    batches: Sequence[int] = (1, 64),
    seconds: float = 0.9,
    repeats: int = 2,
    progress: Progress = silent,
) -> Report:
    """Measure the version folders `exports` (<repository>/<name>/<version>) with raw rows from the Parquet file `rows`.

    `graph`, fitted, adds stock Merlin. `seconds` is what one load of one target takes, besides a third of a second of
    perf_analyzer's own. Writes JSON to `out`, atomically. Raises BenchmarkError (exports that read different columns,
    a target that answers nothing), ArtifactError, ServerError, RequestError (rows that do not fit).
    """
    wanted = points(protocols, concurrencies, batches)
    with tempfile.TemporaryDirectory(prefix="mews-bench-") as folder:
        work = Path(folder)
        targets = prepare(exports, rows, work, sorted(set(batches)), graph)
        analyzer = PerfAnalyzer.find(work / "perf_analyzer")
        names = [target.model for target in targets]
        with TritonServer(
            work / "models", ServeConfig(start_timeout_seconds=180), names, environment=stock.ENVIRONMENT
        ) as server:
            runs, latencies = _measure_all(server, analyzer, targets, wanted, seconds, repeats, progress)
    results = tuple(_result(target, point, runs[target.name, point]) for point in wanted for target in targets)
    report = Report(
        results=results,
        ratios=(found := ratios(results)),
        goals=goals.judge(found.get(protocols[0], {})),
        cdf={name: cdf(values) for name, values in latencies.items()},
        machine=machine.describe(),
        settings={"seconds": seconds, "repeats": repeats, "stable_within": STABLE, "rows": str(rows)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_text(out, json.dumps(report.to_json(), indent=1) + "\n")
    return report


def prepare(
    exports: Sequence[Path], rows: Path, work: Path, batches: Sequence[int], graph: FeatureGraph | None
) -> list[Target]:
    """Fill `work`/models with everything to compare and `work` with the data to send; returns the targets in order."""
    repository = work / "models"
    repository.mkdir()
    manifests = [manifest.load(folder) for folder in exports]
    request = manifests[0].request
    if any(other.request != request for other in manifests):
        raise BenchmarkError("the exports read different columns", hint="Compare exports of one feature graph.")
    steps = max(SINGLE_ROW_STEPS, BATCH_STEPS * max(batches))
    frame = _sample(rows, request, steps, ascii_only=graph is not None)
    data = _ensemble_data(frame, request, work, batches)
    targets = []
    for folder, found in zip(exports, manifests, strict=True):
        name = "fused" if found.fused else "chained"
        targets.append(Target(name, _add_export(repository, folder, found, name), data))
    limit = pbtxt.parse((repository / targets[0].model / "config.pbtxt").read_text(encoding="utf-8")).max_batch_size
    targets.append(Target("identity", identity.write(repository, "identity", request.tensors, limit), data))
    if graph is not None:
        targets.append(_stock(graph, frame, request, repository, work, batches))
    return targets


def _sample(rows: Path, request: RequestSchema, count: int, *, ascii_only: bool) -> pl.DataFrame:
    """Return `count` rows evenly from the file, repeated if it has fewer.

    Stock Merlin Systems fails on strings that are not ASCII; `ascii_only` leaves such rows out, for every target.
    """
    frame = pl.read_parquet(rows, columns=list(request.names), hive_partitioning=False)
    if ascii_only:
        frame = frame.filter(_is_ascii(column) for column in request.columns if column.dtype == "string")
    if frame.is_empty():
        raise BenchmarkError(
            f"{rows} has no rows to send", expected="raw rows, in ASCII if stock Merlin is measured too"
        )
    places = np.linspace(0, frame.height - 1, min(count, frame.height)).astype(int)
    chosen = frame[places]
    return pl.concat([chosen] * -(-count // chosen.height)).head(count)


def _is_ascii(column: RequestColumn) -> pl.Expr:
    text = pl.col(column.name).list.join("", ignore_nulls=True) if column.is_list else pl.col(column.name)
    return (text.str.len_bytes() == text.str.len_chars()).fill_null(True)


def _ensemble_data(frame: pl.DataFrame, request: RequestSchema, work: Path, batches: Sequence[int]) -> dict[int, Path]:
    """Write single rows, each padded for itself as a client would, and rows padded alike for batches."""
    single, together = work / "rows.json", work / "batches.json"
    singles = [encode(frame[place : place + 1], request) for place in range(min(SINGLE_ROW_STEPS, frame.height))]
    write_data(single, singles, batched=True)
    tensors = encode(frame, request)
    write_data(
        together,
        [{name: tensor[place : place + 1] for name, tensor in tensors.items()} for place in range(frame.height)],
        batched=True,
    )
    return {batch: single if batch == 1 else together for batch in batches}


def _add_export(repository: Path, version: Path, found: manifest.Manifest, name: str) -> str:
    """Link the composing models of a version and add its ensemble as `name`; returns `name`."""
    source = version.parent.parent.resolve()
    for model in found.models:
        (repository / model).symlink_to(source / model)
    archived = source / found.name / "configs" / f"{found.version}.pbtxt"
    spec = replace(pbtxt.parse(archived.read_text(encoding="utf-8")), name=name, versions=())
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(pbtxt.render(spec), encoding="utf-8")
    return name


def _stock(
    graph: FeatureGraph,
    frame: pl.DataFrame,
    request: RequestSchema,
    repository: Path,
    work: Path,
    batches: Sequence[int],
) -> Target:
    unused = [column.name for column in graph.inputs if column.name not in request.names]
    model = stock.write(graph.remove_inputs(unused) if unused else graph, work, repository)
    inputs = stock.inputs(repository)
    data = {}
    for batch in batches:
        data[batch] = work / f"stock-{batch}.json"
        starts = range(0, frame.height - batch + 1, batch)
        requests = [
            stock.encode(frame[start : start + batch], inputs) for start in itertools.islice(starts, SINGLE_ROW_STEPS)
        ]
        write_data(data[batch], requests, batched=False)
    return Target("stock", model, data, batched=False)


def _measure_all(
    server: TritonServer,
    analyzer: PerfAnalyzer,
    targets: Sequence[Target],
    wanted: Sequence[Point],
    seconds: float,
    repeats: int,
    progress: Progress,
) -> tuple[dict[tuple[str, Point], list[tuple[Figures, int]]], dict[str, npt.NDArray[np.float64]]]:
    runs: dict[tuple[str, Point], list[tuple[Figures, int]]] = {}
    latencies: dict[str, npt.NDArray[np.float64]] = {}
    turns = list(itertools.product(range(repeats), wanted, targets))
    for done, (repeat, point, target) in enumerate(turns):
        progress(f"{target.name} {point.protocol} x{point.concurrency} batch {point.batch}", done, len(turns), "loads")
        keep = repeat == repeats - 1 and point == wanted[0]
        figures, errors = _measure(server, analyzer, target, point, seconds, keep)
        runs.setdefault((target.name, point), []).append((figures, errors))
        if figures.latencies_us is not None:
            latencies[target.name] = figures.latencies_us
    progress("done", len(turns), len(turns), "loads")
    return runs, latencies


def _measure(
    server: TritonServer, analyzer: PerfAnalyzer, target: Target, point: Point, seconds: float, keep: bool
) -> tuple[Figures, int]:
    url = server.http_url if point.protocol == "http" else server.grpc_url
    load = Load(target.model, point.protocol, point.concurrency, point.batch if target.batched else 1)
    failed = _failed(server.http_url, target.model)
    figures = analyzer.measure(url, load, target.data[point.batch], seconds, latencies=keep)
    return figures, _failed(server.http_url, target.model) - failed


def _failed(url: str, model: str) -> int:
    """How many requests Triton has counted as failed."""
    with urllib.request.urlopen(f"http://{url}/v2/models/{model}/stats", timeout=10) as answer:
        statistics_of = json.load(answer)["model_stats"]
    return sum(int(version["inference_stats"]["fail"]["count"]) for version in statistics_of)


def _result(target: Target, point: Point, runs: Sequence[tuple[Figures, int]]) -> dict[str, Any]:
    figures = [figure for figure, _ in runs]
    requests = statistics.median(figure.requests_per_s for figure in figures)
    return {
        "target": target.name,
        "protocol": point.protocol,
        "concurrency": point.concurrency,
        "batch": point.batch,
        "p50_us": statistics.median(figure.p50_us for figure in figures),
        "p90_us": statistics.median(figure.p90_us for figure in figures),
        "p99_us": statistics.median(figure.p99_us for figure in figures),
        "rows_per_s": round(requests * point.batch, 1),
        "requests_per_s": round(requests, 1),
        "errors": sum(errors for _, errors in runs),
        "stable": all(figure.stable for figure in figures),
    }


def ratios(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, by protocol, the quotients that goals.py names, and the same for chained; absent targets are left out.

    Latencies are those of one row from one client, throughputs those of one row at the most clients.
    """
    found: dict[str, dict[str, float]] = {}
    for protocol in dict.fromkeys(result["protocol"] for result in results):
        single = [result for result in results if result["protocol"] == protocol and result["batch"] == 1]
        if not single:
            continue
        most, least = (pick(result["concurrency"] for result in single) for pick in (max, min))
        p50 = {result["target"]: result["p50_us"] for result in single if result["concurrency"] == least}
        speed = {result["target"]: result["requests_per_s"] for result in single if result["concurrency"] == most}
        quotients = {}
        for target in ("fused", "chained"):
            quotients[f"{target}_p50_over_identity"] = _quotient(p50.get(target), p50.get("identity"))
            quotients[f"stock_p50_over_{target}"] = _quotient(p50.get("stock"), p50.get(target))
            quotients[f"{target}_throughput_over_stock"] = _quotient(speed.get(target), speed.get("stock"))
        found[protocol] = {name: round(value, 3) for name, value in quotients.items() if value is not None}
    return found


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def cdf(latencies: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    """Return the distribution of latencies for a plot: `share` of the requests that took at most `us`."""
    share = np.linspace(0, 1, CDF_POINTS + 1)
    return {
        "share": [round(float(one), 4) for one in share],
        "us": [round(float(one), 1) for one in np.quantile(latencies, share)],
    }


def throughput_curve(results: Sequence[Mapping[str, Any]], protocol: str) -> dict[str, dict[str, list[float]]]:
    """Return rows/s and p50 (µs) over the clients, by target, for single rows over `protocol`."""
    curves: dict[str, dict[str, list[float]]] = {}
    for result in sorted(results, key=lambda result: int(result["concurrency"])):
        if result["protocol"] == protocol and result["batch"] == 1:
            curve = curves.setdefault(result["target"], {"concurrency": [], "rows_per_s": [], "p50_us": []})
            for key, values in curve.items():
                values.append(result[key])
    return curves
