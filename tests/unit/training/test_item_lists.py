"""Models of item lists: what they learn, and what they answer to lists that they have not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from etl.errors import ConfigError, DataError
from training import data
from training.config import EvaluateConfig, ModelConfig
from training.evaluation.lists import evaluate_lists
from training.export.onnx import to_onnx
from training.export.ranked import misplaced
from training.list_tasks import ItemLists
from training.models.registry import build
from training.predict import load_answers, read_features
from training.tensorflow import merlin_models, quiet, tensorflow
from training.train import Epoch, Trained, read_training, train

from .conftest import FINGERPRINT

SESSIONS, CODES, LENGTH, FIRST = ("gru4rec", "transformer"), 27, 5, 3
ITEMS = np.arange(FIRST, CODES)
NEXT = np.random.default_rng(5).permutation(ITEMS)
SMALL = {
    "embedding_dim": 16,
    "units": 32,
    "batch_size": 64,
    "learning_rate": 0.02,
    "patience": 20,
    "heads": 2,
    "l2": 0.0,
}
LEARNED = {
    "gru4rec": {"epochs": 6, "top_k": 1, "exclude_history": False},
    "transformer": {
        "epochs": 6,
        "top_k": 1,
        "exclude_history": False,
        "blocks": 1,
        "full_softmax": 0,
        "sampled_items": 12,
        "tied": False,
    },
    "autoencoder": {"epochs": 8, "top_k": 4, "kl_steps": 100, "kl": 0.05},
}
Model = Callable[[str], tuple[Trained, Path]]


def sequences(count: int, seed: int) -> dict[str, Any]:
    """What follows hangs on the last item alone, so that the order has to be learned; some items are unknown."""
    random = np.random.default_rng(seed)
    history, length = random.choice(ITEMS, (count, LENGTH)), random.integers(1, LENGTH + 1, count)
    target = NEXT[history[np.arange(count), length - 1] - FIRST]
    history[random.random((count, LENGTH)) < 0.1] = 2
    history[np.arange(count), length - 1] = ITEMS[np.argsort(NEXT)][target - FIRST]
    history[np.arange(LENGTH) >= length[:, None]] = 0
    return {"history": history, "item": target}


def sets(count: int, seed: int) -> dict[str, Any]:
    """Items belong together in sixes; up to five are given, and another one is asked for."""
    random = np.random.default_rng(seed)
    sixes = ITEMS.reshape(4, 6)[random.integers(0, 4, count)]
    shuffled = random.permuted(sixes, axis=1)
    history = np.where(np.arange(LENGTH) < random.integers(2, LENGTH + 1, count)[:, None], shuffled[:, 1:], 0)
    return {"history": history, "item": shuffled[:, 0]}


def write(folder: Path, columns: dict[str, Any]) -> Path:
    """Write a split whose history and item share their codes; `country` and `price` lie beside them."""
    merlin_models()
    with quiet():
        from merlin.schema import ColumnSchema, Schema, Tags
        from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    def codes(name: str, size: int, domain: str, *tags: Any, **shape: Any) -> Any:
        bounds = {"domain": {"min": 0, "max": size - 1, "name": domain}}
        return ColumnSchema(name, dtype="int64", tags=[Tags.CATEGORICAL, *tags], properties=bounds, **shape)

    known = {
        "history": codes("history", CODES, "item_history", dims=((0, None), (LENGTH, LENGTH))),
        "item": codes("item", CODES, "item_history", Tags.ITEM_ID, Tags.TARGET),
        "country": codes("country", 6, "country"),
        "user": codes("user", 6, "user", Tags.USER_ID),
        "price": ColumnSchema("price", dtype="float32", tags=[Tags.CONTINUOUS]),
    }
    folder.mkdir(parents=True)
    schema = Schema([known[name] for name in columns])
    (folder / ".merlin").mkdir()
    TensorflowMetadata.from_merlin_schema(schema).to_json_file(str(folder / ".merlin"))
    frame = pl.DataFrame({name: values.tolist() for name, values in columns.items()})
    floats = frame.with_columns(pl.col(name).cast(pl.Float32) for name in columns if name == "price")
    floats.write_parquet(folder / "part_0.parquet", metadata={"mews.fingerprint": FINGERPRINT})
    return folder


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Features of sequences and of sets."""
    folder = tmp_path_factory.mktemp("lists")
    for made in (sequences, sets):
        for seed, (name, count) in enumerate({"train": 1600, "valid": 300, "test": 300}.items()):
            write(folder / made.__name__ / name, made(count, seed))
    return {name: folder / ("sets" if name == "autoencoder" else "sequences") for name in LEARNED}


