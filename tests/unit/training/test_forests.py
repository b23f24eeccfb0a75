"""Forests as ONNX answer as the libraries that trained them, and as FIL's parameters ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import xgboost
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)

from etl.errors import ConfigError
from etl.graph import Column
from training.export.forest_libraries import is_forest, read_forest
from training.export.forests import Answer, forest_to_onnx

RANDOM = np.random.default_rng(0)
ROWS = 800
COLUMNS = [Column("user", "int64"), Column("price", "float32"), Column("ratio", "float64"), Column("kind", "int32")]
USERS, KINDS = RANDOM.integers(0, 30, ROWS), RANDOM.integers(0, 5, ROWS)
VALUES = np.stack([USERS, RANDOM.lognormal(size=ROWS), RANDOM.normal(size=ROWS), KINDS], 1).astype(np.float32)
FRAME = pd.DataFrame(VALUES, columns=[column.name for column in COLUMNS])
NUMBERS = VALUES.sum(1) * 3 + 100
BINARY = (VALUES.sum(1) + RANDOM.normal(size=ROWS) * 5 > 20).astype(np.int64)
THREE = (VALUES[:, 0] // 10).astype(np.int64)
FEW = {"n_estimators": 10}
QUIET = {**FEW, "verbose": -1}
GROUPED = xgboost.DMatrix(VALUES, BINARY, group=[ROWS])
SOFTMAX = {"objective": "multi:softmax", "num_class": 3}
RF = {**QUIET, "boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
TREE_OF_MANY = {**FEW, "multi_strategy": "multi_output_tree"}

Make = Callable[[], Any]
FORESTS: dict[str, tuple[Make, str]] = {
    "xgboost binary": (lambda: xgboost.XGBClassifier(**FEW).fit(FRAME, BINARY), "positive"),
    "xgboost regression": (lambda: xgboost.XGBRegressor(**FEW).fit(VALUES, NUMBERS), "values"),
    "xgboost poisson": (lambda: xgboost.XGBRegressor(objective="count:poisson", **FEW).fit(VALUES, NUMBERS), "values"),
    "xgboost ranking": (lambda: xgboost.train({"objective": "rank:ndcg"}, GROUPED, 5), "values"),
    "xgboost three": (lambda: xgboost.XGBClassifier(**FEW).fit(FRAME, THREE), "probabilities"),
    "xgboost softmax": (lambda: xgboost.train(SOFTMAX, xgboost.DMatrix(VALUES, THREE), 5), "class"),
    "lightgbm binary": (lambda: lightgbm.LGBMClassifier(**QUIET).fit(FRAME, BINARY), "positive"),
    "lightgbm regression": (lambda: lightgbm.LGBMRegressor(**QUIET).fit(VALUES, NUMBERS), "values"),
    "lightgbm three": (lambda: lightgbm.LGBMClassifier(**QUIET).fit(FRAME, THREE).booster_, "probabilities"),
    "sklearn binary": (lambda: RandomForestClassifier(10, random_state=0).fit(FRAME, BINARY), "class"),
    "sklearn regression": (lambda: RandomForestRegressor(10, random_state=0).fit(VALUES, NUMBERS), "values"),
    "sklearn three": (lambda: ExtraTreesClassifier(10, random_state=0).fit(FRAME, THREE + 5), "class"),
}  # fmt: skip
ANSWERS = [Answer(), Answer(predict_proba=True), Answer(output_class=True, threshold=0.3), Answer(positive=True)]


def served(model: Any, answer: Answer, target: Path, values: np.ndarray = VALUES) -> tuple[np.ndarray, np.ndarray]:
    """What the ONNX file answers, and what the library does."""
    forest = read_forest(model)
    forest_to_onnx(forest, COLUMNS, target, "f" * 64, answer)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    read = {value.name for value in session.get_inputs()}
    rows = {c.name: values[:, [place]].astype(c.dtype) for place, c in enumerate(COLUMNS) if c.name in read}
    order = [COLUMNS.index(column) for column in forest.order(COLUMNS)]
    return session.run(["output__0"], rows)[0], forest.predict(values[:, order], answer)


@pytest.mark.parametrize("name", FORESTS)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_forests_answer_as_their_libraries(name: str, tmp_path: Path) -> None:
    make, natural = FORESTS[name]
    model = make()
    assert is_forest(model)
    assert read_forest(model).mode(Answer()) == natural
    for answer in ANSWERS:
        try:
            read_forest(model).mode(answer)
        except ConfigError:
            assert natural == "values" or name == "xgboost softmax"
            continue
        found, wanted = served(model, answer, tmp_path / "forest.onnx")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        assert len(np.unique(wanted)) > 1


def test_a_tie_of_votes_goes_to_the_first_class_as_in_scikit_learn(tmp_path: Path) -> None:
    model = RandomForestClassifier(30, random_state=1).fit(VALUES, BINARY)
    shares = model.predict_proba(VALUES)[:, 1]
    found, _ = served(model, Answer(), tmp_path / "forest.onnx")
    tied = shares == 0.5
    assert tied.any()
    np.testing.assert_array_equal(found[:, 0], model.predict(VALUES))


def test_columns_are_taken_by_the_names_that_a_forest_knows(tmp_path: Path) -> None:
    model = xgboost.XGBClassifier(**FEW).fit(FRAME[["kind", "ratio"]], BINARY)
    assert [column.name for column in read_forest(model).order(COLUMNS)] == ["kind", "ratio"]
    found, _ = served(model, Answer(), tmp_path / "forest.onnx")
    np.testing.assert_allclose(found[:, 0], model.predict_proba(FRAME[["kind", "ratio"]])[:, 1], atol=1e-6)


def test_missing_values_go_where_xgboost_sends_them(tmp_path: Path) -> None:
    holes = VALUES.copy()
    holes[::3, 1] = np.nan
    model = xgboost.XGBClassifier(**FEW).fit(holes, BINARY)
    found, wanted = served(model, Answer(), tmp_path / "forest.onnx", np.where(np.isnan(holes), np.nan, holes))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: xgboost.XGBClassifier(booster="gblinear", **FEW).fit(VALUES, BINARY), "gblinear"),
        (lambda: xgboost.XGBClassifier(booster="dart", **FEW).fit(VALUES, BINARY), "dart"),
        (lambda: xgboost.XGBClassifier(objective="binary:hinge", **FEW).fit(VALUES, BINARY), "binary:hinge"),
        (lambda: xgboost.XGBRegressor(**TREE_OF_MANY).fit(VALUES, VALUES), "several targets"),
        (lambda: lightgbm.LGBMClassifier(**RF).fit(VALUES, BINARY), "rf"),
        (lambda: RandomForestRegressor(2).fit(VALUES, VALUES), "several targets"),
        (lambda: RandomForestClassifier(2).fit(VALUES, np.where(BINARY, "yes", "no")), "texts"),
        (lambda: GradientBoostingClassifier(n_estimators=2).fit(VALUES, BINARY), "GradientBoosting"),
        (lambda: 7, "int"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forests_that_are_refused(make: Make, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_forest(make())


@pytest.mark.parametrize(
    "columns", [COLUMNS[:3], [Column("item", "string"), *COLUMNS[1:]], [Column("user", "int64", True, 4), *COLUMNS[1:]]]
)
def test_columns_that_a_forest_cannot_read(columns: list[Column]) -> None:
    forest = read_forest(xgboost.XGBRegressor(n_estimators=2).fit(VALUES, NUMBERS))
    with pytest.raises(ConfigError):
        forest.order(columns)
