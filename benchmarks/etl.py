"""How fast the same features are made by Mews, NVTabular and other engines: seconds, rows/s and peak memory of each.

Each engine is a script of benchmarks/peers in a process of its own, one after the other, all of them in turn for each
repeat; figures are medians. What is compared first: in the first round each output is checked, cell by cell, against
the first engine's. The data are read once before, so all find them in the system's cache. Starting (imports, the JVM)
is told but not counted. Memory is the largest sum of the RSS of the process and its children, looked at every 50 ms, or
the process' own peak if that is larger; mapped files count.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks import criteo, machine, watched
from benchmarks.goals import Goal, judge
from benchmarks.outputs import Difference, compare
from benchmarks.peers import ENGINES
from benchmarks.watched import Limits
from etl.atomic import write_text
from etl.errors import ConfigError, MewsError
from etl.progress import Progress, silent
from etl.versions import installed

ROOT = Path(__file__).resolve().parents[1]
NEEDS = {"nvtabular": "nvtabular", "pandas": "pandas", "duckdb": "duckdb", "spark": "pyspark"}
"""The package that an engine needs; Mews and Polars are always there."""
BASE_ROWS = 4_000_000
LARGE_ROWS = 40_000_000
_FIGURES = ("fit_seconds", "transform_seconds", "seconds", "startup_seconds", "peak_rss_mb", "output_mb")

GOALS: dict[str, Goal] = {
    "nvtabular_seconds_over_mews": Goal(5.0),
    "mews_seconds_over_polars": Goal(1.15, at_most=True),
    "duckdb_seconds_over_mews": Goal(1.0),
    "spark_seconds_over_mews": Goal(1.0),
    "mews_peak_rss_gib": Goal(6.0, at_most=True),
    "mews_seconds_per_row_over_4m": Goal(1.15, at_most=True),
}
"""The last two are judged from LARGE_ROWS on; the last needs a report of BASE_ROWS of the same folder."""


@dataclass
class Runs:
    """What happened to one engine: figures of each run, how its output compares, and why it did not finish, if so."""

    figures: list[dict[str, float]] = field(default_factory=list)
    difference: Difference | None = None
    failed: str = ""

    def to_json(self, rows: int) -> dict[str, Any]:
        """Return medians and rows/s, or `failed` and the memory that was reached."""
        peak = max((run["peak_rss_mb"] for run in self.figures), default=None)
        if self.failed:
            return {"failed": self.failed} | ({} if peak is None else {"peak_rss_mb": peak})
        found: dict[str, Any] = {key: round(statistics.median(run[key] for run in self.figures), 3) for key in _FIGURES}
        found |= {"rows_per_s": round(rows / found["seconds"], 1), "runs": [run["seconds"] for run in self.figures]}
        return found | ({"difference": self.difference.to_json()} if self.difference else {})


def engines(wanted: str) -> list[str]:
    """Return the engines of `wanted`: "all", or names with commas; Mews is always one. ConfigError for others."""
    names = ENGINES if wanted == "all" else tuple(name.strip() for name in wanted.split(",") if name.strip())
    if unknown := [name for name in names if name not in ENGINES]:
        raise ConfigError("peers", expected=f"all, or some of {', '.join(ENGINES)}", received=", ".join(unknown))
    return [name for name in ENGINES if name == "mews" or name in names]


def missing(engine: str) -> str:
    """Say why an engine cannot run here; nothing if it can."""
    package = NEEDS.get(engine)
    if package and importlib.util.find_spec(package) is None:
        return f"{package} is not installed (make peers)"
    if engine == "spark" and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        return "Java is not installed (17 or 11)"
    return ""


def run(
    rows: int,
    out: Path,
    *,
    peers: str = "all",
    repeats: int = 1,
    freq_threshold: int = 0,
    data: Path | None = None,
    work: Path | None = None,
    seed: int = 0,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure `peers` on `rows` rows and return the report, also written to `out`/etl-<rows>.json.

    `data` keeps the rows for another run, `work` is where engines write (both temporary by default). Keys: rows, equal
    (every output agrees with that of Mews; None if there is no other), engines, ratios, goals, machine, settings,
    created. An engine that is not installed, is stopped at a limit or fails has `failed` in place of its figures.
    MewsError if Mews itself fails.
    """
    if rows < 2 or repeats < 1:
        raise ConfigError("bench etl", expected="at least 2 rows and 1 repeat", received=f"{rows} and {repeats}")
    names = engines(peers)
    limits = limits or Limits(int(psutil.virtual_memory().total * 0.85) // 2**20)
    with tempfile.TemporaryDirectory(prefix="mews-etl-", dir=work) as temporary:
        folder = Path(temporary)
        made = criteo.generate((data or folder) / f"criteo-{rows}-{seed}", rows, seed, progress)
        _warm(made.files)
        measured = _rounds(names, made, folder, repeats, freq_threshold, limits, progress)
    if measured["mews"].failed:
        raise MewsError("bench etl", expected="features from Mews", received=measured["mews"].failed)
    report = _report(rows, measured, out) | {
        "settings": {"repeats": repeats, "freq_threshold": freq_threshold, "seed": seed, "memory_mb": limits.memory_mb},
    }
    write_text(out / f"etl-{rows}.json", json.dumps(report, indent=1) + "\n")
    return report


def _report(rows: int, measured: Mapping[str, Runs], out: Path) -> dict[str, Any]:
    found = {name: runs.to_json(rows) for name, runs in measured.items()}
    compared = [runs.difference for runs in measured.values() if runs.difference]
    quotients = ratios(found, rows, out)
    return {
        "rows": rows,
        "equal": all(difference.equal for difference in compared) if compared else None,
        "engines": found,
        "ratios": quotients,
        "goals": judge(quotients, GOALS),
        "machine": machine.describe() | {"peers": installed(("polars", "pandas", "pyarrow", "duckdb", "pyspark"))},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _warm(files: Sequence[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            while file.read(2**24):
                pass


def _rounds(
    names: Sequence[str],
    data: criteo.Data,
    folder: Path,
    repeats: int,
    freq_threshold: int,
    limits: Limits,
    progress: Progress,
) -> dict[str, Runs]:
    """Run every engine in turn, `repeats` times; compare what they wrote the first time with what Mews wrote."""
    measured = {name: Runs(failed=missing(name)) for name in names}
    reference = folder / "mews-0"
    for repeat in range(repeats):
        for number, name in enumerate(names):
            progress(name, repeat * len(names) + number, repeats * len(names), "engines")
            runs, written = measured[name], folder / f"{name}-{repeat}"
            if runs.failed:
                continue
            _measure(name, data, written, freq_threshold, limits, runs)
            if repeat == 0 and not runs.failed and written != reference:
                runs.difference = compare(
                    reference / "features", written / "features", data.rows, ties=name == "nvtabular"
                )
            if written != reference:
                shutil.rmtree(written, ignore_errors=True)
        shutil.rmtree(reference, ignore_errors=True)
    progress("done", repeats * len(names), repeats * len(names), "engines")
    return measured


def _measure(name: str, data: criteo.Data, out: Path, freq_threshold: int, limits: Limits, runs: Runs) -> None:
    """Run one engine once; its figures, or why there are none, go to `runs`."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.peers.{name}", "--json"]
    command += ["--data", str(data.files[0].parent), "--out", str(out), "--freq-threshold", str(freq_threshold)]
    log = out.with_suffix(".log")
    ended = watched.run(command, log, limits, ROOT)
    if ended.failed:
        runs.failed = ended.failed
        runs.figures.append({"peak_rss_mb": round(ended.peak_rss_mb, 1)})
        return
    figures, peak = json.loads(ended.output.strip().splitlines()[-1]), ended.peak_rss_mb
    size = sum(path.stat().st_size for path in (out / "features").rglob("*.parquet"))
    figures |= {"peak_rss_mb": round(max(peak, figures["own_peak_rss_mb"]), 1), "output_mb": round(size / 2**20, 1)}
    runs.figures.append(figures)


def ratios(found: Mapping[str, Mapping[str, Any]], rows: int, out: Path) -> dict[str, float]:
    """Return the quotients that GOALS names, and <engine>_seconds_over_mews for all; absent engines are left out."""
    seconds = {name: float(figures["seconds"]) for name, figures in found.items() if "seconds" in figures}
    mews = seconds["mews"]
    quotients = {f"{name}_seconds_over_mews": value / mews for name, value in seconds.items() if name != "mews"}
    if "polars" in seconds:
        quotients["mews_seconds_over_polars"] = mews / seconds["polars"]
    if rows >= LARGE_ROWS:
        quotients["mews_peak_rss_gib"] = found["mews"]["peak_rss_mb"] / 1024
        base = out / f"etl-{BASE_ROWS}.json"
        if base.exists():
            before = json.loads(base.read_text(encoding="utf-8"))["engines"]["mews"]["seconds"]
            quotients["mews_seconds_per_row_over_4m"] = (mews / rows) / (before / BASE_ROWS)
    return {name: round(value, 3) for name, value in quotients.items()}
