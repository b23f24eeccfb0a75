"""The serving benchmark, all real: compiled features, both exports, Merlin Systems, Triton, perf_analyzer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from benchmarks import serving
from benchmarks.goals import GOALS
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
    for fused in (True, False):
        config = ExportConfig(fused=fused)
        exported = export(
            made / "workflow.onnx", made / "model.onnx", tmp_path / str(fused), config, request, {}, warmup
        )
        exports.append(exported.folder)
    told: list[tuple[int, int | None]] = []
    report = serving.run(
        exports,
        made / "rows.parquet",
        tmp_path / "serving.json",
        graph=graph,
        protocols=["http", "grpc"],
        concurrencies=[1],
        batches=[1, 8],
        seconds=0.6,
        repeats=1,
        progress=lambda what, done, total, unit: told.append((done, total)),
    )
    written = json.loads((tmp_path / "serving.json").read_text())
    assert written["results"] == [dict(result) for result in report.results]
    seen = {(result["target"], result["protocol"], result["batch"]) for result in written["results"]}
    targets = {"fused", "chained", "identity", "stock"}
    assert seen == {
        (target, protocol, batch) for target in targets for protocol in ("http", "grpc") for batch in (1, 8)
    }
    for result in written["results"]:
        assert result["errors"] == 0
        assert 0 < result["p50_us"] <= result["p90_us"] <= result["p99_us"]
        assert result["rows_per_s"] == pytest.approx(result["requests_per_s"] * result["batch"], abs=result["batch"])
    # The figures themselves depend on what else runs; that stock is far behind does not.
    assert written["ratios"]["http"]["stock_p50_over_fused"] > 5
    assert set(written["goals"]) == set(GOALS)
    assert set(written["cdf"]) == targets
    assert written["machine"]["cores"] >= 1
    assert told[-1] == (16, 16)
