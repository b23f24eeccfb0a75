"""The serving benchmark, all real: compiled features, both exports, Merlin Systems, Triton, perf_analyzer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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


ENSEMBLES = {"fused", "chained", "identity", "stock_preprocessing"}
_Told = list[tuple[int, int | None]]


@pytest.fixture(scope="module")
def measured(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], _Told]:
    """What one run beside the floor, stock and two peers wrote, and the progress it told."""
    folder = tmp_path_factory.mktemp("measured")
    graph = FeatureGraph.load(made / "graph")
    request = RequestSchema.from_columns(graph.inputs)
    warmup = pl.read_parquet(made / "rows.parquet").head(5)
    exports = []
    for shape in ("fused", "chained"):
        config = ExportConfig.model_validate({"shape": shape})
        exported = export(made / "workflow.onnx", made / "model.onnx", folder / shape, config, request, {}, warmup)
        exports.append(exported.folder)
    told: _Told = []
    report = serving.run(
        exports,
        made / "rows.parquet",
        folder / "serving.json",
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
    written = json.loads((folder / "serving.json").read_text())
    assert written["results"] == [dict(result) for result in report.results]
    return written, told


def test_every_target_is_measured_under_every_load(measured: tuple[dict[str, Any], _Told]) -> None:
    written, told = measured
    seen = {(result["target"], result["protocol"], result["batch"]) for result in written["results"]}
    expected = {(target, protocol, batch) for target in ENSEMBLES for protocol in ("http", "grpc") for batch in (1, 8)}
    expected.add(("fused_json", "http", 1))
    if not PEERS["fastapi_onnx"].missing:
        expected |= {("fastapi_onnx", "http", 1), ("fastapi_onnx", "http", 8)}
    assert seen == expected
    for result in written["results"]:
        assert result["errors"] == 0
        assert 0 < result["p50_us"] <= result["p90_us"] <= result["p99_us"]
        assert result["rows_per_s"] == pytest.approx(result["requests_per_s"] * result["batch"], abs=result["batch"])
        assert result["cpu_s_per_1000_rows"] > 0
    assert written["machine"]["cores"] >= 1
    assert told[-1][0] == told[-1][1]


def test_answers_are_compared_before_they_are_timed(measured: tuple[dict[str, Any], _Told]) -> None:
    targets = measured[0]["targets"]
    assert targets["chained"]["max_abs_diff"] <= 1e-5
    assert targets["identity"]["max_abs_diff"] is None
    assert "failed" in targets["fastapi_nvtabular"]  # there is no SavedModel here
    by_hand = targets["fastapi_onnx"]
    if PEERS["fastapi_onnx"].missing:
        assert "make peers" in by_hand["failed"]
    else:
        assert by_hand["max_abs_diff"] <= 1e-5
        assert by_hand["workers"] in (1, 2)
        assert not by_hand["differs"]


def test_what_a_target_costs_and_how_it_compares(measured: tuple[dict[str, Any], _Told]) -> None:
    written = measured[0]
    for name in ("fused", "identity", "stock_preprocessing"):
        assert all(written["targets"][name][key] > 0 for key in ("memory_mb", "startup_s"))
    # The figures themselves depend on what else runs; that stock is far behind does not.
    assert written["ratios"]["http"]["stock_preprocessing_p50_over_fused"] > 5
    assert set(written["goals"]) <= set(GOALS)
    assert set(written["cdf"]) >= ENSEMBLES


def test_the_waterfall_adds_up_to_a_request(measured: tuple[dict[str, Any], _Told]) -> None:
    chained = measured[0]["waterfall"]["chained"]
    of_the_model = [one["phase"] for one in chained["phases"] if one["stage"].endswith("model_1")]
    assert of_the_model == ["queue", "input", "compute", "output"]
    assert sum(one["us"] for one in chained["phases"]) == pytest.approx(chained["client_p50_us"], rel=0.5)


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
