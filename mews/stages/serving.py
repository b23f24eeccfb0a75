"""The serving stages: export, query, bench."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from ensemble.config import ServeConfig
from etl.atomic import atomic_folder, write_text
from etl.errors import MewsError, ServerError
from etl.graph import FeatureGraph
from mews.pipeline import Context
from mews.run import Run
from mews.session import columns
from mews.stages import lists
from mews.stages.features import part_files, training_columns
from mews.stages.model import headline
from mews.stages.variants import allowed, in_precision

Protocol = Literal["http", "grpc"]
EXAMPLE_ROWS = 5
RECORDED_ROWS = 32
TOLERANCE = 1e-5
"""Largest allowed difference between a served and an offline score."""


def export(context: Context) -> dict[str, Any]:
    """Compile the features and the model to ONNX and write the next version of the ensemble."""
    from ensemble.export.export import export as run_export
    from ensemble.graphs.vocabularies import save_features
    from ensemble.spec import RequestSchema
    from etl.compiler import to_onnx as features_to_onnx
    from mews.card import gather
    from training.card import render
    from training.export.onnx import to_onnx as model_to_onnx

    run, config = context.run, context.config
    graph = serving_graph(run)
    with atomic_folder(run.onnx) as folder:
        features = features_to_onnx(graph, FeatureGraph.load(run.graph), config.export.forms)
        save_features(features, folder / "workflow.onnx", config.export.vocabularies)
        model_to_onnx(run.model, folder / "model.onnx")
        if lists.learns_lists(config):
            lists.check_precision(config)
            lists.name_items(folder / "model.onnx", run)
        else:
            in_precision(folder / "model.onnx", context)
    rows = held_out(run, graph).head(max(RECORDED_ROWS, config.export.warmup_rows)).collect()
    with atomic_folder(run.examples) as folder:
        rows.head(EXAMPLE_ROWS).write_json(folder / "rows.json")
    metrics = headline(json.loads((run.evaluation / "metrics.json").read_text(encoding="utf-8")))
    done = run_export(
        run.onnx / "workflow.onnx",
        run.onnx / "model.onnx",
        run.repository,
        config.export,
        RequestSchema.from_columns(graph.inputs, config.export.forms),
        metrics,
        rows,
        stable=config.export.stable,
        card=render(gather(run, config)),
    )
    says = f"{done.name} version {done.version}, {config.export.shape}: {', '.join(done.models)}"
    return {
        "name": done.name,
        "version": done.version,
        "models": list(done.models),
        "shape": config.export.shape,
        "says": says,
    }


def query(context: Context) -> dict[str, Any]:
    """Send every held-out row through HTTP and gRPC, and compare with the offline scores."""
    from ensemble.client.client import Client

    run, config = context.run, context.config
    rows, ask = held_out(run, serving_graph(run)).collect(), _differences(context)
    found: dict[str, Any] = {"rows": rows.height}
    with server(run, config.serve, config.export.name) as urls:
        for number, (protocol, url) in enumerate(urls.items()):
            context.progress(f"{protocol} and compare", number, len(urls), "protocols")
            with Client(url, config.export.name, protocol=protocol) as client:
                found[f"{protocol}_max_abs_diff"] = ask(client, rows)
    write_text(run.parity, json.dumps(found, indent=1))
    largest = max(found["http_max_abs_diff"], found["grpc_max_abs_diff"])
    tolerance = TOLERANCE + allowed(run)
    if largest > tolerance:
        raise MewsError(
            f"served and offline scores of {rows.height:,} rows",
            expected=f"a difference of at most {tolerance:g}",
            received=f"{largest:.3g}",
            hint=f"Both are kept: {run.parity} and {run.evaluation}.",
        )
    return found | {"says": f"largest difference {largest:.1e} on {rows.height:,} rows over HTTP and gRPC"}


def _differences(context: Context) -> Callable[[Any, pl.DataFrame], float]:
    """Return what asks a client for the answers to rows, and says how far they are from the offline ones."""
    run = context.run
    if lists.learns_lists(context.config):
        answers = lists.offline(run)
        return lambda client, rows: lists.difference(client.ask(rows, tuple(answers)).outputs, answers)
    scores = np.load(run.evaluation / "scores.npy", allow_pickle=False)
    return lambda client, rows: float(np.max(np.abs(client.predict(rows) - scores))) if rows.height else 0.0


def serving_graph(run: Run) -> FeatureGraph:
    """Return the fitted graph without the labels and the weight, which a request does not have."""
    graph = FeatureGraph.load(run.graph)
    return graph.remove_inputs(graph.raw_columns_of(*(column.name for column in training_columns(graph))))


def held_out(run: Run, graph: FeatureGraph) -> pl.LazyFrame:
    """Return the test rows as requests have them, in row order."""
    return pl.scan_parquet(list(part_files(run, "test"))).select(column.name for column in graph.inputs)


@contextlib.contextmanager
def server(run: Run, config: ServeConfig, model: str) -> Iterator[dict[Protocol, str]]:
    """Yield the addresses, by protocol, of a server that has `model`: the configured one or an embedded one."""
    from ensemble.client.client import Client
    from ensemble.server.supported import check_triton, version_of
    from ensemble.server.triton import TritonServer

    if config.triton_url is None:
        with TritonServer(run.repository, config, [model]) as triton:
            yield {"http": triton.http_url, "grpc": triton.grpc_url}
        return
    with Client(config.triton_url, model) as client:
        if not client.is_ready():
            raise ServerError(
                f"Triton at {config.triton_url}",
                expected=f"a server with the model {model!r} ready",
                received="none",
                hint=f"Give it the model repository {run.repository}, and load {model!r}.",
            )
    check_triton(version_of(config.triton_url), config.triton_url)
    yield {"http": config.triton_url, "grpc": config.triton_grpc_url or next_port(config.triton_url)}


def next_port(url: str) -> str:
    """The address of gRPC, from that of HTTP: the next port, as in Triton's defaults."""
    host, _, port = url.rpartition(":")
    return f"{host}:{int(port) + 1}"


