"""Trained models as recommenders, and what is said of them on held-out rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from etl.config import DataConfig, SplitConfig
from etl.errors import ArtifactError, ConfigError, DataError
from etl.sources.dataset import Dataset
from etl.sources.movielens import MovieLens
from etl.sources.split import split
from training import baselines
from training.config import EvaluateConfig
from training.evaluation import interactions
from training.evaluation.held_out import judge, sliced
from training.evaluation.ranking import rank
from training.evaluation.recommender import latest, open_model
from training.inputs import Feature
from training.predict import load, predict, read_features
from training.train import Trained, read_training

from .conftest import ITEMS, USERS, rows, write_split

FEW = EvaluateConfig(bootstrap=20, cutoffs=[3, 5], negatives=5)


@pytest.fixture(scope="module")
def dlrm(trained: Callable[[str], Trained]) -> Path:
    return trained("dlrm").folder


def test_a_model_of_rows_is_asked_for_every_pair(dlrm: Path, features: Path) -> None:
    recommender = open_model(dlrm, [features / "train", features / "valid"])
    assert recommender.name == "dlrm"
    users = np.array([3, 17, USERS - 1])
    scores = recommender.scores(users)
    assert scores.shape == (3, ITEMS)
    assert np.isneginf(scores[:, :3]).all()
    columns = read_features(read_training(dlrm))
    last = pl.concat(pl.read_parquet(features / name / "*.parquet") for name in ("train", "valid"))
    last = last.group_by("item", maintain_order=True).last().sort("item")
    pairs = {
        "user": np.repeat(users, ITEMS - 3)[:, None],
        "item": np.tile(np.arange(3, ITEMS), 3)[:, None],
        "tags": np.tile(np.array(last["tags"].to_list()), (3, 1)),
        "price": np.tile(last["price"].to_numpy(), 3)[:, None],
    }
    np.testing.assert_allclose(scores[:, 3:].ravel(), load(dlrm, columns)(pairs), atol=1e-6)


def test_the_vectors_of_two_towers_rank_as_the_scores_of_rows_do(
    trained: Callable[[str], Trained], features: Path
) -> None:
    model = trained("mf").folder
    recommender = open_model(model, [features / "train"])
    assert type(recommender).__name__ == "TwoTowers"
    users = np.arange(3, 9)
    ranks = np.argsort(-recommender.scores(users)[:, 3:], axis=1)
    columns = read_features(read_training(model))
    for place, user in enumerate(users):
        row = {each.name: np.zeros((ITEMS - 3, each.width), each.dtype) for each in columns}
        row |= {"user": np.full((ITEMS - 3, 1), user), "item": np.arange(3, ITEMS)[:, None]}
        assert (np.argsort(-load(model, columns)(row)) == ranks[place]).mean() > 0.9  # float32 ties may swap


def test_the_latest_row_of_a_code_gives_its_features(tmp_path: Path) -> None:
    columns = {
        "user": [3, 4, 3],
        "item": [5, 5, 6],
        "age": [1.0, 2.0, 3.0],
        "price": [9.0, 8.0, 7.0],
        "hour": [4, 4, 5],
    }
    later = {"user": [4], "item": [7], "age": [5.0], "price": [6.0], "hour": [5]}
    for name, values in (("train", columns), ("valid", later)):
        (tmp_path / name).mkdir()
        pl.DataFrame(values).write_parquet(tmp_path / name / "part_0.parquet")
    given = (
        Feature("user", None, 6, ("id", "user")),
        Feature("item", None, 8, ("id", "item")),
        Feature("age", None, None, ("user",)),
        Feature("price", None, None, ("item",)),
        Feature("hour", None, 9),
    )
    table = latest([tmp_path / "train", tmp_path / "valid"], given)
    assert table.users["age"][:, 0].tolist() == [0, 0, 0, 3, 5, 0]
    assert table.items["price"][:, 0].tolist() == [0, 0, 0, 0, 0, 8, 7, 6]
    assert table.context["hour"].tolist() == [[4]]
    assert np.flatnonzero(table.candidates).tolist() == [5, 6]  # 7 is in valid alone


def test_a_model_is_judged_by_rankings_lists_and_slices(dlrm: Path, features: Path) -> None:
    scores = predict(dlrm, features / "test")
    judged = judge(dlrm, features, scores, FEW)
    ranking = judged.found["ranking"]
    assert ranking["users"] == len(judged.per_user["users"]) == ranking["users_held_out"]
    assert ranking["constant"] == []  # every feature is the user's or the item's
    assert set(ranking["baselines"]) == {"popularity", "item_knn"}
    for name, found in ranking["metrics"].items():
        assert found["low"] <= found["value"] <= found["high"]
        assert found["value"] == pytest.approx(judged.per_user[name].mean())
    assert ranking["sampled"]["negatives"] == 5
    assert "5 items drawn" in ranking["sampled"]["protocol"]
    # The label depends on columns of the row, which only the ranking of a user's own rows sees.
    shown = ranking["shown"]
    assert shown["metrics"]["ndcg@5"]["low"] > shown["baselines"]["popularity"]["ndcg@5"]["high"]
    assert judged.found["beyond_accuracy"]["coverage"]["value"] > 0
    assert {each["by"] for each in judged.found["slices"]["rows"]} >= {"user", "item", "item popularity"}
    assert {each["by"] for each in judged.found["slices"]["items"]} >= {"item", "item popularity"}
    json.dumps(judged.found, allow_nan=False)
    assert judged.found == judge(dlrm, features, scores, FEW).found


def test_users_are_sampled_and_the_sample_is_told(dlrm: Path, features: Path) -> None:
    config = EvaluateConfig(bootstrap=0, ranking_users=10, baselines=["popularity"])
    scores = predict(dlrm, features / "test")
    ranking = judge(dlrm, features, scores, config).found["ranking"]
    assert (ranking["users"], ranking["users_held_out"] > 10) == (10, True)
    none = judge(dlrm, features, scores, config.model_copy(update={"ranking_users": 0}))
    assert none.found["ranking"] == {"reason": "evaluate.ranking_users is 0"}


def test_why_there_is_no_ranking_is_said(dlrm: Path, features: Path, tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / name).symlink_to(features / name)
    quiet = rows(300, 8) | {"clicked": np.zeros(300, "int8")}
    write_split(tmp_path / "test", quiet)
    found = judge(dlrm, tmp_path, np.full(300, 0.5), FEW).found
    assert "expected a known user with a new, known item" in found["ranking"]["reason"]
    assert {each["reason"] for each in found["slices"]["rows"]} <= {"one class only", "fewer than 50 rows"}


def test_features_of_another_graph_are_refused(dlrm: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "train", rows(50), fingerprint="cd" * 32)
    with pytest.raises(ArtifactError, match="fingerprint"):
        open_model(dlrm, [tmp_path / "train"])


def test_a_score_for_every_row_is_needed(dlrm: Path, features: Path) -> None:
    with pytest.raises(DataError, match="one for each of 2000 rows"):
        judge(dlrm, features, np.zeros(5), FEW)


def test_slices_are_columns_with_few_codes_or_those_asked_for() -> None:
    given = (
        Feature("user", None, 50, ("id", "user")),
        Feature("country", None, 60, ("user",)),
        Feature("town", None, 900, ("user",)),
        Feature("brand", None, 30, ("item",)),
        Feature("tags", 3, 12, ("user",)),
    )
    assert [each.name for each in sliced(given, None)] == ["country"]
    assert [each.name for each in sliced(given, ["brand", "town"])] == ["brand", "town"]
    with pytest.raises(ConfigError, match="some of user, country, town, brand; received tags"):
        sliced(given, ["tags"])


def _movielens(folder: Path) -> Path:
    """ratings.dat, movies.dat and users.dat of 120 users in three kinds and 60 films."""
    random = np.random.default_rng(6)
    folder.mkdir()
    lines, time = [], 978_300_000
    for _ in range(30):
        for user in random.permutation(120) + 1:
            film = 1 + int(user) % 3 * 20 + int(20 * random.random() ** 1.5)
            time += int(random.integers(1, 60))
            lines.append(f"{user}::{film}::{random.integers(1, 6)}::{time}\n")
    pairs = {line.rsplit("::", 2)[0]: line for line in lines}  # a user rates a film once
    (folder / "ratings.dat").write_text("".join(pairs.values()), encoding="latin-1")
    films = [f"{film}::Film {film} (19{film + 30})::Drama|Comedy\n" for film in range(1, 61)]
    (folder / "movies.dat").write_text("".join(films), encoding="latin-1")
    people = [f"{user}::{'FM'[user % 2]}::25::{user % 20}::00000\n" for user in range(1, 121)]
    (folder / "users.dat").write_text("".join(people), encoding="latin-1")
    return folder


def test_movielens_1m_through_leave_one_out_to_hit_rate_among_sampled_negatives(tmp_path: Path) -> None:
    config = DataConfig(source="movielens", path=_movielens(tmp_path / "ml-1m"))
    dataset = MovieLens(config).prepare(tmp_path / "raw")
    parts = split(dataset, SplitConfig(by="last-per-user"), tmp_path / "split", seed=1).parts
    folder = _encoded(parts, tmp_path / "features")
    pair = interactions.ids(
        (Feature("user_id", None, 123, ("id", "user")), Feature("item_id", None, 63, ("id", "item")))
    )
    train, valid, test = (
        interactions.read([folder / name], pair) for name in parts
    )  # every rating, whatever its height
    asked = interactions.cases(train + valid, test, interactions.candidates(train))
    assert len(asked) == 120 - asked.left_out["users_without_positives"]
    assert (asked.sizes == 1).all()
    ranked = rank(baselines.fit("als", train, seed=1), asked, cutoffs=(10,), negatives=30, seed=2)
    popular = rank(baselines.fit("popularity", train), asked, cutoffs=(10,), negatives=30, seed=2)
    assert ranked.fewest_negatives == 30
    assert ranked.sampled["hit_rate@10"].mean() > popular.sampled["hit_rate@10"].mean() + 0.3
    assert ranked.sampled["ndcg@10"].mean() > ranked.metrics["ndcg@10"].mean()  # drawn negatives flatter


def _encoded(parts: Mapping[str, Dataset], out: Path) -> Path:
    """Write user_id, item_id and liked of each part with codes from 3 on; 2 for what train does not hold."""
    train = parts["train"].scan().collect()
    for name, part in parts.items():
        frame = part.scan().collect()
        for key in ("user_id", "item_id"):
            codes = train.select(pl.col(key).unique().sort()).with_row_index("code", offset=3)
            frame = frame.join(codes, on=key, how="left", maintain_order="left")
            frame = frame.with_columns(pl.col("code").fill_null(2).cast(pl.Int64).alias(key)).drop("code")
        (out / name).mkdir(parents=True)
        frame.select("user_id", "item_id", "liked").write_parquet(out / name / "part_0.parquet")
    return out
