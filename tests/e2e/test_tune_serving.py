"""`mews tune-serving`, interrupted, taken up again, and applied."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from ensemble import pbtxt
from mews.config import load
from tests.e2e.conftest import MEWS, ROOT, Demo, last_json, leftovers, mews

OPTIONS = ("--latency-p99", "30s", "--trials", "3", "--seconds", "0.2", "--concurrency", "2", "--json")


@pytest.fixture
def run(demo: Demo, tmp_path: Path) -> Path:
    """A copy of the demo's run folder."""
    return Path(shutil.copytree(demo.folder, tmp_path / "run", symlinks=True))


def measured(storage: Path) -> list[dict[str, object]]:
    """The trials that a search has kept so far, read from outside."""
    try:
        with closing(sqlite3.connect(f"file:{storage}?mode=ro", uri=True)) as connection:
            rows = connection.execute("select value_json from trial_user_attributes order by trial_id").fetchall()
    except sqlite3.OperationalError:  # not there yet
        return []
    return [json.loads(row[0]) for row in rows]


def test_a_search_is_interrupted_goes_on_and_is_applied(run: Path, environment: dict[str, str]) -> None:
    storage = run / "bench" / "tune.sqlite"
    command = [str(MEWS), "tune-serving", "--run", str(run), *OPTIONS]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        deadline = time.monotonic() + 120
        while not measured(storage) and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 130
    before = measured(storage)
    assert before
    assert leftovers(run) == []

    done = mews("tune-serving", "--run", run, *OPTIONS, "--apply")
    assert done.returncode == 0, done.stderr
    answer = last_json(done)
    assert {"trials", "best", "baseline", "limit_us", "met", "speedup"} <= set(answer)
    assert (answer["limit_us"], answer["met"], len(answer["trials"])) == (30_000_000, True, 3)
    kept = [{key: trial[key] for key in ("rows_per_s", "p50_us", "p99_us", "stable")} for trial in answer["trials"]]
    assert kept[: len(before)] == [each["figures"] for each in before], "earlier trials were measured again"
    assert answer["trials"][0]["settings"] == answer["baseline"]["settings"]

    tuned = load(run / "tuned.yaml").export.model_dump(mode="json")
    best = answer["best"]["settings"]
    assert {key: tuned[key] for key in best} == best
    assert (answer["applied_version"] is None) == (best == answer["baseline"]["settings"])
    version = answer["applied_version"] or 1
    spec = pbtxt.parse((run / "repository" / f"mews_features_{version}" / "config.pbtxt").read_text())
    assert spec.instances[0].count == best["instances"]
    assert spec.batching is not None
    assert spec.batching.delay_us == best["max_queue_delay_microseconds"]


def test_a_limit_without_a_unit_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = mews("tune-serving", "--run", tmp_path / "none", "--latency-p99", "5")
    assert done.returncode == 2
    assert "expected a time with its unit, such as 5ms" in done.stderr
    assert not (tmp_path / "none").exists()
