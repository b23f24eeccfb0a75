"""`mews size` and `mews metrics` as a user runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ensemble.labels import Switch
from ensemble.repository import activate, labels_of
from mews.cli import app
from mews.metrics import collect, render, server
from mews.run import Run
from mews.size import PUBLISHED


def _size(*options: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["size", *options, "--json"])
    return done.exit_code, json.loads(done.stdout.splitlines()[-1])


def test_replicas_and_cost_follow_the_formula(tmp_path: Path) -> None:
    point = {"protocol": "http", "errors": 0, "target": "chained", "batch": 8, "cpu_s_per_1000_rows": 0.5}
    fast = point | {"concurrency": 4, "requests_per_s": 1000.0, "p99_us": 9_000, "stable": True}
    slow = point | {"concurrency": 16, "requests_per_s": 2000.0, "p99_us": 30_000, "stable": True}
    file = tmp_path / "serving.json"
    file.write_text(json.dumps({"results": [fast, slow], "machine": {"cores": 2}}))
    load = ("--requests", "1500", "--rows", "8", "--utilisation", "0.5", "--spare", "1", "--measured", str(file))
    code, found = _size(*load, "--p99-ms", "10", "--price", "0.2")
    assert code == 0
    assert found["replicas"] == 4  # 1500 / (1000 * 0.5) and one spare
    assert found["cost_per_million"] == pytest.approx(4 * 0.2 / (1500 * 8 * 3600) * 1e6)
    assert found["cpu_cores"] == 12
    assert _size(*load, "--p99-ms", "40")[1]["replicas"] == 3  # 1500 / (2000 * 0.5), up, and one spare


def test_published_figures_are_read() -> None:
    code, found = _size("--requests", "100", "--p99-ms", "20", "--rows", "64")
    assert code == 0
    results = json.loads(PUBLISHED.read_text())["results"]
    same = [one for one in results if (one["shape"], one["target"], one["batch"]) == ("demo", "chained", 64)]
    assert found["served_per_replica"] in [one["requests_per_s"] for one in same]
    assert found["replicas"] == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--p99-ms", "0.1"), "--p99-ms"),
        (("--rows", "5000"), "1024"),
        (("--target", "nothing"), "demo fused"),
        (("--measured", "pyproject.toml"), "mews bench serving"),
    ],
)
def test_what_no_measurement_answers_is_refused(options: tuple[str, ...], says: str) -> None:
    code, found = _size("--requests", "100", *options)
    assert code == 2
    assert says in found["error"]


def test_metrics_are_written_for_the_textfile_collector(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mews.prom"
    done = CliRunner().invoke(app, ["metrics", "--run", str(run.folder), "--textfile", str(target)])
    assert done.exit_code == 0, done.output
    assert 'mews_version_info{model="mews",version="2",state="stable"' in target.read_text()
    wrong = CliRunner().invoke(app, ["metrics", "--run", str(run.folder), "--textfile", str(tmp_path / "mews.txt")])
    assert wrong.exit_code == 2


def test_promtool_finds_the_metrics_well_formed(run: Run) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: `apt-get install prometheus`")
    text = render(collect(run, "mews"))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_is_broken_is_told_and_the_rest_stays(run: Run, tmp_path: Path) -> None:
    copy = Run(tmp_path / "run")
    shutil.copytree(run.folder, copy.folder)
    (copy.repository / "mews" / "1" / "manifest.json").write_text("{")
    (copy.stages / "train.json").unlink()
    (copy.model / "history.json").write_text("[{")
    old = labels_of(copy.repository, "mews")
    activate(copy.repository, "mews", 2, replace(old, switch=Switch(1, 2, "publish", ())))
    text = render(collect(copy, "mews"))
    assert 'mews_version_damaged{model="mews",version="1"} 1.0' in text
    assert 'mews_version_damaged{model="mews",version="2"} 0.0' in text
    assert 'mews_stage_done{stage="train"} 0.0' in text
    assert 'mews_switch_unfinished{model="mews"} 1.0' in text
    assert 'mews_unreadable{part="training"} 1.0' in text
    assert 'mews_unreadable{part="stages"} 0.0' in text
    assert "generation" not in text


def test_after_a_release_that_stopped_no_stage_is_waited_for(run: Run, tmp_path: Path) -> None:
    copy = Run(tmp_path / "run")
    shutil.copytree(run.folder, copy.folder)
    (copy.stages / "export.json").unlink(missing_ok=True)
    assert 'mews_stage_done{stage="export"} 0.0' in render(collect(copy, "mews"))
    (copy.folder / "release.json").write_text('{"decision": "stop"}')
    text = render(collect(copy, "mews"))
    assert 'mews_release_timestamp_seconds{decision="stop"}' in text
    assert 'mews_stage_done{stage="train"} 1.0' in text
    assert 'mews_stage_done{stage="export"}' not in text


def test_an_empty_folder_has_metrics_too(tmp_path: Path) -> None:
    text = render(collect(Run(tmp_path), "mews"))
    assert 'mews_stage_done{stage="data"} 0.0' in text
    assert "mews_version_info" not in text


def test_only_metrics_are_answered(run: Run) -> None:
    listening = server(run, "mews", "127.0.0.1", 0)
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
    thread.start()
    url = f"http://127.0.0.1:{listening.server_address[1]}"
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/../etc/passwd", timeout=5)
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
