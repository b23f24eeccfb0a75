"""Models of item lists in `mews compare`: the users and items of the others, and answers that are the model's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl import batch
from etl.errors import ConfigError, MewsError
from etl.graph import FeatureGraph
from etl.progress import silent
from etl.sources.dataset import Dataset
from mews import config
from mews.compare.asked import FIRST, open_lists, vocabulary
from mews.compare.folders import ListRun
from mews.compare.ground import Ground
from mews.compare.run import compare
from mews.console import Terminal
from mews.run import Run
from mews.session import Session
from tests.e2e.conftest import last_json, leftovers, mews, settings
from tests.e2e.test_sessions import PIPELINE, visits
from training import data
from training.predict import load_answers, read_features
from training.train import read_training

MODELS = ("gru4rec", "transformer", "autoencoder")
SMALL = settings(
    "data.rows=6000", "data.users=150", "data.items=60", "split.history=6", "model.epochs=2", "model.batch_size=128",
    "model.embedding_dim=8", "model.top_k=15", "evaluate.bootstrap=20", "evaluate.negatives=20",
)  # fmt: skip
COMMAND = ("compare", "--models", ",".join(MODELS), "--baselines", "popularity,als", "--json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The run folder and the records."""
    folder = tmp_path_factory.mktemp("lists") / "run"
    done = mews(*COMMAND, "--run", folder, *SMALL)
    assert done.returncode == 0, done.stderr
    return folder, last_json(done)


