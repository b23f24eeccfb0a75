"""What a model's variants change: accuracy on held-out rows, time for 1 and for 64 rows, size, time to load.

All are run in this process by ONNX Runtime, on one thread, in turn: a round of calls to each, then the next round, and
the median of all calls. So what else the machine does meets all of them.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import machine
from ensemble.graphs.accuracy import Change, change, refuse_if_over, scores, session
from ensemble.graphs.external import copy_graph
from ensemble.graphs.variants import PRECISIONS, variant
from etl.atomic import write_text
from etl.errors import ArtifactError, MewsError
from etl.progress import Progress, silent

HEADERS = ("variant", "AUC", "log loss", "score", "1 row", "64 rows", "MiB", "load", "")
"""Changes against float32, microseconds, milliseconds."""
BATCHES = (1, 64)
_ROUNDS, _CALLS, _LOADS = 20, 50, 5

Rows = Mapping[str, npt.NDArray[Any]]


def run(
    model: Path,
    rows: Rows,
    labels: npt.NDArray[Any],
    calibration: Rows,
    out: Path | None = None,
    *,
    max_auc_drop: float = 0.001,
    extra: Mapping[str, tuple[Path, Rows]] | None = None,
    rounds: int = _ROUNDS,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make every variant of the graph `model`, judge it on `rows` with `labels`, time it; return the report.

    `rows` and `calibration` are inputs of the graph, [rows, width] by name. `extra` are more graphs by name, with the
    rows as they read them. Keys: variants, refused, settings, machine, created; also written to `out`/variants.json.
    """
    with tempfile.TemporaryDirectory(prefix="mews-variants-") as folder:
        base = Path(folder, "model.onnx")
        copy_graph(model, base)
        graphs, failed = _made(base, calibration, progress)
        fed = dict.fromkeys(graphs, rows)
        for name, (path, other) in (extra or {}).items():
            graphs[name], fed[name] = path, other
        before = scores(base, rows)
        changes = {name: change(labels, before, scores(path, fed[name])) for name, path in graphs.items()}
        times = _times(graphs, fed, rounds, progress)
        found = [_row(name, path, changes[name], times[name], max_auc_drop) for name, path in graphs.items()]
    report = {
        "variants": found,
        "failed": failed,
        "settings": {"rows": len(labels), "max_auc_drop": max_auc_drop, "rounds": rounds, "calls": _CALLS},
        "machine": machine.describe(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if out is not None:
        write_text(out / "variants.json", json.dumps(report, indent=1) + "\n")
    return report


def table(report: Mapping[str, Any]) -> list[list[str]]:
    """Return one line for each variant under HEADERS."""
    return [
        [
            found["variant"],
            f"{found['auc_change']:+.1e}",
            f"{found['logloss_change']:+.1e}",
            f"{found['largest_change']:.1e}",
            *(f"{found[f'p50_us_{batch}']:.1f} µs" for batch in BATCHES),
            f"{found['bytes'] / 2**20:.2f}",
            f"{found['load_ms']:.1f} ms",
            "refused" if found["refused"] else "",
        ]
        for found in report["variants"]
    ]


def summary(report: Mapping[str, Any]) -> str:
    """Return what the changes are changes of, as one line."""
    first, settings = report["variants"][0], report["settings"]
    return (
        f"{settings['rows']:,} held-out rows, float32: AUC {first['auc']:.5f}, log loss {first['logloss']:.5f}; "
        f"refused below AUC - {settings['max_auc_drop']:g}"
    )


def _made(base: Path, calibration: Rows, progress: Progress) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the graph of each variant that can be made, and why the others cannot."""
    graphs: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for number, precision in enumerate(PRECISIONS):
        progress("make", number, len(PRECISIONS), "variants")
        try:
            graphs[precision] = variant(base, precision, calibration)
        except ArtifactError as error:
            failed[precision] = str(error)
    return graphs, failed


def _times(graphs: Mapping[str, Path], rows: Mapping[str, Rows], rounds: int, progress: Progress) -> dict[str, Any]:
    """Return medians by variant: {load_ms, p50_us_<batch>}."""
    loads = {name: [_timed(lambda path=path: session(path)) for _ in range(_LOADS)] for name, path in graphs.items()}
    opened = {name: session(path) for name, path in graphs.items()}
    calls: dict[tuple[str, int], list[float]] = {(name, batch): [] for name in graphs for batch in BATCHES}
    for number in range(rounds):
        progress("time", number, rounds, "rounds")
        for (name, batch), took in calls.items():
            start = number * batch % max(1, len(next(iter(rows[name].values()))) - batch)
            feed = {each.name: rows[name][each.name][start : start + batch] for each in opened[name].get_inputs()}
            took += [_timed(lambda name=name, feed=feed: opened[name].run(None, feed)) for _ in range(_CALLS)]
    return {
        name: {
            "load_ms": round(float(np.median(loads[name])) / 1000, 2),
            **{f"p50_us_{batch}": round(float(np.median(calls[name, batch])), 2) for batch in BATCHES},
        }
        for name in graphs
    }


def _timed(call: Any) -> float:
    """Return the microseconds of one call."""
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1000


def _row(name: str, path: Path, found: Change, times: Mapping[str, float], max_auc_drop: float) -> dict[str, Any]:
    refused = ""
    try:
        refuse_if_over(name, found, max_auc_drop)
    except MewsError as error:
        refused = str(error)
    return {
        "variant": name,
        "auc": found.after.auc,
        "auc_change": found.after.auc - found.before.auc,
        "logloss": found.after.logloss,
        "logloss_change": found.after.logloss - found.before.logloss,
        "largest_change": found.largest_change,
        **times,
        "bytes": _bytes(path),
        "refused": refused,
    }


def _bytes(path: Path) -> int:
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