_RATIOS = {
    "fused_p50_over_identity": "fused p50 is {:.2f} x the floor's",
    "stock_preprocessing_p50_over_fused": "p50 of stock preprocessing is {:.0f} x fused",
    "fused_throughput_over_stock_preprocessing": "fused requests/s are {:.0f} x stock preprocessing",
}


def bench(context: Context) -> dict[str, Any]:
    """Measure the ensemble, chained and fused, beside the floor and beside stock Merlin Systems' preprocessing."""
    from benchmarks.serving import run as run_benchmark

    run, config = context.run, context.config.bench
    with tempfile.TemporaryDirectory(prefix="mews-exports-") as folder:
        exports = [_variant(context, Path(folder), shape) for shape in ("fused", "chained")]
        report = run_benchmark(
            exports,
            part_files(run, "test")[0],
            run.bench,
            graph=serving_graph(run),
            wanted_peers=("stock_preprocessing",) if config.stock else (),
            protocols=config.protocols,
            concurrencies=config.concurrency,
            batches=config.batch,
            seconds=config.seconds,
            repeats=config.repeats,
            progress=context.progress,
        )
    found = report.to_json()
    measured = next(iter(report.ratios.values()), {})
    says = ", ".join(text.format(value) for name, text in _RATIOS.items() if (value := measured.get(name)) is not None)
    return {key: found[key] for key in ("results", "ratios", "goals", "machine")} | {"says": says}


def bench_table(result: Mapping[str, Any], title: str = "") -> Any:
    """Return what perf_analyzer measured, to print."""
    rows = [
        [
            found["target"],
            found["protocol"],
            *(f"{found[key]:,}" for key in ("concurrency", "batch")),
            *(f"{found[key] / 1000:.2f}" for key in ("p50_us", "p90_us", "p99_us")),
            f"{found['requests_per_s']:,.0f}",
            f"{found['rows_per_s']:,.0f}",
            "-" if found.get("cpu_s_per_1000_rows") is None else f"{found['cpu_s_per_1000_rows']:.3f}",
            str(found["errors"]),
        ]
        for found in result["results"]
    ]
    headers = ("target", "protocol", "clients", "rows", "p50 ms", "p90 ms", "p99 ms", "requests/s", "rows/s")
    return columns(rows, *headers, "CPU s/1k", "errors", title=title)


def _variant(context: Context, repository: Path, shape: str) -> Path:
    """Export what was exported once more, into a folder of its own: chained and fused are both measured."""
    from ensemble.export.export import export as run_export
    from ensemble.spec import RequestSchema

    run, graph = context.run, serving_graph(context.run)
    config = context.config.export.model_copy(update={"shape": shape})
    rows = held_out(run, graph).head(max(EXAMPLE_ROWS, config.warmup_rows)).collect()
    request = RequestSchema.from_columns(graph.inputs, config.forms)
    target = repository / shape
    done = run_export(run.onnx / "workflow.onnx", run.onnx / "model.onnx", target, config, request, {}, rows)
    return done.folder
