"""`mews tune-serving`: search the settings of the run's export, show them, write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.atomic import write_text
from etl.errors import ConfigError
from mews.session import Session, columns

if TYPE_CHECKING:
    from benchmarks.candidates import Traffic
    from benchmarks.tune import Result
    from ensemble.config import ExportConfig

_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}
_LATENCY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s)")
_HEADERS = ("trial", "delay us", "batch", "count", "threads", "device", "rows/s", "p50 ms", "p99 ms", "limit")


def limit_us(text: str) -> int:
    """Read a latency such as 5ms, 800us or 0.01s as microseconds; ConfigError without a unit, or for less than 1 us."""
    found = _LATENCY.fullmatch(text.strip())
    microseconds = round(float(found["number"]) * _UNITS[found["unit"]]) if found else 0
    if microseconds < 1:
        raise ConfigError(
            "--latency-p99", expected="a time with its unit, such as 5ms, 800us or 0.01s", received=repr(text)
        )
    return microseconds


def tune(
    session: Session,
    latency: str,
    *,
    traffic: Traffic,
    trials: int,
    apply: bool,
) -> dict[str, Any]:
    """Search, compare, write <run>/tuned.yaml if the limit was met; with `apply`, export with what was found."""
    from benchmarks import tune as benchmark
    from benchmarks.search import Goal
    from mews.stages.features import part_files

    goal = Goal(limit_us(latency), trials)
    exported = session.bring("export")["export"].result
    run, config = session.run, session.config
    storage = run.folder / "bench" / "tune.sqlite"
    storage.parent.mkdir(exist_ok=True)
    with run.locked(), session.terminal.stage("tune") as progress:
        result = benchmark.run(
            run.repository / exported["name"] / str(exported["version"]),
            part_files(run, "test")[0],
            config.export,
            goal,
            storage,
            traffic=traffic,
            progress=progress,
        )
    _show(session, result)
    answer = result.to_json() | {"tuned": None, "applied_version": None}
    if result.met:
        answer["tuned"] = str(_write(session, result))
        if apply and result.best != result.baseline:
            answer["applied_version"] = _apply(session, result)
    return answer


def _show(session: Session, result: Result) -> None:
    limit = result.goal.limit_us
    rows = [_row(str(trial["trial"]), trial) for trial in (trial.to_json(limit) for trial in result.trials)]
    found = result.to_json()
    for title, name in (("now", "baseline"), ("best", "best")):
        rows.append(_row(title, found[name] | {"within_limit": found[name]["p99_us"] <= limit}))
    line = session.terminal.line
    line(columns(rows, *_HEADERS))
    line("now and best: medians, measured again in turn; count: instances of each model.")
    if not result.met:
        nearest = found["best"]["p99_us"] / 1000
        line(f"No settings kept p99 within {limit / 1000:g} ms; the nearest had {nearest:.2f} ms.")
    elif result.best == result.baseline:
        line("Nothing within the limit was faster than what is configured.")
    else:
        line(f"The best answers {result.speedup:.2f} x the rows/s of what is configured.")


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    chosen = found["settings"]
    measured = (
        [f"{found['rows_per_s']:,.0f}", *(f"{found[key] / 1000:.2f}" for key in ("p50_us", "p99_us"))]
        if "p99_us" in found
        else ["-"] * 3
    )
    return [
        name,
        str(chosen["max_queue_delay_microseconds"]),
        " ".join(map(str, chosen["preferred_batch_sizes"])) or "-",
        str(chosen["instances"]),
        str(chosen["threads"]),
        chosen["device"],
        *measured,
        "failed" if "failure" in found else "kept" if found["within_limit"] else "missed",
    ]


def _tuned(session: Session, result: Result) -> ExportConfig:
    return result.best.applied(session.config.export)


def _write(session: Session, result: Result) -> Path:
    """Write the whole configuration with the tuned `export`, so that `--config` takes it."""
    from mews.config import dump

    best = result.to_json()["best"]
    said = (
        f"# export: {best['rows_per_s']:,.0f} rows/s at p99 {best['p99_us'] / 1000:.2f} ms, "
        f"limit {result.goal.limit_us / 1000:g} ms; {result.speedup:.2f} x what was configured before.\n"
    )
    path = session.run.folder / "tuned.yaml"
    tuned = session.config.model_copy(update={"export": _tuned(session, result)})
    write_text(path, said + dump(tuned))
    session.terminal.line(f"{path}: `mews export --config {path} --run {session.run.folder}` exports with it.")
    return path


def _apply(session: Session, result: Result) -> int:
    """Export the next version with what was found, which the run's own configuration then says; returns its number."""
    session.config = session.config.model_copy(update={"export": _tuned(session, result)})
    version: int = session.bring("export")["export"].result["version"]
    return version
