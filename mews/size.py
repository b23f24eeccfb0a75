"""`mews size`: how many replicas a load needs, and what a million predictions cost, from a measurement.

    served    = the most requests/s at which a server was measured with a p99 within the limit
    replicas  = max(2, ceil(requests/s / (served * utilisation)) + spare)
    cost      = replicas * price per hour / (requests/s * rows per request * 3600) * 1,000,000

Nothing is scaled: a replica is a server as it was measured, with as many cores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etl.errors import ConfigError
from mews.session import Session, columns

PUBLISHED = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "serving-peers-2-cores.json"
_LEAST = 2  # one alone is away while it is updated


@dataclass(frozen=True)
class Load:
    """What is asked for: requests/s, rows in each, the limit of the p99 (milliseconds)."""

    requests: float
    rows: int
    p99_ms: float


@dataclass(frozen=True)
class Terms:
    """How full a replica may be (0 to 1), how many may be lost, and what one costs an hour, in any currency."""

    utilisation: float
    spare: int
    price: float | None


@dataclass(frozen=True)
class Point:
    """One measured point of a server: at so many clients, so many requests/s and this p99."""

    batch: int
    concurrency: int
    requests_per_s: float
    p99_us: float
    cpu_s_per_1000_rows: float
    stable: bool


@dataclass(frozen=True)
class Size:
    """The answer: `cpu_cores` is what the server's own CPU time asks for, a check of `replicas`."""

    replicas: int
    served_per_replica: float
    planned_per_replica: float
    p99_ms: float
    measured_rows: int
    clients: int
    stable: bool
    cores_per_replica: int
    cpu_cores: float
    cost_per_million: float | None


def size(session: Session, load: Load, terms: Terms, file: Path | None, which: tuple[str, str]) -> dict[str, Any]:
    """Print and return what a load needs; `which` are the shape of the data and the target, as in the benchmark.

    ConfigError for a load that no measured point serves within the limit, and for a file that is no measurement.
    """
    measured = file or PUBLISHED
    points, cores = read(measured, *which)
    found = answer(load, terms, points, cores)
    session.terminal.line(_table(load, terms, found))
    if not found.stable:
        session.terminal.warn("that point was not stable when it was measured: measure your own (`mews bench serving`)")
    return asdict(found) | {"measured": str(measured), "shape": which[0], "target": which[1]}


def read(file: Path, shape: str, target: str) -> tuple[list[Point], int]:
    """Return the points of one target over HTTP and the cores of the machine, from the JSON of `mews bench serving`."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        results = [each for each in said["results"] if each["protocol"] == "http" and not each["errors"]]
        names = {(each.get("shape", shape), each["target"]) for each in results}
        chosen = [each for each in results if (each.get("shape", shape), each["target"]) == (shape, target)]
        points = [Point(**{key: each[key] for key in Point.__annotations__}) for each in chosen]
        cores = int(said["machine"]["cores"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"measurement {file}",
            expected="the serving.json of `mews bench serving`",
            received=f"{type(error).__name__}: {error}",
            hint="Measure with `mews bench serving` and name its file with --measured.",
        ) from error
    if not points:
        known = ", ".join(sorted(f"{one} {other}" for one, other in names))
        raise ConfigError(f"no measurement of {shape} {target} in {file}", expected=f"one of: {known}")
    return points, cores


def answer(load: Load, terms: Terms, points: Sequence[Point], cores: int) -> Size:
    """Return the size for a load; a request is taken as large as the next larger one that was measured."""
    batch = min((point.batch for point in points if point.batch >= load.rows), default=None)
    if batch is None:
        largest = max(point.batch for point in points)
        raise ConfigError(
            "--rows", expected=f"at most {largest}, the largest measured request", received=str(load.rows)
        )
    same = [point for point in points if point.batch == batch]
    fast = [point for point in same if point.p99_us <= load.p99_ms * 1000]
    if not fast:
        best = min(point.p99_us for point in same) / 1000
        raise ConfigError(
            f"no measured server answers {batch} rows within {load.p99_ms:g} ms at the 99th percentile",
            expected=f"--p99-ms {best:.3g} or more",
            hint="Send smaller requests, choose another target, or measure on faster cores (--measured).",
        )
    point = max(fast, key=lambda each: each.requests_per_s)
    planned = point.requests_per_s * terms.utilisation
    replicas = max(_LEAST, math.ceil(load.requests / planned) + terms.spare)
    rows_per_s = load.requests * load.rows
    return Size(
        replicas=replicas,
        served_per_replica=point.requests_per_s,
        planned_per_replica=round(planned, 1),
        p99_ms=point.p99_us / 1000,
        measured_rows=batch,
        clients=point.concurrency,
        stable=point.stable,
        cores_per_replica=cores,
        cpu_cores=round(load.requests * batch * point.cpu_s_per_1000_rows / 1000 / terms.utilisation, 2),
        cost_per_million=None if terms.price is None else replicas * terms.price / (rows_per_s * 3600) * 1e6,
    )


def _table(load: Load, terms: Terms, found: Size) -> Any:
    basis = f"{terms.utilisation:.0%} of the measured {found.served_per_replica:,.0f}"
    at = f"at {found.clients} clients, {found.measured_rows} rows"
    rows = [
        ["replicas", f"{found.replicas}", f"of {found.cores_per_replica} cores, {terms.spare} of them spare"],
        ["requests/s of each", f"{found.planned_per_replica:,.0f}", f"{basis} {at}"],
        ["p99", f"{found.p99_ms:.2f} ms", f"measured; the limit is {load.p99_ms:g} ms"],
        ["cores at work", f"{found.cpu_cores:g}", "by the server's CPU time at the same utilisation"],
    ]
    if found.cost_per_million is not None:
        price = f"at {terms.price:g} per replica and hour"
        rows.append(["a million predictions", f"{found.cost_per_million:.4g}", price])
    return columns(rows, "", "", "")