@pytest.fixture(scope="module")
def trained(splits: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Train a model once, by name; its features beside it."""
    made: dict[str, Trained] = {}

    def get(name: str) -> tuple[Trained, Path]:
        if name not in made:
            config = ModelConfig(name=name, **{**SMALL, **LEARNED[name]})  # type: ignore[arg-type]
            made[name] = train(splits[name], config, tmp_path_factory.mktemp("models") / name, seed=1)
        return made[name], splits[name]

    return get


def untrained(name: str, folder: Path, **settings: Any) -> Any:
    """A model with weights far from 0, so that no two answers are alike."""
    inputs = data.read_inputs(folder / "train")
    made = build(inputs, ModelConfig(name=name, **{**SMALL, **settings}), seed=1)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    for weight in made.trainable_variables:
        weight.assign(random.normal(0, 0.7, weight.shape))
    return made


def answers(made: Any, lists: Any, **others: Any) -> dict[str, np.ndarray]:
    tf = tensorflow()
    columns = {name: tf.constant(values) for name, values in {"history": np.array(lists), **others}.items()}
    return {name: values.numpy() for name, values in made.answer(columns).items()}


@pytest.mark.parametrize("name", list(LEARNED))
def test_what_was_planted_is_learned_and_the_same_in_onnx(name: str, trained: Model, tmp_path: Path) -> None:
    done, own = trained(name)
    found = evaluate_lists(done.folder, own, EvaluateConfig(bootstrap=30, cutoffs=[LEARNED[name]["top_k"]]))
    metric = f"hit_rate@{LEARNED[name]['top_k']}"
    assert found.found["ranking"]["metrics"][metric]["low"] > 0.9
    assert found.found["ranking"]["baselines"]["popularity"][metric]["value"] < 0.4
    to_onnx(done.folder, tmp_path / "model.onnx")
    with quiet():
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    history = data.labels(own / "test", "item", "int64"), next(data.batches(own / "test", features_of(done.folder)))
    answered = dict(zip(outputs, session.run(None, history[1]), strict=True))
    assert_allclose(answered["score"], found.answers["score"], atol=1e-5)
    assert_array_equal(answered["item"], found.answers["item"])
    assert_array_equal(answered["known"], found.answers["known"])


def features_of(model: Path) -> tuple[data.Feature, ...]:
    return read_features(read_training(model))


@pytest.mark.parametrize("name", list(LEARNED))
def test_a_list_of_nothing_known_gets_the_items_by_popularity(name: str, splits: dict[str, Path]) -> None:
    made = untrained(name, splits[name], top_k=100)
    found = answers(made, [[0] * 5, [2, 2, 1, 0, 0], [3, 2, 0, 0, 4]])
    assert_array_equal(found["known"], [[0], [0], [2]])
    whole = pl.read_parquet(splits[name] / "train" / "part_0.parquet")
    counts = np.bincount(whole["item"].to_numpy(), minlength=CODES).astype("float64")
    if name == "autoencoder":
        given = np.concatenate(whole["history"].to_list())
        counts += np.bincount(given[given >= FIRST], minlength=CODES)
    assert_array_equal(counts[found["item"][0]], np.sort(counts[FIRST:])[::-1])
    assert_allclose(found["score"][0], (np.sort(counts[FIRST:]) + 1)[::-1] / (counts[FIRST:] + 1).sum(), rtol=1e-4)
    for output in ("item", "score"):
        assert_array_equal(found[output][0], found[output][1])
    assert (found["item"][0] != found["item"][2]).any()


@pytest.mark.parametrize("name", list(LEARNED))
def test_answers_are_items_that_are_not_in_the_list_in_the_order_of_their_scores(
    name: str, splits: dict[str, Path]
) -> None:
    random = np.random.default_rng(3)
    history = random.integers(0, CODES, (40, LENGTH))
    found = answers(untrained(name, splits[name], top_k=100), history)
    assert found["item"].shape == (40, len(ITEMS)), "no more than there are"
    assert (np.diff(found["score"], axis=1) <= 0).all()
    assert_allclose(found["score"].sum(1), 1, rtol=1e-4)
    for items, scores, given in zip(found["item"], found["score"], history, strict=True):
        assert sorted(items) == ITEMS.tolist(), "each item, and neither padding nor unknown"
        had = set(given[given >= FIRST])
        assert set(items[len(items) - len(had) :]) == had
        assert (scores[len(items) - len(had) :] == 0).all()
        assert (scores[: len(items) - len(had)] > 0).all()
    again = answers(untrained(name, splits[name], top_k=5, exclude_history=False), history)["item"]
    assert any(set(items) & set(given) for items, given in zip(again, history, strict=True))


@pytest.mark.parametrize("name", SESSIONS)
def test_what_is_no_item_changes_nothing_and_order_does(name: str, splits: dict[str, Path]) -> None:
    made = untrained(name, splits[name])
    same = answers(made, [[5, 9, 4, 0, 0], [0, 0, 5, 9, 4], [5, 2, 9, 2, 4], [1, 5, 0, 9, 4]])
    for row in (1, 2, 3):
        assert_allclose(same["score"][row], same["score"][0], atol=1e-6)
        assert_array_equal(same["item"][row], same["item"][0])
    turned = answers(made, [[5, 9, 4, 0, 0], [9, 5, 4, 0, 0]])
    assert np.abs(turned["score"][0] - turned["score"][1]).max() > 1e-4


def test_a_set_has_no_order_and_holds_each_item_once(splits: dict[str, Path]) -> None:
    found = answers(
        untrained("autoencoder", splits["autoencoder"]), [[5, 9, 4, 0, 0], [4, 2, 5, 9, 0], [9, 9, 4, 5, 4]]
    )
    for row in (1, 2):
        assert_allclose(found["score"][row], found["score"][0], atol=1e-6)
    assert found["known"].tolist() == [[3], [3], [5]]


@pytest.mark.parametrize("name", list(LEARNED))
def test_features_beside_the_list_count(name: str, tmp_path: Path) -> None:
    random, count = np.random.default_rng(0), 60
    beside = {"country": random.integers(0, 6, (count, 1)), "price": random.normal(size=(count, 1)).astype("float32")}
    columns = sequences(count, 0) | {column: values[:, 0] for column, values in beside.items()}
    write(tmp_path / "train", columns)
    made = untrained(name, tmp_path)
    scores = answers(made, columns["history"], **beside)["score"]
    for column, values in beside.items():
        others = answers(made, columns["history"], **{**beside, column: values[::-1].copy()})["score"]
        assert np.abs(scores - others).max() > 1e-3, column
    tables = [np.array(weight) for weight in made.beside.trainable_variables]
    given = {"history": columns["history"], **beside}
    made.train_step(({column: tensorflow().constant(values) for column, values in given.items()},
                     tensorflow().constant(columns["item"][:, None])))  # fmt: skip
    changed = [np.abs(weight - one).max() for weight, one in zip(made.beside.trainable_variables, tables, strict=True)]
    assert min(changed) > 0


class _Killed(BaseException):
    """Stands for the process being killed."""


def test_a_training_that_was_killed_goes_on_to_the_same_answers(trained: Model, tmp_path: Path) -> None:
    whole, own = trained("autoencoder")  # whose items are hidden, and whose vectors are drawn, at random

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise _Killed

    config = ModelConfig(name="autoencoder", **{**SMALL, **LEARNED["autoencoder"]})  # type: ignore[arg-type]
    with pytest.raises(_Killed):
        train(own, config, tmp_path / "model", seed=1, after_epoch=kill)
    resumed = train(own, config, tmp_path / "model", seed=1)
    assert resumed.resumed
    lists = {"history": tensorflow().constant(sets(50, 9)["history"])}
    made = [load_answers(done.folder, features_of(done.folder)).call(lists)["score"] for done in (whole, resumed)]
    assert_array_equal(*made)


def test_what_the_test_lists_are_is_told(trained: Model, tmp_path: Path) -> None:
    done, _ = trained("gru4rec")
    columns = sequences(40, 7)
    columns["history"][:10] = 2
    columns["item"][5:15] = 2
    for part in ("train", "test"):
        write(tmp_path / part, columns)
    found = evaluate_lists(done.folder, tmp_path, EvaluateConfig(bootstrap=0)).found
    assert (found["rows"], found["items"], found["k"]) == (40, len(ITEMS), 1)
    assert (found["empty_lists"], found["known_targets"]) == (0.25, 0.75)
    assert found["ranking"]["metrics"]["hit_rate@1"]["value"] <= 30 / 40
    assert found["ranking"]["metrics"]["hit_rate@1"]["low"] is None


def test_an_epoch_is_judged_by_hand() -> None:
    scores = np.array([[0.5, 0.3], [0.6, 0.1], [0.2, 0.1], [0.9, 0.0]])
    items = np.array([[7, 8], [7, 8], [7, 8], [7, 8]])
    loss, metrics = ItemLists().judge([(np.array([8, 5]), {"item": items[:2], "score": scores[:2]}),
                                       (np.array([2, 8]), {"item": items[2:], "score": scores[2:]})])  # fmt: skip
    # 8 is second; 5 is not answered, and a share of 0.3 is left; unknown; 8 again, with a score of 0: not answered.
    assert metrics == {"recall@2": 0.25, "mrr@2": 0.125}
    assert loss == pytest.approx(-np.mean(np.log([0.3, 0.3, 0.1])))
    assert ItemLists().judge([(np.array([8]), {"item": items[:1], "score": scores[:1] * np.nan})])[0] == np.inf


def test_items_of_equal_score_may_change_places() -> None:
    wanted, scores = np.array([[3, 4, 5, 6]]), np.array([[0.5, 0.2, 0.2, 0.1]], "float32")
    assert misplaced(np.array([[3, 5, 4, 6]]), wanted, scores) == 0
    assert misplaced(np.array([[3, 4, 5, 9]]), wanted, scores) == 0, "the last place may be shared with one left out"
    assert misplaced(np.array([[4, 3, 5, 6]]), wanted, scores) == 2
    assert misplaced(np.array([[3, 9, 5, 6]]), wanted, scores) == 1


def test_lists_that_no_model_can_learn_from_say_why(features: Path, splits: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)encoded jointly.*split\.examples"):
        train(features, ModelConfig(name="gru4rec"), tmp_path / "model")
    with pytest.raises(ConfigError, match=r"model\.heads"):
        untrained("transformer", splits["transformer"], heads=3)
    for item, error in ((np.full(20, CODES), "codes from 0 to"), (np.full(20, 2), "known items")):
        folder = tmp_path / error
        for part in ("train", "valid"):
            write(folder / part, {**sequences(20, 0), "item": item})
        with pytest.raises(DataError, match=error):
            train(folder, ModelConfig(name="transformer", **SMALL), tmp_path / "model")  # type: ignore[arg-type]
    assert not (tmp_path / "model").exists()
