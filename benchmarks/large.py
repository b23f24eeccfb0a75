"""An embedding table over 2 GB and a vocabulary of 10 million keys, exported, loaded by Triton, and asked.

    python -m benchmarks.large --table-gb 2.5 --keys 10000000 --json

The vocabulary is encoded by a fitted Categorify, compiled as any features are; the table has a row for every code. Both
ways to keep the vocabulary are measured, inline (LabelEncoder) and mapped (ensemble/graphs/vocabularies.py), each with
one and with two instances of every model. Memory is that of the server and its model processes together: `pss` divides
a shared page by those who share it, `anonymous` is what cannot be dropped and read again. Needs about 4 times the
table on disk; a table is never held in memory by this process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import polars as pl
import psutil
from onnx import TensorProto, helper, numpy_helper

from benchmarks import machine
from ensemble.client.client import Client
from ensemble.config import ExportConfig, ServeConfig
from ensemble.export.export import export
from ensemble.graphs.vocabularies import SMALLEST, save_features
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestSchema
from etl.atomic import write_text
from etl.errors import MewsError
from etl.graph import Column, FeatureGraph
from etl.names import FINGERPRINT, SCORE
from etl.onnx_files import open_graph, outside, read, save_graph
from etl.operators.categorical import vocabulary_of

Array = npt.NDArray[Any]
Kind = Literal["inline", "mapped"]
KINDS: tuple[Kind, ...] = ("inline", "mapped")
INSTANCES = (1, 2)
TOLERANCE = 1e-5
HEADERS = ("vocabulary", "instances", "export s", "load s", "RSS MiB", "PSS MiB", "anonymous MiB", "disk MiB", "p50 µs")

_ROWS = 256
_FIRST_CODE = 3  # after padding, null and unknown
_PIECE = 1 << 22


def run(
    table_gb: float,
    keys: int,
    out: Path | None = None,
    *,
    work: Path | None = None,
    requests: int = 2000,
    instances: Sequence[int] = INSTANCES,
) -> dict[str, Any]:
    """Measure and return the report, also written to `out`/large.json; temporary files go to a folder in `work`.

    MewsError when a served score differs from the one computed from the table by more than 1e-5.
    """
    with tempfile.TemporaryDirectory(prefix="mews-large-", dir=work) as name:
        folder = Path(name)
        graph = fitted(keys)
        model = folder / "model.onnx"
        made = _timed(lambda: write_model(graph, model, table_gb, folder / "table"))
        table = outside(open_graph(model))[0]
        results = [found for kind in KINDS for found in _measure(kind, graph, model, requests, instances)]
        report = {
            "table_bytes": int(np.prod(table.dims)) * 4,
            "dimensions": list(table.dims),
            "keys": keys,
            "model_seconds": round(made, 2),
            "results": results,
            "machine": machine.describe(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    if out is not None:
        write_text(out / "large.json", json.dumps(report, indent=1) + "\n")
    return report


def fitted(keys: int) -> FeatureGraph:
    """Return a graph that encodes `user` by a vocabulary of `keys` random int64 and passes `price` on."""
    from etl.reader import read as read_graph
    from etl.reader.door import nvtabular

    nvt = nvtabular()
    outputs = (["user"] >> nvt.ops.Categorify()) + (["price"] >> nvt.ops.Clip(min_value=0))
    graph = read_graph(nvt.Workflow(outputs), [Column("user", "int64"), Column("price", "float32")])
    categorify = next(node for node in graph.nodes if node.op == "Categorify")
    table = pl.DataFrame({"value": identifiers(keys), "count": np.arange(keys, 0, -1, dtype=np.int64)})
    return graph.with_state({categorify.id: {vocabulary_of(categorify, "user"): table}})


def identifiers(count: int) -> npt.NDArray[np.int64]:
    """Return `count` different int64 without any order: multiples of an odd number, modulo 2**62."""
    return (np.arange(1, count + 1, dtype=np.int64) * np.int64(2654435761)) & np.int64(2**62 - 1)


def write_model(graph: FeatureGraph, target: Path, table_gb: float, scratch: Path) -> None:
    """Write score = sigmoid(sum(table[user]) + price), with a table of `table_gb` (10**9 bytes) beside the graph."""
    rows = next(column.cardinality for column in graph.output_columns if column.name == "user")
    assert rows is not None
    width = max(1, round(table_gb * 1e9 / 4 / rows))
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=(rows, width))
    _write_table(scratch, rows * width)
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value=str(scratch))
    nodes = [
        helper.make_node("Gather", ["table", "user"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "axes"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "price"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], [SCORE]),
    ]
    info = helper.make_tensor_value_info
    inputs = [info("user", TensorProto.INT64, ["batch", 1]), info("price", TensorProto.FLOAT, ["batch", 1])]
    axes = numpy_helper.from_array(np.array([2], np.int64), "axes")
    made = helper.make_graph(nodes, "large", inputs, [info(SCORE, TensorProto.FLOAT, ["batch", 1])], [axes, table])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, {FINGERPRINT: graph.fingerprint})
    save_graph(model, target)
    scratch.unlink()


def _write_table(target: Path, count: int) -> None:
    """Write `count` float32 of small random numbers, a piece at a time."""
    random = np.random.default_rng(0)
    with target.open("wb") as file:
        for start in range(0, count, _PIECE):
            piece = random.random(min(_PIECE, count - start), np.float32)
            file.write((piece * np.float32(0.02) - np.float32(0.01)).tobytes())


def _measure(
    kind: Kind, graph: FeatureGraph, model: Path, requests: int, instances: Sequence[int]
) -> Iterator[dict[str, Any]]:
    from etl.compiler import to_onnx

    keys = int(next(column.cardinality or 0 for column in graph.output_columns if column.name == "user")) - _FIRST_CODE
    workflow = model.with_name(f"{kind}.onnx")
    compiled = _timed(lambda: save_features(to_onnx(graph), workflow, kind, min(SMALLEST, keys)))
    rows, codes = rows_of(keys)
    wanted = expected(read(outside(open_graph(model))[0]), codes, rows["price"].to_numpy())
    for count in instances:
        began = time.perf_counter()
        config = ExportConfig(name="large", shape="chained", instances=count)
        repository = model.with_name(f"{kind}-{count}")
        export(workflow, model, repository, config, RequestSchema.from_columns(graph.inputs), {}, rows.head(4))
        exported = time.perf_counter() - began
        found = _served(repository, rows, wanted, requests)
        disk = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())
        shutil.rmtree(repository)
        yield {
            "vocabulary": kind,
            "instances": count,
            "compile_seconds": round(compiled, 2),
            "export_seconds": round(exported, 2),
            **found,
            "disk_mb": round(disk / 2**20, 1),
        }


def rows_of(keys: int) -> tuple[pl.DataFrame, Array]:
    """Return raw rows of known, unknown and null users, and the users' codes."""
    random = np.random.default_rng(1)
    places = random.integers(0, keys, _ROWS)
    users: list[int | None] = [int(value) for value in identifiers(keys)[places]]
    codes = places + _FIRST_CODE
    users[0], codes[0] = None, 1
    users[1], codes[1] = -5, 2
    prices = random.random(_ROWS).astype(np.float32)
    return pl.DataFrame({"user": users, "price": prices}, schema={"user": pl.Int64, "price": pl.Float32}), codes


