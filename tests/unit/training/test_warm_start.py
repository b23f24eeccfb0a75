"""A model that begins with an earlier one's weights, whose vocabularies have grown since."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.errors import ArtifactError
from etl.fit.update import update
from training import data
from training.config import ModelConfig, TrainConfig
from training.models.registry import build
from training.models.tables import grouped_embeddings
from training.predict import predict
from training.tensorflow import quiet, tensorflow
from training.train import Trained, train
from training.warm_start import warm_start

from .conftest import FINGERPRINT, SMALL, rows, write_split
from .real_features import Etl, raw

CONFIG = ModelConfig(**{**SMALL, "name": "dcn_v2", "epochs": 3, "id_dropout": 0.0, "l2": 0.1})  # type: ignore[arg-type]
SETTINGS = TrainConfig(feedback={"view": 1, "noise": 0})
OLD, NEW = 20, 30
SELDOM = 85


@dataclass
class World:
    """An earlier model and its features, today's, and features whose codes are others."""

    first: Path
    grown: Path
    other: Path
    earlier: Trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    etl, valid = Etl(folder), raw(1500, NEW, 3)
    valid = valid.filter(valid["kind"] == "view")
    before, after = raw(4000, OLD, 1), raw(2500, NEW, 2)
    graph, statistics = etl.fit(before)
    first = etl.features(graph, before, valid, "first")
    grown = etl.features(update(graph, statistics, [etl.file(after)]).graph, after, valid, "grown")
    other = etl.features(etl.fit(after)[0], after, valid, "other")
    earlier = train(first, CONFIG, folder / "earlier", 3, settings=SETTINGS)
    return World(first, grown, other, earlier)


def fresh(features: Path, **changed: Any) -> tuple[Any, data.Inputs]:
    inputs = data.read_inputs(features / "train")
    return build(inputs, CONFIG.model_copy(update=changed), seed=9), inputs


def answers(model: Any, features: Path) -> np.ndarray:
    batches = data.batches(features / "valid", data.read_inputs(features / "train").features)
    with quiet():
        return np.concatenate([model(batch).numpy()[:, 0] for batch in batches])


def test_what_was_known_is_answered_as_before_although_the_vocabulary_has_grown(world: World) -> None:
    model, inputs = fresh(world.grown)
    begun = answers(model, world.first)
    warm = warm_start(model, inputs, world.grown, world.earlier.folder)
    assert warm.added_rows == NEW - OLD
    expected = predict(world.earlier.folder, world.first / "valid")
    np.testing.assert_allclose(answers(model, world.first), expected, atol=1e-6)
    assert np.abs(begun - expected).max() > 0.1


def test_a_warm_start_is_ahead_of_a_cold_one_and_is_described(world: World, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 1})
    settings = SETTINGS.model_copy(update={"warm_start": world.earlier.folder})
    warm = train(world.grown, config, tmp_path / "warm", 3, settings=settings)
    cold = train(world.grown, config, tmp_path / "cold", 3, settings=SETTINGS)
    assert warm.history[0].valid_loss < cold.history[0].valid_loss / 5
    described = json.loads((warm.folder / "training.json").read_text())
    assert described["warm_start"]["added_rows"] == NEW - OLD
    assert json.loads((cold.folder / "training.json").read_text())["warm_start"] is None


def test_codes_that_are_seen_seldom_are_forgotten(world: World) -> None:
    model, inputs = fresh(world.grown)
    untrained = answers(model, world.grown)
    counts = pl.read_parquet(data.parts(world.grown / "train"))
    seldom = 0
    for name, size in (("user", 20), ("item", NEW)):
        seen = counts[name].value_counts().filter(pl.col("count") >= SELDOM)
        seldom += size - len(seen)
    assert 0 < seldom < NEW
    warm = warm_start(model, inputs, world.grown, world.earlier.folder, evict_below=SELDOM)
    assert warm.forgotten_rows == seldom
    model, _ = fresh(world.grown)
    everything = warm_start(model, inputs, world.grown, world.earlier.folder, evict_below=10_000)
    assert everything.forgotten_rows == 20 + NEW
    assert not np.array_equal(answers(model, world.grown), untrained)  # layers are kept


@pytest.mark.parametrize(
    ("features", "changed", "said"),
    [
        ("other", {}, "codes that mean the same"),
        ("grown", {"top": [8]}, "other shapes"),
        ("grown", {"cross_depth": 1}, "weights"),
        ("first", {"embedding_dim": 8}, "other shapes"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    features: str, changed: dict[str, Any], said: str, world: World
) -> None:
    folder = getattr(world, features)
    model, inputs = fresh(folder, **changed)
    before = answers(model, folder)
    with pytest.raises(ArtifactError, match=said):
        warm_start(model, inputs, folder, world.earlier.folder)
    np.testing.assert_array_equal(answers(model, folder), before)


def _grouped(inputs: data.Inputs, features: tuple[data.Feature, ...], seed: int) -> Any:
    tf = tensorflow()
    tables = grouped_embeddings()(inputs, features, 4, {}, seed=seed)
    with quiet():
        tables({one.name: tf.zeros((1, one.width), "int64") for one in features})
    model = tf.keras.Model()
    model.tables = tables
    return model, tables.embeddings


def test_tables_that_lie_in_one_variable_grow_each_at_its_end(tmp_path: Path) -> None:
    features = write_split(tmp_path / "features" / "train", rows(500)).parent
    inputs = data.read_inputs(features / "train")
    codes = tuple(feature for feature in inputs.features if feature.categorical)  # user, item, tags
    earlier, old = _grouped(inputs, codes, 1)
    grown = tuple(replace(one, cardinality=(one.cardinality or 0) + 5 * (one.name != "item")) for one in codes)
    model, new = _grouped(inputs, grown, 2)
    begun = new.numpy()
    tf, module = tensorflow(), tensorflow().Module()
    module.weights = earlier.variables
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "earlier" / "saved_model"))
    facts = {"fingerprint": FINGERPRINT, "features": [one.to_json() for one in codes]}
    (tmp_path / "earlier" / "training.json").write_text(json.dumps(facts))
    warm = warm_start(model, replace(inputs, features=grown), features, tmp_path / "earlier", evict_below=1)
    start = old_start = 0
    for one, more in zip(codes, grown, strict=True):
        size, new_size = one.cardinality or 0, more.cardinality or 0
        seen = np.unique(
            pl.read_parquet(features / "train" / "*.parquet")[one.name].explode(empty_as_null=False).to_numpy()
        )
        kept = np.isin(np.arange(size), seen) | (np.arange(size) < 3)
        table = new.numpy()[start : start + new_size]
        np.testing.assert_array_equal(table[:size][kept], old.numpy()[old_start : old_start + size][kept])
        np.testing.assert_array_equal(table[size:], begun[start + size : start + new_size])
        start, old_start = start + new_size, old_start + size
    assert warm.added_rows == 10
