"""Implicit feedback: what is drawn beside each rating, and how the last one of every user is held out."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from etl.config import DataConfig, SplitConfig
from etl.sources.movielens import MovieLens
from etl.sources.split import split
from etl.sources.unrated import Unrated

USERS, FILMS, NEGATIVES = 30, 50, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ml-1m")
    random = np.random.default_rng(1)
    rated = [(user, film) for user in range(1, USERS + 1) for film in random.permutation(FILMS)[:8] + 1]
    times = random.permutation(len(rated))
    lines = [
        f"{user}::{film}::{film % 5 + 1}::{978_300_000 + time}\n"
        for (user, film), time in zip(rated, times, strict=True)
    ]
    (made / "ratings.dat").write_text("".join(lines), encoding="latin-1")
    films = [f"{film}::Film {film} (1990)::Drama\n" for film in range(1, FILMS + 1)]
    (made / "movies.dat").write_text("".join(films), encoding="latin-1")
    return made


def _implicit(folder: Path, out: Path, seed: int = 3) -> MovieLens:
    return MovieLens(DataConfig(source="movielens", path=folder, feedback="implicit", negatives=NEGATIVES), seed)


def test_each_rating_is_followed_by_items_not_rated_so_far(folder: Path, tmp_path: Path) -> None:
    rows = _implicit(folder, tmp_path).prepare(tmp_path / "raw").scan().collect()
    assert rows["liked"].to_list() == [1, 0, 0, 0, 0] * (USERS * 8)
    assert rows["timestamp"].is_sorted()
    had: set[tuple[int, int]] = set()
    for user, item, liked in rows.select("user_id", "item_id", "liked").iter_rows():
        if liked:
            had.add((user, item))
        assert liked or (user, item) not in had
    later = rows.filter(pl.col("liked") == 0).join(
        rows.filter(pl.col("liked") == 1), on=["user_id", "item_id"], how="semi"
    )
    assert later.height, "what is held out later must not be told by its absence"
    again = _implicit(folder, tmp_path).prepare(tmp_path / "again").scan().collect()
    assert again.equals(rows)


def test_the_last_positive_is_held_out_with_its_negatives(folder: Path, tmp_path: Path) -> None:
    dataset = _implicit(folder, tmp_path).prepare(tmp_path / "raw")
    parts = split(dataset, SplitConfig(by="last-per-user"), tmp_path / "split", seed=1).parts
    frames = {name: part.scan().collect() for name, part in parts.items()}
    for name in ("valid", "test"):
        assert frames[name]["liked"].sum() == frames[name]["user_id"].n_unique() == USERS
        assert frames[name].height == USERS * (NEGATIVES + 1)
    whole = dataset.scan().collect().filter(pl.col("liked") == 1)
    last = whole.group_by("user_id").agg(pl.col("item_id").last()).sort("user_id")
    held = frames["test"].filter(pl.col("liked") == 1).select("user_id", "item_id").sort("user_id")
    assert held.equals(last)


def test_who_has_everything_is_told_from_nothing() -> None:
    time = datetime(2020, 1, 1)
    rows = pl.DataFrame(
        {
            "user_id": [1, 1, 1, None],
            "item_id": [5, 6, 7, 5],
            "timestamp": [time + timedelta(seconds=n) for n in range(4)],
        }
    ).with_columns(liked=pl.lit(0, pl.Int8))
    made = Unrated.of(rows.lazy(), 0).after(rows, 0, 3, "liked")
    kept = made.with_row_index("place").group_by("timestamp", maintain_order=True).agg(pl.col("item_id"))
    assert [len(items) for items in kept["item_id"]] == [4, 4, 1, 1]  # of the second, only item 7 is left to draw
    assert set(kept["item_id"][1].to_list()) == {6, 7}
