"""Rows that count more than others, by a weight column, by what a value of it weighs, and by class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etl.errors import ConfigError, DataError
from training import data
from training.config import ModelConfig, TrainConfig
from training.predict import predict
from training.tasks import TASKS, task_of
from training.train import Trained, train
from training.weights import Weighting, weighting

from .conftest import SMALL, rows, write_split
from .real_features import Etl, raw

CONFIG = ModelConfig(**{**SMALL, "epochs": 2})  # type: ignore[arg-type]


def noisy(count: int, seed: int) -> dict[str, Any]:
    """Every second row says the opposite of what is true, and weighs nothing."""
    made, wrong = rows(count, seed), np.arange(count) % 2 == 0
    clicked = np.where(wrong, 1 - made["clicked"], made["clicked"]).astype("int8")
    return {**made, "clicked": clicked, "weight": np.where(wrong, 0, 1).astype("float32")}


@pytest.fixture(scope="module")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighed")
    write_split(folder / "train", noisy(4000, 0))
    valid = rows(1500, 1)
    return write_split(folder / "valid", {**valid, "weight": np.ones(1500, "float32")}).parent


@pytest.fixture(scope="module")
def by_column(weighed: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(weighed, CONFIG, tmp_path_factory.mktemp("models") / "weighed", seed=3)


def auc(done: Trained) -> float:
    return done.history[-1].valid["auc"]


def test_rows_of_weight_0_teach_nothing(by_column: Trained, weighed: Path, tmp_path: Path) -> None:
    feedback = {"0": 1.0, "1": 1.0}  # all alike: half of the rows contradict the others
    alike = train(weighed, CONFIG, tmp_path / "alike", 3, settings=TrainConfig(feedback=feedback))
    assert auc(by_column) > 0.65
    assert auc(alike) < 0.6
    assert "weight" not in [feature.name for feature in data.read_inputs(weighed / "train").features]


def test_feedback_says_what_a_value_of_the_column_weighs(by_column: Trained, weighed: Path, tmp_path: Path) -> None:
    said = train(weighed, CONFIG, tmp_path / "said", 3, settings=TrainConfig(feedback={"0": 0, "1": 1}))
    assert [epoch.valid_loss for epoch in said.history] == [epoch.valid_loss for epoch in by_column.history]


def test_values_of_an_encoded_column_are_weighed_by_name(tmp_path: Path) -> None:
    etl = Etl(tmp_path)
    graph, _ = etl.fit(raw(3000, 20, 0))
    valid = raw(2000, 20, 1)
    valid = valid.filter(valid["kind"] == "view")
    features = etl.features(graph, raw(3000, 20, 0), valid, "features")
    settings = TrainConfig(feedback={"view": 3, "noise": 0})
    config = CONFIG.model_copy(update={"epochs": 4, "id_dropout": 0.0, "l2": 0.0})
    assert auc(train(features, config, tmp_path / "model", 3, settings=settings)) > 0.9
    inputs = data.read_inputs(features / "train")
    for feedback, said in (({}, "noise, view"), ({"buy": 1.0}, "noise, view")):
        with pytest.raises(ConfigError, match=said):
            weighting(features / "train", inputs, TrainConfig(feedback=feedback), TASKS["click"])
    with pytest.raises(DataError, match="received noise"):
        weighting(features / "train", inputs, TrainConfig(feedback={"view": 1.0}), TASKS["click"])


@pytest.mark.parametrize(("classes", "mean"), [({0: 1.0, 1: 8.0}, (0.6, 0.95)), ("balanced", (0.4, 0.6))])
def test_classes_are_weighed(classes: Any, mean: tuple[float, float], features: Path, tmp_path: Path) -> None:
    share = data.labels(features / "train", "clicked").mean()
    assert share < 0.4
    settings = TrainConfig(class_weight=classes)
    done = train(features, CONFIG, tmp_path / "model", 3, settings=settings)
    low, high = mean
    assert low < predict(done.folder, features / "valid").mean() < high


def test_the_weights_of_column_and_class_are_multiplied() -> None:
    weigh = Weighting("kind", {4.0: 3.0, 5.0: 0.5}, {0: 1.0, 1: 10.0})
    found = weigh.of(np.array([[0], [1], [1]], "float32"), np.array([[4], [4], [5]], "float32"))
    assert found is not None
    np.testing.assert_allclose(np.array(found), [[3], [30], [5]])


def _weight(index: Any, value: float) -> Callable[[dict[str, Any]], None]:
    def change(columns: dict[str, Any]) -> None:
        columns["weight"][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_weight(4, -1), "-1"),
        (_weight(4, np.nan), "nan"),
        (_weight(4, np.inf), "inf"),
        (_weight(slice(None), 0), "zeros"),
    ],
)
def test_weights_that_mean_nothing_are_refused(change: Callable[[Any], None], said: str, tmp_path: Path) -> None:
    columns = noisy(300, 0)
    change(columns)
    for split in ("train", "valid"):
        write_split(tmp_path / split, columns)
    with pytest.raises(DataError, match=said):
        train(tmp_path, CONFIG, tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "model", "said"),
    [
        ({"feedback": {"1": 2.0}}, "dlrm", "role weight"),
        ({"class_weight": {1: 2.0}}, "dlrm", "none for 0"),
        ({"class_weight": {0: 0.0, 1: 0.0}}, "dlrm", "only zeros"),
        ({"class_weight": "balanced"}, "gru4rec", "predicts classes"),
    ],
)
def test_settings_that_the_features_lack_are_refused(
    settings: dict[str, Any], model: str, said: str, features: Path
) -> None:
    folder = features / "train"
    with pytest.raises(ConfigError, match=said):
        weighting(folder, data.read_inputs(folder), TrainConfig(**settings), task_of(model))
