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
def bench_serving(
    session: Session,
    peers: Annotated[str, typer.Option("--peers", help="all, none, or names with commas.")] = "",
    shape: Annotated[str, typer.Option("--shape", help="demo, criteo, or both with a comma.")] = "demo",
    vocabulary: Annotated[str, typer.Option("--vocabulary", help="Of criteo: 1k, 10k, 100k, 1m.")] = "1k,100k,1m",
    concurrency: Annotated[str, typer.Option("--concurrency", help="Clients, with commas.")] = "1,4,16,64",
    batch: Annotated[str, typer.Option("--batch", help="Rows of a request, with commas.")] = "1,64,1024",
    protocols: Annotated[str, typer.Option("--protocols", help="http, grpc, or both with a comma.")] = "http",
    seconds: Annotated[float, typer.Option("--seconds", min=0.05, help="For one load of one target.")] = 0.5,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Medians of so many rounds.")] = 1,
    budget: Annotated[str, typer.Option("--budget", help="Fail beyond it: p99=5ms,throughput=5000.")] = "",
    out: _Out = _RESULTS,
) -> Any:
    """Measure the ensemble with perf_analyzer, beside an identity ensemble, stock Merlin Systems and other servers.

    Without --peers and --shape it is the run's own benchmark, with the loads of `bench` in pipeline.yaml; with them,
    the loads of the options here.
    """
    from benchmarks.budget import broken, parse

    limits = parse(budget)
    if peers or shape != "demo":
        from mews.bench_serving import measure, show

        loads = (protocols, concurrency, batch)
        report = measure(session, out, peers or "all", (shape, vocabulary), loads, (seconds, repeats), limits)
        show(session, report)
    else:
        from mews.stages.serving import bench_table

        result = session.bring("bench", again=("bench",))["bench"].result
        session.terminal.line(bench_table(result))
        report = {key: result[key] for key in ("results", "ratios", "goals", "machine")}
        report |= {"budget": {"limits": limits, "broken": broken(limits, result["results"])}} if limits else {}
    if failures := report.get("budget", {}).get("broken"):
        session.terminal.result(report)
        session.terminal.error("over the budget:" + "".join(f"\n  - {failure}" for failure in failures))
        raise typer.Exit(1)
    return report


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


@bench_app.command("training")
@command
def bench_training(
    session: Session,
    peers: Annotated[str, typer.Option("--peers", help="all, none, or names with commas.")] = "all",
    model: Annotated[str, typer.Option("--model", help="dlrm, two_tower, or all.")] = "all",
    vocabulary: Annotated[str, typer.Option("--vocabulary", help="Values of each column.")] = "10k,200k,1m",
    rows: Annotated[int, typer.Option("--rows", min=2, help="Rows of a pass.")] = 300_000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows of a step.")] = 4096,
    dim: Annotated[int, typer.Option("--dim", min=1, help="Size of every vector.")] = 16,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Most seconds that a rate is measured.")] = 10.0,
    more_rows: Annotated[bool, typer.Option(help="Measure Mews' memory with 8 times the rows too.")] = True,
    torch_python: Annotated[str, typer.Option("--torch-python", help="Python with PyTorch.")] = "",
    data: Annotated[Path | None, typer.Option("--data", help="Folder that keeps the generated rows.")] = None,
    out: _Out = _RESULTS,
) -> Any:
    """Measure training on Criteo-shaped rows, beside Merlin Models, Keras by hand and PyTorch.

    Rows a second, peak memory and the AUC of held-out rows with its interval, for each model and vocabulary.
    """
    from benchmarks.training import MODELS, run

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = run.Plan(
        run.chosen(model, MODELS, "--model"),
        run.sizes(vocabulary),
        run.engines(peers),
        rows,
        batch,
        dim,
        seconds,
        torch_python=torch_python,
        more_rows=more_rows,
    )
    with session.terminal.stage("bench") as progress:
        report = run.run(plan, out, data, progress)
    session.terminal.line(columns(run.rows(report), *run.HEADERS))
    session.terminal.line(run.goals(report))
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


@bench_app.command("swap")
@command
def bench_swap(
    session: Session,
    swaps: Annotated[int, typer.Option("--swaps", min=1, help="Versions published, each then rolled back.")] = 100,
    seconds_between: Annotated[float, typer.Option("--seconds-between", min=0, help="Pause after each change.")] = 0.3,
    seconds_before: Annotated[float, typer.Option("--seconds-before", min=1, help="Load before the first.")] = 10.0,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Requests a second over each protocol.")] = 100.0,
    out: _Out = _RESULTS,
) -> Any:
    """Swap and roll back versions under a steady load over HTTP and gRPC: failed and wrong answers, and latency."""
    from mews.swap import swap

    return swap(session, out, swaps=swaps, between=seconds_between, before=seconds_before, rate=rate)
