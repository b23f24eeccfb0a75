"""`mews bench`: measure."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import bench_app
from mews.session import Session, columns, command

_Out = Annotated[Path, typer.Option("--out", help="Folder of the results.")]
_RESULTS = Path("runs/bench")


@bench_app.command("serving")
@command
def bench_serving(session: Session) -> Any:
    """Measure the ensemble with perf_analyzer, beside an identity ensemble and stock Merlin Systems."""
    from mews.stages.serving import bench_table

    result = session.bring("bench", again=("bench",))["bench"].result
    session.terminal.line(bench_table(result))
    return {key: result[key] for key in ("results", "ratios", "goals", "machine")}


@bench_app.command("etl")
@command
def bench_etl(
    session: Session,
    rows: Annotated[int, typer.Option("--rows", min=2, help="Rows of the generated data.")] = 4_000_000,
    peers: Annotated[str, typer.Option("--peers", help="all, or names with commas.")] = "all",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs of each engine; medians are told.")] = 1,
    freq_threshold: Annotated[int, typer.Option("--freq-threshold", min=0, help="Rarer values are unknown.")] = 0,
    data: Annotated[Path | None, typer.Option("--data", help="Folder that keeps the generated rows.")] = None,
    out: _Out = _RESULTS,
) -> Any:
    """Measure batch features of Criteo-shaped data, beside NVTabular, Polars by hand, pandas, DuckDB and PySpark.

    Each output is compared, cell by cell, with that of Mews. `equal` is true if all agree, false if one does not, and
    null if there was nothing to compare, as with --peers mews.
    """
    from benchmarks import etl
    from mews.report import engines

    # As an exit, so that the engine that runs is ended and its files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with session.terminal.stage("bench") as progress:
        report = etl.run(
            rows, out, peers=peers, repeats=repeats, freq_threshold=freq_threshold, data=data, progress=progress
        )
    table, plot = engines.write(report, out)
    session.terminal.line(columns(engines.rows(report), *engines.HEADERS))
    session.terminal.line(f"{engines.agreement(report)}; {table}, {plot}")
    return report


@bench_app.command("features")
@command
def bench_features(session: Session, out: _Out = _RESULTS) -> Any:
    """Measure the ONNX preprocessing of one row, 26 + 13 columns, for vocabularies of 10 thousand to 10 million."""
    from benchmarks import features

    with session.terminal.stage("bench") as progress:
        report = features.run(out, progress=progress)
    session.terminal.line(columns(features.rows(report), *features.HEADERS))
    return report
