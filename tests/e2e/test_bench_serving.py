"""The serving benchmark, all real: compiled features, both exports, Merlin Systems, Triton, perf_analyzer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from benchmarks import serving
from benchmarks.goals import GOALS
from benchmarks.servers import PEERS
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.spec import RequestSchema
from etl.graph import FeatureGraph

ROOT = Path(__file__).resolve().parents[2]
_MAKE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import standin
folder = Path(sys.argv[2])
standin.write(folder, 2000)[0].save(folder / "graph")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, graph, workflow.onnx and model.onnx; in a process of its own, for NVTabular warns when it is imported."""
    folder = tmp_path_factory.mktemp("standin")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MAKE, str(Path(__file__).parent), str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


def test_fused_and_chained_beside_the_floor_and_stock(made: Path, tmp_path: Path) -> None:
    graph = FeatureGraph.load(made / "graph")
    request = RequestSchema.from_columns(graph.inputs)
    warmup = pl.read_parquet(made / "rows.parquet").head(5)
    exports = []
    for shape in ("fused", "chained"):
        config = ExportConfig.model_validate({"shape": shape})
        exported = export(made / "workflow.onnx", made / "model.onnx", tmp_path / shape, config, request, {}, warmup)
        exports.append(exported.folder)
    told: list[tuple[int, int | None]] = []
    report = serving.run(
        exports,
        made / "rows.parquet",
        tmp_path / "serving.json",
        graph=graph,
        onnx=made,
        wanted_peers=("stock_preprocessing", "fastapi_onnx", "fastapi_nvtabular"),
        protocols=["http", "grpc"],
        concurrencies=[1],
        batches=[1, 8],
        seconds=0.3,
        repeats=1,
        trace=True,
        progress=lambda what, done, total, unit: told.append((done, total)) if unit == "loads" else None,
    )
    written = json.loads((tmp_path / "serving.json").read_text())
    assert written["results"] == [dict(result) for result in report.results]
    seen = {(result["target"], result["protocol"], result["batch"]) for result in written["results"]}
    ensembles = {"fused", "chained", "identity", "stock_preprocessing"}
    expected = {(target, protocol, batch) for target in ensembles for protocol in ("http", "grpc") for batch in (1, 8)}
    expected.add(("fused_json", "http", 1))
    by_hand = written["targets"]["fastapi_onnx"]
    if PEERS["fastapi_onnx"].missing:
        assert "make peers" in by_hand["failed"]
    else:
        expected |= {("fastapi_onnx", "http", 1), ("fastapi_onnx", "http", 8)}
        assert by_hand["max_abs_diff"] <= 1e-5
        assert by_hand["workers"] in (1, 2)
        assert not by_hand["differs"]
    assert seen == expected
    for result in written["results"]:
        assert result["errors"] == 0
        assert 0 < result["p50_us"] <= result["p90_us"] <= result["p99_us"]
        assert result["rows_per_s"] == pytest.approx(result["requests_per_s"] * result["batch"], abs=result["batch"])
        assert result["cpu_s_per_1000_rows"] > 0
    assert written["targets"]["chained"]["max_abs_diff"] <= 1e-5
    assert written["targets"]["identity"]["max_abs_diff"] is None
    assert "failed" in written["targets"]["fastapi_nvtabular"]  # there is no SavedModel here
    for name in ("fused", "identity", "stock_preprocessing"):
        assert all(written["targets"][name][key] > 0 for key in ("memory_mb", "startup_s"))
    # The figures themselves depend on what else runs; that stock is far behind does not.
    assert written["ratios"]["http"]["stock_preprocessing_p50_over_fused"] > 5
    assert set(written["goals"]) <= set(GOALS)
    assert set(written["cdf"]) >= ensembles
    phases = written["waterfall"]["chained"]["phases"]
    assert [one["phase"] for one in phases if one["stage"].endswith("model_1")] == [
        "queue",
        "input",
        "compute",
        "output",
    ]
    assert sum(one["us"] for one in phases) == pytest.approx(written["waterfall"]["chained"]["client_p50_us"], rel=0.5)
    assert written["machine"]["cores"] >= 1
    assert told[-1][0] == told[-1][1]


_KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.processes import PeerServer
from benchmarks.servers import by_hand
from benchmarks.servers.kserve import Settings
from etl.graph import FeatureGraph
made, folder = Path(sys.argv[1]), Path(sys.argv[2])
by_hand.write(FeatureGraph.load(made / "graph"), folder / "by_hand")
(folder / "model.onnx").symlink_to(made / "model.onnx")
Settings("mews", [], 8, folder).save(folder / "settings.json")
server = PeerServer("benchmarks.servers.fastapi_onnx", folder / "settings.json", "mews", 2, folder / "log").start()
print(server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(bool(PEERS["fastapi_onnx"].missing), reason=PEERS["fastapi_onnx"].missing)
def test_a_peer_and_its_workers_end_when_the_benchmark_is_killed(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, str(made), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert int(done.stdout) > 0
    deadline = time.monotonic() + 30
    while _running(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _running(str(tmp_path))


def _running(word: str) -> list[str]:
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if word in line and "benchmarks.servers" in line]
