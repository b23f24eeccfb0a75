"""`mews demo` on generated data, looked at as its user and as other tools see it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import polars as pl
import pytest

from ensemble import check_version
from mews.config import load
from tests.e2e.conftest import SMALL, Demo, last_json, leftovers, mews, settings

pytestmark = pytest.mark.xdist_group("demo")

STAGES = ["data", "validate", "split", "fit", "transform", "train", "evaluate", "export", "query", "bench"]


def test_the_summary_has_the_keys_that_other_tools_read(demo: Demo) -> None:
    summary = json.loads((demo.folder / "summary.json").read_text())
    assert summary == demo.summary
    assert {key: set(summary[key]) for key in ("data", "features", "model", "parity")} == {
        "data": {"rows", "source"},
        "features": {"operators", "columns", "fit_seconds", "transform_seconds"},
        "model": {"name", "auc", "auc_low", "auc_high", "auc_best", "logloss", "ece"},
        "parity": {"http_max_abs_diff", "grpc_max_abs_diff", "rows"},
    }
    assert summary["data"] == {"rows": 20_000, "source": "generated"}
    assert set(STAGES) <= set(summary["seconds"])
    assert summary["peak_rss_mb"] > 100
    assert {"mews", "nvtabular", "merlin-models", "tensorflow", "polars", "onnxruntime"} <= set(summary["versions"])


def test_served_scores_are_the_offline_scores(demo: Demo) -> None:
    parity = demo.summary["parity"]
    assert parity["rows"] == 2_000
    assert parity["http_max_abs_diff"] <= 1e-5
    assert parity["grpc_max_abs_diff"] <= 1e-5


def test_the_model_learns_and_stays_below_what_is_reachable(demo: Demo) -> None:
    model = demo.summary["model"]
    assert 0.55 < model["auc_low"] < model["auc"] < model["auc_high"]
    assert model["auc_low"] < model["auc_best"]


def test_every_artifact_is_there_and_the_export_verifies(demo: Demo) -> None:
    for name in ("report.html", "config.yaml", "features/graph/graph.json", "model/saved_model/saved_model.pb"):
        assert (demo.folder / name).is_file(), name
    assert check_version(demo.folder / "repository" / "mews" / "1").ok
    assert leftovers(demo.folder) == []


def test_nothing_that_is_written_is_a_pickle(demo: Demo) -> None:
    opened = [path for path in demo.folder.rglob("*") if path.is_file() and path.stat().st_size]
    pickles = [path for path in opened if path.suffix in (".pkl", ".pickle") or path.read_bytes()[:2] == b"\x80\x04"]
    assert pickles == []


def test_the_resolved_configuration_reads_back(demo: Demo) -> None:
    assert load(demo.folder / "config.yaml") == load(None, SMALL)


def test_a_second_run_does_nothing_twice_and_the_same_commands_work(demo: Demo) -> None:
    again = mews("demo", "--config", demo.folder / "config.yaml", "--run", demo.folder, "--json")
    assert again.returncode == 0, again.stderr
    assert last_json(again)["cached"] == STAGES
    assert again.stderr.count("unchanged, skipped") == len(STAGES)
    assert last_json(again)["peak_rss_mb"] == demo.summary["peak_rss_mb"]


def test_another_model_is_a_config_line_and_runs_only_what_changes(demo: Demo, tmp_path: Path) -> None:

    run = tmp_path / "run"
    shutil.copytree(demo.folder, run)
    done = mews("export", "--run", run, "--json", *settings("model.name=dcn_v2"))
    assert done.returncode == 0, done.stderr
    assert last_json(done)["version"] == 2
    assert (run / "repository" / "mews" / "1" / "manifest.json").is_file()


def test_the_last_lines_are_commands_that_work(demo: Demo) -> None:
    lines = demo.stderr.split("Next:")[1].strip().splitlines()
    commands = [shlex.split(re.sub(r"\s+#.*$", "", line)) for line in lines]
    assert all(command[0] == ".venv/bin/mews" for command in commands)
    for command in commands:
        if command[1] in ("predict", "config"):
            done = mews(*command[1:])
            assert done.returncode == 0, done.stderr
    assert {command[1] for command in commands} == {"serve", "predict", "demo", "config"}


def test_each_stage_command_prints_its_result_as_json(demo: Demo) -> None:
    commands = {
        ("data", "generate"): "rows",
        ("data", "describe"): "columns",
        ("data", "validate"): "checks",
        ("etl", "fit"): "fingerprint",
        ("etl", "transform"): "columns",
        ("train",): "best_epoch",
        ("evaluate",): "baselines",
        ("export",): "version",
        ("report",): "report",
    }
    for command, key in commands.items():
        done = mews(*command, "--run", demo.folder, "--json", "-q")
        assert done.returncode == 0, done.stderr
        assert key in last_json(done), command


def test_predictions_are_written_as_the_file_name_says(demo: Demo, tmp_path: Path) -> None:
    rows = demo.folder / "examples" / "rows.json"
    for name in ("scores.csv", "scores.json", "scores.parquet"):
        done = mews("predict", "--grpc", "--input", rows, "--output", tmp_path / name, "--run", demo.folder)
        assert done.returncode == 0, done.stderr
    frames = [pl.read_csv(tmp_path / "scores.csv"), pl.read_json(tmp_path / "scores.json")]
    frames.append(pl.read_parquet(tmp_path / "scores.parquet"))
    assert all(frame["score"].len() == 5 for frame in frames)
    assert (frames[0]["score"] - frames[2]["score"]).abs().max() < 1e-6