def test_they_are_judged_on_the_same_users_and_rows(run: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, records = run
    metrics: dict[str, set[str]] = {}
    for record in records:
        metrics.setdefault(record["model"], set()).add(record["metric"])
    assert set(metrics) == {"popularity", "als", *MODELS}
    for name in MODELS:
        assert metrics[name] >= metrics["popularity"]
        assert {"auc", "ndcg@10", "ndcg@10_sampled", "coverage", "onnx_p50_us", "onnx_bytes"} <= metrics[name]
        assert "logloss" not in metrics[name], "they give no probability of a row"
    users = {name: np.load(folder / "compare" / name / "measures" / "users.npz") for name in metrics}
    assert len(users["popularity"]["codes"]) > 30
    for name, found in users.items():
        np.testing.assert_array_equal(found["codes"], users["popularity"]["codes"], err_msg=name)
    for part in ("train", "valid", "test"):
        rows = [
            Dataset.load(at / part).scan().collect()
            for at in (Run(folder).split, ListRun(folder, MODELS[0]).split_rows)
        ]
        assert rows[0].equals(rows[1])


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_answer_to_what_the_user_had(
    run: tuple[Path, list[dict[str, Any]]], name: str, tmp_path: Path
) -> None:
    folder, _ = run
    own = ListRun(folder, name)
    ground = Ground(Run(folder), config.load(folder / "config.yaml"))
    recommender = open_lists(ground, own, 6, name == "autoencoder", silent)
    graph, shared = FeatureGraph.load(own.graph), FeatureGraph.load(Run(folder).graph)
    users, items = (vocabulary(shared, feature.name) for feature in (ground.held.pair.user, ground.held.pair.item))
    dataset = Dataset.load(Run(folder).split / "train")
    user, item, label = (dataset.only(role) or "" for role in ("user", "item", "label"))
    before = pl.concat([Dataset.load(Run(folder).split / part).scan() for part in ("train", "valid")]).collect()
    codes = ground.cases.users[:8]
    scores = recommender.scores(codes)
    asked, lists = [], []
    for code in codes:
        rows = before.filter(pl.col(user) == users[int(code) - FIRST])  # in order of time, as the source is
        had = rows.filter(pl.col(label) == 1)[item].to_list()
        had = list(dict.fromkeys(reversed(had)))[::-1] if name == "autoencoder" else had
        lists.append(had[-6:])
        asked.append({**rows.row(-1, named=True), "history": had[-6:], item: None})
    assert min(map(len, lists)) > 0
    columns = Dataset.load(own.split / "train").columns
    rows = pl.DataFrame(asked, schema_overrides={column.name: column.polars_type for column in columns})
    rows.select(column.name for column in columns).write_parquet(tmp_path / "rows.parquet")
    batch.transform(graph, [tmp_path / "rows.parquet"], tmp_path / "features")
    features, raw = read_features(read_training(own.model)), vocabulary(graph, read_training(own.model)["label"])
    (given,) = data.batches(tmp_path / "features", features)
    told = load_answers(own.model, features).call({key: data_of(values) for key, values in given.items()})
    for place, had in enumerate(lists):
        best = [items[int(code) - FIRST] for code in np.argsort(-scores[place], kind="stable")]
        wanted = [raw[int(code) - FIRST] for code in told["item"].numpy()[place]]
        assert [one for one in best if one not in had][: len(wanted)] == wanted
    nobody, clicked = recommender.scores(np.array([2]))[0], before.filter(pl.col(label) == 1)[item]
    assert np.isfinite(nobody).sum() == len(raw), "what is in no list is not ranked"
    counts = clicked.value_counts(sort=True)
    assert items[int(nobody.argmax()) - FIRST] in counts[item].head(5).to_list(), "an empty list: by popularity"


def data_of(values: np.ndarray) -> Any:
    """As a tensor."""
    from training.tensorflow import tensorflow

    return tensorflow().constant(values)


def test_again_nothing_is_made_trained_or_measured(run: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, records = run
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("compare/*/**/*") if path.is_file()}
    assert any("split" in str(path) for path in kept)
    done = mews(*COMMAND, "--run", folder, *SMALL)
    assert done.returncode == 0, done.stderr
    assert last_json(done) == records
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not leftovers(folder)


def test_rows_that_make_no_lists_leave_them_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pl.DataFrame({"size": random.normal(size=300), "bought": random.integers(0, 2, 300)}).write_csv(
        tmp_path / "rows.csv"
    )
    columns = {"size": {"role": "numeric", "dtype": "float64"}, "bought": {"role": "label", "dtype": "int8"}}
    pipeline = {"data": {"source": "table", "path": "rows.csv", "columns": columns}, "split": {"by": "random"}}
    (tmp_path / "pipeline.yaml").write_text(json.dumps(pipeline))
    asking = Session(tmp_path / "pipeline.yaml", Run(tmp_path / "run"), [], Terminal(quiet=True, as_json=True))
    with pytest.raises(MewsError, match=r"gru4rec: these rows make no lists: ranking; expected .* user_id"):
        compare(asking, ["gru4rec"], [], None)
    found = json.loads((tmp_path / "run" / "compare" / "compare.json").read_text())
    assert [entry["status"] for entry in found["entries"]] == ["left out"]


def test_a_run_of_lists_is_refused(tmp_path: Path) -> None:
    asking = Session(None, Run(tmp_path / "run"), ["model.name=gru4rec"], Terminal(quiet=True, as_json=True))
    with pytest.raises(ConfigError, match=r"learns from rows; received model\.name gru4rec"):
        compare(asking, ["mf"], [], None)


def test_visits_without_users_are_completed_by_those_who_can(tmp_path: Path) -> None:
    visits(300).write_csv(tmp_path / "visits.csv")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.replace(", group: [visit]", ""))
    asking = Session(tmp_path / "pipeline.yaml", Run(tmp_path / "run"), [], Terminal(quiet=True, as_json=True))
    names = ["gru4rec", "autoencoder", "mf"], ["popularity", "item_knn", "bpr"]
    records = compare(asking, *names, None)
    found = json.loads((tmp_path / "run" / "compare" / "compare.json").read_text())
    status = {entry["name"]: entry["status"] for entry in found["entries"]}
    assert {name for name, said in status.items() if said == "left out"} == {"mf", "bpr"}
    assert {name for name, said in status.items() if said == "measured"} == {*names[0], *names[1]} - {"mf", "bpr"}
    test = pl.read_parquet(tmp_path / "run" / "compare" / "visits" / "data" / "split" / "test" / "*.parquet")
    assert found["data"]["users"] == test["visit"].n_unique()
    hits = {one["model"]: one for one in records if one["metric"] == "mrr@10"}
    assert hits["gru4rec"]["low"] > 0.8 > hits["popularity"]["high"], "each item follows the one before it"
    assert not {"auc", "logloss"} & {one["metric"] for one in records}
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("run/compare/*/**/*") if path.is_file()}
    assert compare(asking, *names, None) == records
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
