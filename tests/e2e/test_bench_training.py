"""`mews bench training` on a few thousand rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from benchmarks.training import CODES, LABEL, VALUES, Job, Meter, TimeUpError, run
from benchmarks.training.data import generate
from benchmarks.training.rows import batches
from etl.errors import ConfigError
from mews.cli import app

ROWS, BATCH, VOCABULARY = 6_000, 512, 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


def test_mews_is_measured_beside_keras_by_hand(made: Path) -> None:
    options = ["--peers", "keras", "--model", "dlrm", "--vocabulary", str(VOCABULARY), "--rows", str(ROWS)]
    options += ["--batch", str(BATCH), "--dim", "4", "--no-more-rows", "--data", str(made), "--out", str(made / "out")]
    done = CliRunner().invoke(app, ["bench", "training", *options, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((made / "out" / "training.json").read_text())
    assert [(each["engine"], each["model"]) for each in report["results"]] == [("mews", "dlrm"), ("keras", "dlrm")]
    for each in report["results"]:
        assert each["vocabulary"] == VOCABULARY
        assert each["batch"] == BATCH
        assert each["samples_per_s"] > 0
        assert each["peak_rss_mb"] > 100
        assert 0.55 < each["auc_low"] < each["auc"] < each["auc_high"] < 1
    assert report["machine"]["cores"] >= 1
    assert len(run.rows(report)) == 2


@pytest.mark.parametrize("model", ["dlrm", "two_tower"])
def test_rows_come_once_and_by_the_seed(model: str, tmp_path: Path) -> None:
    folder = generate(tmp_path / "rows", model, VOCABULARY, 3_000, held_out=1_000)
    frame = pl.read_parquet(folder / "train" / "*.parquet")
    assert frame.columns == [*CODES, *VALUES, LABEL]
    assert frame.select(pl.min_horizontal(pl.col(CODES).min())).item() >= 3
    assert frame.select(pl.max_horizontal(pl.col(CODES).max())).item() < VOCABULARY + 3
    held_out = pl.read_parquet(folder / "valid" / "*.parquet")[LABEL]
    assert 0.2 < (held_out.mean() or 0) < 0.8
    assert (frame[LABEL].mean() == 1) == (model == "two_tower")
    first, again, other = (list(batches(folder / "train", 256, seed)) for seed in (1, 1, 2))
    assert [len(labels) for *_, labels in first] == [256] * 11 + [184]
    values, repeated, different = (np.concatenate([each[1] for each in one]) for one in (first, again, other))
    assert np.array_equal(values, repeated)
    assert not np.array_equal(values, different)
    assert np.array_equal(np.sort(values[:, 0]), np.sort(frame["I1"].to_numpy()))


def test_the_meter_leaves_out_the_first_rows_and_says_when_time_is_up(tmp_path: Path) -> None:
    job = Job(tmp_path, "dlrm", 10, 1_000, 100, 4, 0.0, 0, tmp_path)
    meter = Meter(job)
    for rows in (100, 200):
        meter(rows)
    with pytest.raises(TimeUpError):
        meter(300)
    assert meter.figures()["measured_rows"] == 100


def test_ratios_and_goals() -> None:
    def result(engine: str, vocabulary: int, rate: float, **more: Any) -> dict[str, Any]:
        own = {"engine": engine, "model": "dlrm", "vocabulary": vocabulary, "rows": 10, "samples_per_s": rate}
        return own | {"peak_rss_mb": 1000.0, "auc": 0.7, "auc_low": 0.69, "auc_high": 0.71} | more

    results = [result("mews", 10_000, 120.0), result("merlin", 10_000, 60.0), result("mews", 1_000_000, 90.0)]
    results += [result("merlin", 1_000_000, 1.0, auc_low=0.72), result("mews", 10_000, 9.0, rows=80, peak_rss_mb=1100)]
    found = run.ratios(results)
    assert found["dlrm_over_merlin_at_10000"] == 2
    assert found["dlrm_at_1000000_over_10000"] == 0.75
    assert found["dlrm_auc_below_merlin"] == 0.01
    assert found["dlrm_peak_rss_with_more_rows"] == 1.1
    judged = run._report(run.Plan(("dlrm",), (10_000,), ("mews",), 20_000), results)["goals"]
    assert {name for name, goal in judged.items() if not goal["met"]} == {
        "dlrm_at_1000000_over_10000",
        "dlrm_auc_below_merlin",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--peers", "jax"], "jax"),
        (["--vocabulary", "10x"], "10x"),
        (["--model", "bert"], "bert"),
        (["--peers", "none", "--rows", "5000"], "at least 3 steps"),
        (["--peers", "torch", "--torch-python", "/nowhere/python"], "/nowhere/python"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["bench", "training", *options])
    assert done.exit_code == 2
    assert said in done.output


def test_without_pytorch_the_peer_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(run.TORCH_PYTHON, raising=False)
    monkeypatch.setattr(run, "PEERS_TORCH", tmp_path / "python")
    with pytest.raises(ConfigError, match="make peers-torch"):
        run.torch_python()
