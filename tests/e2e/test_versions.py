"""`mews versions` beside a running `mews serve`, and `mews bench swap`, as a user runs them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.labels import Labels
from ensemble.repository import activate
from ensemble.spec import RequestSchema
from etl.graph import FeatureGraph
from mews.run import Run
from mews.stages.serving import serving_graph
from tests.e2e.conftest import MEWS, ROOT, Demo, last_json, leftovers, mews

pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def run(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's run with a second version of its ensemble, fused; version 1 is stable."""
    folder = tmp_path_factory.mktemp("versions") / "run"
    shutil.copytree(demo.folder, folder)
    graph = serving_graph(Run(folder))
    rows = pl.read_json(folder / "examples" / "rows.json", schema_overrides=_schema(graph))
    onnx = folder / "onnx"
    export(
        onnx / "workflow.onnx",
        onnx / "model.onnx",
        folder / "repository",
        ExportConfig(shape="fused"),
        RequestSchema.from_columns(graph.inputs),
        {},
        rows,
    )
    activate(folder / "repository", "mews", 1, Labels())
    return folder


def _schema(graph: FeatureGraph) -> dict[str, Any]:
    from etl.dtypes import dtype

    kinds = {column.name: dtype(column.dtype).polars for column in graph.inputs}
    return {c.name: pl.List(kinds[c.name]) if c.is_list else kinds[c.name] for c in graph.inputs}


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[dict[str, str]]:
    ports = [part for name in ("http", "grpc", "metrics") for part in (f"--{name}-port", "0")]
    command = [str(MEWS), "serve", "--run", str(run), *ports]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    assert process.poll() is None, "".join(lines)
    yield json.loads((run / "serve.json").read_text())
    process.terminate()
    process.communicate(timeout=60)
    assert leftovers(run) == []


def versions(run: Path, *arguments: object) -> Any:
    done = mews("versions", *arguments, "--run", run, "--json")
    assert done.returncode == 0, done.stderr
    return last_json(done)


def states(run: Path) -> list[tuple[int, str, bool]]:
    return [(each["version"], each["state"], each["ready"]) for each in versions(run, "list")]


def test_a_version_is_published_rolled_back_and_deleted(run: Path, served: dict[str, str]) -> None:
    first = versions(run, "list")[0]
    assert set(first) == {"version", "created", "state", "fingerprint", "metrics", "ready", "size"}
    assert first["size"] > 1000
    assert "auc" in first["metrics"]
    assert states(run) == [(1, "stable", True), (2, "stored", False)]

    command = [str(MEWS), "versions", "publish", "--slower", "50", "--run", str(run)]
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=None)
    assert killed.stdout is not None
    assert any("load" in line for line in iter(killed.stdout.readline, ""))
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)

    published = versions(run, "publish", "--slower", 50)
    assert (published["stable"], published["previous"]) == (2, 1)
    assert states(run) == [(1, "previous", False), (2, "stable", True)]
    refused = mews("versions", "delete", 1, "--run", run)
    assert refused.returncode == 2
    assert "previous" in refused.stderr
    assert versions(run, "rollback")["stable"] == 1
    assert versions(run, "delete", 2) == {"deleted": 2, "stable": 1}
    assert states(run) == [(1, "stable", True)]


def test_swaps_under_load_fail_no_request_and_mix_no_versions(run: Path, tmp_path: Path) -> None:
    before = versions(run, "list")
    options = ("--swaps", 3, "--seconds-between", 0, "--seconds-before", 1, "--rate", 40)
    done = mews("bench", "swap", *options, "--out", tmp_path, "--run", run, "--json")
    assert done.returncode == 0, done.stderr
    report = last_json(done)
    assert (report["swaps"], report["rollbacks"]) == (3, 3)
    assert (report["failed"], report["wrong_version"]) == (0, 0), report["errors"]
    assert set(report["answers_by_version"]) == {"1", "2"}
    assert report["requests"] == sum(report["answers_by_version"].values()) > 100
    for found in (report, *report["protocols"].values()):
        assert found["p99_before_us"] > 0
        assert 0 < found["p99_during_us"] <= found["slowest_during_us"]
    assert json.loads((tmp_path / "swap.json").read_text())["requests"] == report["requests"]
    plot = (tmp_path / "swap.svg").read_text()
    assert plot.count('class="swap"') == 4  # three, and the key
    assert leftovers(tmp_path) == []
    assert versions(run, "list") == before  # changed versions are no reason to export again
