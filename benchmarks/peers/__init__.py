"""One engine, one script: each runs alone as `python -m benchmarks.peers.<engine> --data DIR --out DIR --json`.

Every script does the same work, as NVTabular's Criteo example has it, in the way its engine is best used:
    C1 .. C26    Categorify: int64 codes; 1 null, 2 unknown or rarer than --freq-threshold, then 3, 4, .. by falling
                 count in the data, ties by rising value (NVTabular leaves the order of ties open)
    I1 .. I13    FillMissing(0), Clip(min 0), LogOp, Normalize by mean and sample standard deviation; float32
    row          as it is
Fit reads all rows and keeps the statistics; transform reads them again and writes Parquet, compressed with Snappy (the
default of NVTabular, pandas, DuckDB and Spark). A script has `start()`, which imports and sets up what is not counted,
and returns the two functions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENGINES = ("mews", "nvtabular", "polars", "pandas", "duckdb", "spark")
NULL, UNKNOWN, FIRST = 1, 2, 3
"""Codes: of a null, of an unknown value, of the most frequent one."""


@dataclass(frozen=True)
class Job:
    """What an engine is given: Parquet files in row order, an empty folder for its output, and the threshold."""

    files: tuple[str, ...]
    out: Path
    freq_threshold: int


@dataclass(frozen=True)
class Engine:
    """`fit` returns statistics, `transform` writes Parquet to `job.out` with them, `stop` ends what was started."""

    fit: Callable[[Job], Any]
    transform: Callable[[Job, Any], None]
    stop: Callable[[], None] = lambda: None


def main(start: Callable[[Path], Engine], arguments: Sequence[str] | None = None) -> int:
    """Run one engine on the command line's folders and print its seconds; `start` gets a folder for temporary files."""
    options = _parser().parse_args(arguments)
    files = tuple(str(path) for path in sorted(options.data.glob("*.parquet")))
    if not files:
        sys.exit(f"{options.data}: no Parquet files there")
    features, scratch = options.out / "features", options.out / "scratch"
    features.mkdir(parents=True)
    scratch.mkdir()
    job = Job(files, features, options.freq_threshold)
    engine = start(scratch)
    began = time.perf_counter()
    statistics = engine.fit(job)
    fitted = time.perf_counter()
    engine.transform(job, statistics)
    ended = time.perf_counter()
    found = {"fit_seconds": fitted - began, "transform_seconds": ended - fitted, "seconds": ended - began}
    found |= {"startup_seconds": _age() - (time.perf_counter() - began), "own_peak_rss_mb": _peak_mb()}
    engine.stop()
    found = {key: round(value, 3) for key, value in found.items()}
    print(json.dumps(found) if options.json else "\n".join(f"{key:<18}{value:>10}" for key, value in found.items()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Fit and transform Criteo-shaped data with one engine.")
    parser.add_argument("--data", type=Path, required=True, help="Folder of Parquet files (benchmarks/criteo.py).")
    parser.add_argument("--out", type=Path, required=True, help="New folder: features/ is what was written.")
    parser.add_argument("--freq-threshold", type=int, default=0, help="Values that are rarer become unknown.")
    parser.add_argument("--json", action="store_true", help="One JSON object as the last line.")
    return parser


def _age() -> float:
    """Seconds since this process began."""
    started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def _peak_mb() -> float:
    """The most memory (RSS, MiB) that this process has had; not getrusage's, which remembers the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
