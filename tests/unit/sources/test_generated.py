import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from etl.config import ColumnConfig, DataConfig, SplitConfig
from etl.errors import ArtifactError, ConfigError
from etl.sources.auc import auc
from etl.sources.dataset import Dataset
from etl.sources.generated import best_auc
from etl.sources.parts import ROWS_PER_PART
from etl.sources.registry import open_source
from etl.sources.split import split


def generate(out: Path, seed: int = 3, **config) -> pl.DataFrame:
    return open_source(DataConfig(**config), seed).prepare(out).scan().collect()


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path):
    first = generate(tmp_path / "a", rows=2000)
    assert_frame_equal(first, generate(tmp_path / "b", rows=2000))
    assert not first.equals(generate(tmp_path / "c", seed=4, rows=2000))


def test_rows_are_in_time_order_over_eight_weeks(shop):
    times = shop.scan().collect()["timestamp"]
    assert times.is_sorted()
    assert 55 <= (times[-1] - times[0]).days <= 56


def test_more_rows_than_a_part_become_several_files(tmp_path):
    dataset = open_source(DataConfig(rows=ROWS_PER_PART + 10, users=50, items=20), 1).prepare(tmp_path / "d")
    assert [pl.scan_parquet(path).select(pl.len()).collect().item() for path in dataset.files] == [ROWS_PER_PART, 10]
    assert dataset.scan().collect()["timestamp"].is_sorted()


@pytest.mark.parametrize("seed", range(6))
def test_click_rate_and_best_auc_are_those_of_a_shop_whatever_the_seed(tmp_path, seed):
    dataset = open_source(DataConfig(rows=20_000), seed).prepare(tmp_path / "d")
    assert 0.10 < dataset.scan().collect()["clicked"].mean() < 0.25
    assert 0.75 < best_auc(dataset) < 0.87


def test_labels_are_drawn_with_the_true_probability(shop):
    rows = shop.scan().select("clicked", "true_probability").collect()
    for low in (0.0, 0.2, 0.4, 0.6):
        bin_ = rows.filter(pl.col("true_probability").is_between(low, low + 0.2))
        spread = 4 * np.sqrt(0.25 / bin_.height)
        assert bin_["clicked"].mean() == pytest.approx(bin_["true_probability"].mean(), abs=spread)


def test_ids_of_the_last_week_include_few_that_were_never_seen(shop):
    rows = shop.scan().collect()
    late = pl.col("timestamp") >= pl.datetime(2024, 2, 19)
    for name in ("user_id", "item_id"):
        new = rows.filter(late & ~pl.col(name).is_in(rows.filter(~late)[name].unique().implode()))
        assert 0.005 < new.height / rows.filter(late).height < 0.06


def test_nulls_long_tail_and_lists(shop):
    rows = shop.scan().collect()
    for name in ("country", "device", "brand", "tags", "price", "age"):
        assert 0 < rows[name].null_count() < 0.2 * rows.height, name
    assert rows["tags"].list.len().max() <= 6
    assert rows["tags"].list.len().min() == 0
    assert rows.select(pl.col("tags").list.eval(pl.element().is_null()).list.any()).to_series().sum() == 0
    counts = rows["country"].value_counts(sort=True)["count"]
    assert counts[0] > 20 * counts[-10]
    assert rows["price"].is_nan().sum() == 0


def test_the_truth_is_declared_as_no_feature(shop):
    roles = {column.name: column.role for column in shop.columns}
    assert roles["true_probability"] == "ignore"
    assert roles["clicked"] == "label"


def test_best_auc_of_a_split_is_that_of_its_own_rows(shop, tmp_path):
    splits = split(shop, SplitConfig(), tmp_path / "s", 1)
    rows = splits.test.scan().collect()
    assert best_auc(splits.test) == auc(rows["clicked"].to_numpy(), rows["true_probability"].to_numpy())


def test_auc_agrees_with_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500), rng.integers(0, 20, 500)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert np.isnan(auc(np.ones(3), np.ones(3)))


def test_columns_can_be_changed_by_the_config_and_unknown_ones_are_refused(tmp_path):
    changed = {"age": ColumnConfig(role="ignore", maximum=99)}
    dataset = open_source(DataConfig(rows=100, columns=changed), 1).prepare(tmp_path / "d")
    assert next(c for c in dataset.columns if c.name == "age").role == "ignore"
    with pytest.raises(ConfigError, match="Did you mean 'price'"):
        open_source(DataConfig(rows=100, columns={"prise": ColumnConfig(role="ignore")}), 1).prepare(tmp_path / "e")
    with pytest.raises(ConfigError, match="role item"):
        open_source(DataConfig(rows=100, columns={"age": ColumnConfig(role="item")}), 1).prepare(tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_dataset_folder_can_be_moved_and_a_damaged_one_is_refused(tmp_path):
    dataset = open_source(DataConfig(rows=100), 1).prepare(tmp_path / "d")
    (tmp_path / "d").rename(tmp_path / "moved")
    moved = Dataset.load(tmp_path / "moved")
    assert moved.rows == 100
    assert moved.columns == dataset.columns
    moved.files[0].unlink()
    with pytest.raises(ArtifactError, match=r"part_00000\.parquet"):
        Dataset.load(tmp_path / "moved")
    (tmp_path / "moved" / "dataset.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(ArtifactError):
        Dataset.load(tmp_path / "moved")
