"""`mews compare` as a user runs it: two models, two baselines, one that fails, and the page in a browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mews.compare.settings import suited
from tests.e2e.conftest import last_json, leftovers, mews, settings
from tests.e2e.test_report_browser import CHROMIUM, HARNESS
from training.config import ModelConfig

KEYS = {"model", "metric", "value", "low", "high", "train_seconds", "samples_per_s", "parameters"}
TINY = settings(
    "data.rows=6000",
    "data.users=150",
    "data.items=60",
    "model.epochs=2",
    "model.embedding_dim=8",
    "model.bottom=[16, 4]",  # DLRM needs the embedding's size here
    "model.top=[16]",
    "model.batch_size=256",
    "evaluate.bootstrap=20",
)
COMMAND = ("compare", "--models", "mf,dcn_v2,dlrm", "--baselines", "popularity,item_knn", "--json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], str]:
    """The run folder, the records, and what was told."""
    folder = tmp_path_factory.mktemp("compare") / "run"
    done = mews(*COMMAND, "--run", folder, *TINY)
    assert done.returncode == 0, done.stderr
    return folder, last_json(done), done.stderr


def test_every_model_and_metric_has_a_record(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    _, records, _ = run
    assert all(set(record) >= KEYS for record in records)
    measured = [record for record in records if record["metric"]]
    assert {record["model"] for record in measured} == {"popularity", "item_knn", "mf", "dcn_v2"}
    for record in measured:
        assert record["train_seconds"] > 0
        assert record["parameters"] > 0
        if record["low"] is not None:
            assert record["low"] <= record["high"]
    metrics = {record["metric"] for record in measured if record["model"] == "mf"}
    assert metrics >= {
        "auc", "logloss", "ece", "ndcg@10", "hit_rate@10", "recall@20", "mrr@10", "map@10", "coverage", "novelty",
        "onnx_bytes", "onnx_p50_us",
    }  # fmt: skip
    assert {r["against"] for r in measured if r["p"] is not None} == {"popularity"}
    assert {r["model"] for r in measured if r["p"] is not None} == {"item_knn", "mf", "dcn_v2"}


def test_a_model_that_fails_is_told_and_stops_nothing(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    _, records, told = run
    (failed,) = [record for record in records if record["model"] == "dlrm"]
    assert failed["metric"] is None
    assert failed["value"] is None
    assert "model.bottom" in failed["reason"]
    assert "dlrm failed: model.bottom" in told


def test_again_nothing_is_trained_or_measured(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    folder, records, _ = run
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("compare/*/*/*") if path.is_file()}
    assert kept
    done = mews(*COMMAND, "--run", folder, *TINY)
    assert done.returncode == 0, done.stderr
    assert last_json(done) == records
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not leftovers(folder)


def test_unknown_names_are_refused_before_anything_runs(tmp_path: Path) -> None:
    done = mews("compare", "--models", "mf,dlrmm", "--run", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert "Did you mean dlrm?" in done.stderr
    assert not (tmp_path / "run" / "data").exists()


def test_the_page_holds_each_figure(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    folder, records, _ = run
    page = (folder / "compare" / "compare.html").read_text(encoding="utf-8")
    for title in (
        "NDCG@10, best first", "Recall at k", "Coverage against accuracy", "Cost", "Learning curves", "ROC",
        "Precision and recall", "Calibration", "Gain", "Lift", "Map of the items",
    ):  # fmt: skip
        assert re.search(rf"<h3>{title}</h3><p>[^<]{{20,}}</p>", page), f"{title}, and how to read it"
    table = html.unescape(page)
    for record in records:
        if record["metric"] in ("ndcg@10", "auc", "logloss", "recall@20"):
            assert f"{record['value']:.4f}" in table, record
    assert "model.bottom" in table
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page), "nothing is loaded"


def test_settings_that_suit_a_model_give_way_to_what_is_set() -> None:
    assert suited(ModelConfig(), "mf").epochs > ModelConfig().epochs
    assert suited(ModelConfig(), "dlrm") == ModelConfig(name="dlrm")
    asked = suited(ModelConfig(epochs=2, l2=1), "mf")
    assert (asked.name, asked.epochs, asked.l2) == ("mf", 2, 1)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium)")
def test_the_page_in_a_browser(run: tuple[Path, list[dict[str, Any]], str], tmp_path: Path) -> None:
    folder, _, _ = run
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "report.html").write_bytes((folder / "compare" / "compare.html").read_bytes())
    (tmp_path / "harness.html").write_text(HARNESS)
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--window-size=1500,1000",
        "--dump-dom", (tmp_path / "harness.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    match = re.search("FOUND(.*?)END", done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    for width, seen in json.loads(html.unescape(match[1])).items():
        assert seen["scroll"] <= seen["client"], f"scrolls sideways at {width}"
        assert not seen["outside"], f"texts outside of the page at {width}"
        assert seen["tip"], "the keyboard reaches the marks"
        assert seen["resources"] == 0
        assert seen["themes"][0] != seen["themes"][1]
