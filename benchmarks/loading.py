"""Ways to load a vocabulary of 10 million integers into ONNX Runtime: seconds, memory, time of a look-up.

    python -m benchmarks.loading --keys 10000000 --json

Each way is a process of its own that opens the graph of the fitted Categorify of benchmarks/large.py and looks keys up.
`memory_mb` is how much its resident memory grew, `anonymous_mb` the part that no file backs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from etl.atomic import write_text

BATCHES = (1, 64, 1024)
_REPEATS = 1000


def _disable(options: Any) -> None:
    import onnxruntime as ort

    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


def _entry(key: str) -> Callable[[Any], None]:
    return lambda options: options.add_session_config_entry(key, "1")


# Way: (which file, what of the session is changed)
WAYS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "as it is": ("inline.onnx", lambda options: None),
    "keys in order": ("ordered.onnx", lambda options: None),
    "no optimisation": ("inline.onnx", _disable),
    "no prepacking": ("inline.onnx", _entry("session.disable_prepacking")),
    "device allocator": ("inline.onnx", _entry("session.use_device_allocator_for_initializers")),
    "ORT format": ("inline.ort", lambda options: None),
    "mapped": ("mapped.onnx", lambda options: None),
}


def run(keys: int, out: Path | None = None) -> dict[str, Any]:
    """Write the graph in every form, load each in a process of its own; return the report, also as `out`/loading.json.

    Needs about 3 GiB of memory for 10 million keys.
    """
    with tempfile.TemporaryDirectory(prefix="mews-loading-") as folder:
        write_graphs(keys, Path(folder))
        results = [{"way": way, **_in_process(way, Path(folder), keys)} for way in WAYS]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    report = {"keys": keys, "results": results, "machine": machine.describe(), "created": created}
    if out is not None:
        write_text(out / "loading.json", json.dumps(report, indent=1) + "\n")
    return report


def write_graphs(keys: int, folder: Path) -> None:
    """Write inline.onnx, ordered.onnx (the keys sorted), inline.ort and mapped.onnx."""
    import onnx
    import onnxruntime as ort

    from benchmarks.large import fitted
    from ensemble.graphs.vocabularies import SMALLEST, save_features
    from etl.compiler import to_onnx

    graph = to_onnx(fitted(keys))
    save_features(graph, folder / "inline.onnx", "inline")
    save_features(graph, folder / "mapped.onnx", "mapped", min(SMALLEST, keys))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "inline.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    ort.InferenceSession(folder / "inline.onnx", options, providers=["CPUExecutionProvider"])
    node = next(node for node in graph.graph.node if node.op_type == "LabelEncoder")
    held = {attribute.name: attribute.t for attribute in node.attribute}
    values = {name: onnx.numpy_helper.to_array(held[name]) for name in ("keys_tensor", "values_tensor")}
    order = np.argsort(values["keys_tensor"])
    for name, array in values.items():
        held[name].CopyFrom(onnx.numpy_helper.from_array(array[order], held[name].name))
    save_features(graph, folder / "ordered.onnx", "inline")


def load(way: str, folder: Path, keys: int) -> dict[str, Any]:
    """Open the graph of `way` in this process and return what that took."""
    import onnxruntime as ort

    from benchmarks.large import identifiers

    file, change = WAYS[way]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    change(options)
    asked = identifiers(keys)[:: max(1, keys // 100_000)].reshape(-1, 1)
    before, began = _memory(), time.perf_counter()
    session = ort.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
    seconds, after = time.perf_counter() - began, _memory()
    prices = np.ones(asked.shape, np.float32)
    random, times = np.random.default_rng(0), {}
    for batch in BATCHES:
        took = []
        for _ in range(_REPEATS):
            start = int(random.integers(0, max(1, len(asked) - batch)))
            feed = {"user": asked[start : start + batch], "price": prices[start : start + batch]}
            began = time.perf_counter()
            session.run(None, feed)
            took.append(time.perf_counter() - began)
        times[f"p50_us_{batch}"] = round(float(np.median(took)) * 1e6, 1)
    return {
        "load_seconds": round(seconds, 3),
        "memory_mb": round((after["Rss"] - before["Rss"]) / 1024, 1),
        "anonymous_mb": round((after["Anonymous"] - before["Anonymous"]) / 1024, 1),
        **times,
    }


def _memory() -> dict[str, int]:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}


def _in_process(way: str, folder: Path, keys: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.loading", "--keys", str(keys), "--way", way, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=10_000_000, help="keys of the vocabulary")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of loading.json")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(load(given.way, given.folder, given.keys)))
        return
    report = run(given.keys, given.out)
    if given.json:
        print(json.dumps(report))
        return
    for found in report["results"]:
        print("  ".join(f"{value!s:>16}" for value in found.values()))


if __name__ == "__main__":
    main()
