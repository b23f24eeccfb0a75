"""How long the compiled ONNX preprocessing takes for one row: 26 categorical and 13 continuous columns, in process.

The vocabulary V is that of the largest column; every column has as many values as in Criteo's Kaggle data, at most V.
So with V of 10 million all 26 together have 34 million. Each graph is run by ONNX Runtime on one thread. `p50_us` is
the run of one row whose tensors are bound beforehand, as a server in C++ has them; `python_p50_us` passes a dict of
NumPy arrays in and gets NumPy arrays back, as Python does. Rows have known values, unknown ones and nulls.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks import machine
from benchmarks.criteo import CARDINALITIES, CATEGORICAL, CONTINUOUS, identifiers, ranks
from benchmarks.goals import Goal, judge
from etl.atomic import write_text
from etl.graph import Column, FeatureGraph
from etl.operators.categorical import vocabulary_of
from etl.progress import Progress, silent

VOCABULARIES = (10_000, 100_000, 1_000_000, 10_000_000)
HEADERS = ("vocabulary", "all columns", "p50 µs", "p99 µs", "from Python p50 µs", "load s", "model MiB")
ROWS = 256
_WARM_UP = 500

GOALS: dict[str, Goal] = {
    "p50_us": Goal(50.0, at_most=True),
    "largest_over_smallest_p50": Goal(1.5, at_most=True),
}
"""Of the slowest vocabulary; what is left of the slope is the processor's cache missing, not more work."""

Feed = dict[str, npt.NDArray[Any]]


def run(
    out: Path,
    vocabularies: Sequence[int] = VOCABULARIES,
    repeats: int = 5000,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure one row for each of `vocabularies` and return the report, also written to `out`/features.json.

    Keys: results (one for each vocabulary), goals, machine, settings, created. Needs about 3 GiB for 10 million.
    """
    results = []
    for number, vocabulary in enumerate(vocabularies):
        progress("vocabularies", number, len(vocabularies), "graphs")
        results.append(measure(vocabulary, repeats))
    progress("vocabularies", len(vocabularies), len(vocabularies), "graphs")
    slowest = max(result["p50_us"] for result in results)
    measured = {"p50_us": slowest, "largest_over_smallest_p50": results[-1]["p50_us"] / results[0]["p50_us"]}
    report = {
        "results": results,
        "goals": judge(measured, GOALS),
        "machine": machine.describe(),
        "settings": {"repeats": repeats, "rows": ROWS, "threads": 1},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(out / "features.json", json.dumps(report, indent=1) + "\n")
    return report


def rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return one line for each vocabulary under HEADERS."""
    return [
        [
            f"{found['vocabulary']:,}",
            f"{found['all_columns']:,}",
            *(f"{found[key]:.1f}" for key in ("p50_us", "p99_us", "python_p50_us", "load_seconds", "model_mb")),
        ]
        for found in report["results"]
    ]


def measure(vocabulary: int, repeats: int) -> dict[str, Any]:
    """Compile the features with vocabularies of at most `vocabulary` values, load and time them."""
    import onnxruntime

    from etl.compiler import to_onnx

    graph = fitted(vocabulary)
    model = to_onnx(graph).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    began = time.perf_counter()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter() - began
    rows = feeds(graph, vocabulary)
    bound = _microseconds([_bound(session, row) for row in rows], repeats)
    python = _microseconds([partial(session.run, None, row) for row in rows], repeats)
    return {
        "vocabulary": vocabulary,
        "all_columns": sum(_sizes(vocabulary)),
        "p50_us": round(float(np.median(bound)), 2),
        "p99_us": round(float(np.quantile(bound, 0.99)), 2),
        "python_p50_us": round(float(np.median(python)), 2),
        "python_p99_us": round(float(np.quantile(python, 0.99)), 2),
        "load_seconds": round(loaded, 3),
        "model_mb": round(len(model) / 2**20, 1),
    }


def fitted(vocabulary: int) -> FeatureGraph:
    """Return the graph of `mews bench etl` with made statistics: no rows are needed for it."""
    from benchmarks.peers.graph import workflow
    from etl.reader import read
    from etl.reader.door import nvtabular

    nvtabular()
    inputs = [Column("row", "int64"), *(Column(name, "int32") for name in (*CATEGORICAL, *CONTINUOUS))]
    graph = read(workflow(0), inputs).remove_inputs(["row"])
    nodes = {node.op: node for node in graph.nodes if node.op in ("Categorify", "Normalize")}
    categorify = nodes["Categorify"]
    tables = {
        vocabulary_of(categorify, name): pl.DataFrame(
            {
                "value": identifiers(place, np.arange(size, dtype=np.uint32)),
                "count": np.arange(size, 0, -1, dtype=np.int64),
            }
        )
        for place, (name, size) in enumerate(zip(CATEGORICAL, _sizes(vocabulary), strict=True))
    }
    moments = pl.DataFrame({"column": CONTINUOUS, "count": [1000] * 13, "mean": [1.5] * 13, "std": [0.75] * 13})
    states = {categorify.id: tables, nodes["Normalize"].id: {"moments": moments}}
    return graph.with_state(states)


def _sizes(vocabulary: int) -> list[int]:
    return [min(vocabulary, cardinality) for cardinality in CARDINALITIES]


def feeds(graph: FeatureGraph, vocabulary: int, seed: int = 0) -> list[Feed]:
    """Return ROWS rows as tensors of shape (1, 1) by name: known values by Zipf's law, 5% unknown, 5% null."""
    generator = np.random.default_rng(seed)
    null = np.iinfo(np.int32).min
    made: dict[str, npt.NDArray[np.int32]] = {}
    for place, (name, size) in enumerate(zip(CATEGORICAL, _sizes(vocabulary), strict=True)):
        rank = ranks(generator.random(ROWS), size)
        unknown = generator.random(ROWS) < 0.05
        made[name] = identifiers(place, np.where(unknown, np.uint32(size + 7), rank).astype(np.uint32))
    for name in CONTINUOUS:
        made[name] = np.exp(generator.normal(2.0, 1.5, ROWS)).astype(np.int32)
    for values in made.values():
        values[generator.random(ROWS) < 0.05] = null
    wanted = [column.name for column in graph.inputs]
    return [{name: made[name][row : row + 1].reshape(1, 1) for name in wanted} for row in range(ROWS)]


def _bound(session: Any, row: Feed) -> Callable[[], Any]:
    """Return the run of one row with its inputs and outputs in place."""
    import onnxruntime

    binding = session.io_binding()
    for name, tensor in row.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(tensor))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


def _microseconds(calls: Sequence[Callable[[], Any]], repeats: int) -> npt.NDArray[np.float64]:
    """Return how long each of `repeats` calls took, the rows in turn, after a warm-up."""
    for number in range(_WARM_UP):
        calls[number % len(calls)]()
    took = np.empty(repeats)
    for number in range(repeats):
        call = calls[number % len(calls)]
        began = time.perf_counter_ns()
        call()
        took[number] = time.perf_counter_ns() - began
    return took / 1000
