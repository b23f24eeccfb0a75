"""Data that is not generated: known sets, a CSV of one's own, a workflow of one's own."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mews.run import Run
from tests.e2e.conftest import last_json, mews, settings

pytestmark = pytest.mark.xdist_group("sources")

QUICK = settings("model.epochs=1", "model.batch_size=256", "evaluate.bootstrap=0", "bench.stock=false")
ROWS = 3_000

WORKFLOW = """
import nvtabular as nvt
from nvtabular import ops


def build():
    codes = (["member"] >> ops.Categorify() >> ops.TagAsUserID()) + (["section", "device"] >> ops.Categorify())
    words = ["words"] >> ops.Categorify() >> ops.ListSlice(0, 3, pad=True)
    price = ["price"] >> ops.FillMissing() >> ops.LogOp() >> ops.Normalize() >> ops.Rename(postfix="_log")
    return nvt.Workflow(codes + words + price + label())


def label():
    return ["clicked"] >> ops.Rename(name="target") >> ops.AddMetadata(tags=["target", "binary_classification"])


def without_label():
    return nvt.Workflow(["section", "device"] >> ops.Categorify())


def without_tags():
    return nvt.Workflow(["rating"] + label())
"""

PIPELINE = """
data:
  source: table
  path: clicks.csv
  columns:
    when:    {role: timestamp}
    member:  {role: user}
    article: {role: item}
    section: {role: categorical}
    words:   {role: tags}
    price:   {role: numeric, minimum: 0}
    device:  {role: categorical}
    rating:  {role: numeric}
    clicked: {role: label}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clicks.csv, pipeline.yaml and my_workflow.py, as a user has them."""
    folder = tmp_path_factory.mktemp("own")
    random, start = np.random.default_rng(1), datetime(2024, 3, 1)
    with (folder / "clicks.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["when", "member", "article", "section", "words", "price", "device", "rating", "clicked"])
        for number in range(ROWS):
            when = (start + timedelta(minutes=5 * number)).isoformat(sep=" ")
            member, article = f"m-{random.integers(0, 99)}", f"a{random.integers(0, 30)}"
            words = random.choice(["news", "sport", "rain", "tax"], random.integers(0, 4), replace=False)
            price = "" if random.random() < 0.06 else f"{random.lognormal(2, 1):.2f}"
            device = "" if random.random() < 0.04 else random.choice(["phone", "desk", "tv"])
            clicked = int(random.random() < 0.2 + 0.5 * ("news" in words))
            section, rating = random.choice(["home", "world"]), f"{random.normal():.3f}"
            table.writerow([when, member, article, section, "|".join(words), price, device, rating, clicked])
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "my_workflow.py").write_text(WORKFLOW)
    return folder


def exported(run: Path, *options: object) -> dict[str, Any]:
    """Run everything through export, without intervals; return the offline metrics."""
    done = mews("export", "--run", run, "--json", *options, *QUICK)
    assert done.returncode == 0, done.stderr
    assert last_json(done)["version"] == 1
    metrics: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert metrics["auc_low"] is None
    assert 0.3 < metrics["auc"] < 1
    return metrics


def served_equals_offline(run: Path) -> None:
    """Score the first held-out rows through gRPC as a user would, and compare with the offline scores."""
    rows, out = run / "held_out.parquet", run / "scores.parquet"
    wanted = np.load(run / "evaluation" / "scores.npy")[:200]
    schema = json.loads((run / "repository" / "mews" / "1" / "manifest.json").read_text())["request"]
    names = [column["name"] for column in schema]
    pl.scan_parquet(Run(run).split / "test" / "*.parquet").select(names).head(200).collect().write_parquet(rows)
    done = mews("predict", "--grpc", "--input", rows, "--output", out, "--run", run)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(pl.read_parquet(out)["score"].to_numpy(), wanted, rtol=0, atol=1e-5)


def test_movielens(real_data: Path, tmp_path: Path) -> None:
    source = settings("data.source=movielens", f"data.path={real_data / 'movielens-latest-small'}", "data.limit=20000")
    metrics = exported(tmp_path / "run", *source)
    assert set(metrics["baselines"]) == {"constant", "popularity"}
    served_equals_offline(tmp_path / "run")
    done = mews("evaluate", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "[" not in done.stdout.split("AUC")[-1], "no intervals where there was no bootstrap"


def test_adult_has_no_users_items_or_times(real_data: Path, tmp_path: Path) -> None:
    metrics = exported(tmp_path / "run", *settings("data.source=adult", f"data.path={real_data / 'adult'}"))
    assert set(metrics["baselines"]) == {"constant"}
    served_equals_offline(tmp_path / "run")
    done = mews("report", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "popularity</th>" not in (tmp_path / "run" / "report.html").read_text()


def test_a_csv_with_strings_nulls_lists_and_times_runs_through_the_whole_demo(own: Path) -> None:
    small = settings("bench.concurrency=[1]", "bench.batch=[1]", "bench.seconds=0.2")
    done = mews("demo", "--config", "pipeline.yaml", "--run", "run", *QUICK, *small, cwd=own)
    assert done.returncode == 0, done.stderr
    summary = json.loads((own / "run" / "summary.json").read_text())
    assert summary["data"] == {"rows": ROWS, "source": "table"}
    assert summary["model"]["auc_low"] is None
    assert max(summary["parity"][f"{protocol}_max_abs_diff"] for protocol in ("http", "grpc")) <= 1e-5
    assert "AUC 0." in done.stdout
    assert "None" not in done.stdout
    (own / "few.csv").write_text("".join((own / "clicks.csv").read_text().splitlines(keepends=True)[:4]))
    predicted = mews("predict", "--input", "few.csv", "--run", "run", "--output", "scores.csv", cwd=own)
    assert predicted.returncode == 0, predicted.stderr
    assert pl.read_csv(own / "scores.csv")["score"].is_between(0, 1).sum() == 3


def test_a_workflow_of_ones_own_is_served_with_its_types_and_names(own: Path) -> None:
    chosen = settings(f"features.workflow={own}/my_workflow.py:build")
    exported(own / "own_workflow", "--config", own / "pipeline.yaml", *chosen)
    served_equals_offline(own / "own_workflow")
    rows = json.loads((own / "own_workflow" / "examples" / "rows.json").read_text())
    assert list(rows[0]) == ["member", "section", "words", "price", "device"], "what the workflow reads, not the label"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("without_label", r'expected one column tagged target; received none. Add ["clicked"] >> nvtabular.ops.'),
        ("without_tags", "expected columns tagged categorical or continuous; received rating"),
    ],
)
def test_a_workflow_that_no_model_can_be_trained_on_is_refused_at_the_start(
    own: Path, function: str, message: str
) -> None:
    chosen = settings(f"features.workflow={own}/my_workflow.py:{function}")
    done = mews("etl", "fit", "--config", own / "pipeline.yaml", "--run", own / "refused", *chosen)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_column_called_score_is_refused_before_anything_is_trained(own: Path) -> None:
    renamed = (own / "clicks.csv").read_text().replace("rating", "score", 1)
    (own / "score.csv").write_text(renamed)
    (own / "score.yaml").write_text(PIPELINE.replace("rating", "score").replace("clicks.csv", "score.csv"))
    done = mews("export", "--config", own / "score.yaml", "--run", own / "score", *QUICK)
    assert done.returncode == 2
    assert "column 'score'; expected another name" in done.stderr