def expected(table: Array, codes: Array, prices: Array) -> Array:
    """Return the scores by NumPy; reads the rows that it needs."""
    logits = table[codes].astype(np.float64).sum(axis=1) + prices
    scores: Array = 1 / (1 + np.exp(-logits))
    return scores


def _served(repository: Path, rows: pl.DataFrame, wanted: Array, requests: int) -> dict[str, Any]:
    """Start Triton on the repository, compare all rows, time requests of one row over HTTP."""
    began = time.perf_counter()
    with TritonServer(repository, ServeConfig(start_timeout_seconds=300), ["large"]) as server:
        loaded = time.perf_counter() - began
        at_start = _memory(server.pid)
        with Client(server.http_url, "large") as client:
            found = np.asarray(client.predict(rows)).reshape(-1)
            worst = float(np.abs(found - wanted).max())
            if not worst <= TOLERANCE:
                raise MewsError("served scores", expected=f"within {TOLERANCE:g} of NumPy's", received=f"{worst:.2g}")
            took = [_timed(lambda row=row: client.predict(row)) for row in _singles(rows, requests)]
        memory = _memory(server.pid)
    return {
        "load_seconds": round(loaded, 2),
        "pss_mb_at_start": at_start["pss_mb"],
        **memory,
        "p50_us": round(float(np.median(took)) * 1e6, 1),
        "p99_us": round(float(np.quantile(took, 0.99)) * 1e6, 1),
        "largest_difference": worst,
    }


def _singles(rows: pl.DataFrame, count: int) -> Iterator[pl.DataFrame]:
    return (rows.slice(number % rows.height, 1) for number in range(count))


def _memory(pid: int) -> dict[str, float]:
    """Return the memory (MiB) of a process and all below it."""
    process = psutil.Process(pid)
    maps = [each.memory_full_info() for each in (process, *process.children(recursive=True))]
    anonymous = [_anonymous(each.pid) for each in (process, *process.children(recursive=True))]
    return {
        "rss_mb": round(sum(each.rss for each in maps) / 2**20, 1),
        "pss_mb": round(sum(each.pss for each in maps) / 2**20, 1),
        "anonymous_mb": round(sum(anonymous) / 2**10, 1),
    }


def _anonymous(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("Anonymous:")), 0)


def _timed(call: Any) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def table(report: dict[str, Any]) -> list[list[str]]:
    """Return one line for each case under HEADERS."""
    keys = ("export_seconds", "load_seconds", "rss_mb", "pss_mb", "anonymous_mb", "disk_mb", "p50_us")
    return [
        [found["vocabulary"], str(found["instances"]), *(f"{found[key]:,.1f}" for key in keys)]
        for found in report["results"]
    ]


def main() -> None:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table-gb", type=float, default=2.5, help="size of the embedding table, 10**9 bytes")
    parser.add_argument("--keys", type=int, default=10_000_000, help="keys of the vocabulary")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of large.json")
    parser.add_argument("--work", type=Path, help="folder for temporary files; the system's otherwise")
    parser.add_argument("--requests", type=int, default=2000, help="requests to time")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    given = parser.parse_args()
    report = run(given.table_gb, given.keys, given.out, work=given.work, requests=given.requests)
    if given.json:
        print(json.dumps(report))
        return
    for line in (list(HEADERS), *table(report)):
        print("  ".join(f"{cell:>13}" for cell in line))


if __name__ == "__main__":
    main()
