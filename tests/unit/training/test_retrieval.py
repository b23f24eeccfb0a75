"""Two-sided models on a planted world: users and items of five groups, a few items of each far more popular."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest

from etl.errors import ArtifactError, ConfigError
from training import data
from training.config import ModelConfig
from training.export.onnx import to_onnx
from training.export.towers import towers, towers_to_onnx, write_item_vectors
from training.models.negatives import draw, hardest, others, read_catalogue, semi_hard
from training.models.registry import build
from training.predict import predict
from training.tensorflow import merlin_models, quiet, tensorflow
from training.train import train

FIRST, USERS, ITEMS, GROUPS, LENGTH = 3, 60, 100, 5, 4
FINGERPRINT = "cd" * 32
CONFIG: dict[str, Any] = {
    "embedding_dim": 8,
    "top": [16],
    "batch_size": 256,
    "learning_rate": 0.03,
    "l2": 0.1,
    "epochs": 4,
    "patience": 4,
}
UNKNOWN = {"id_dropout": 0.5}
"""Learn from rows without the user's id, too."""
RANK = np.arange(ITEMS) // GROUPS  # within its group, 0 the most popular
GROUP = np.arange(ITEMS) % GROUPS
POPULARITY = 1 / (1 + RANK)


def chances(group: int) -> np.ndarray:
    """How likely a user of this group chooses each item."""
    own = POPULARITY * (group == GROUP)
    return 0.9 * own / own.sum() + 0.1 * POPULARITY / POPULARITY.sum()


def world(count: int, seed: int) -> dict[str, Any]:
    """Half of the rows are choices, the others items that were only shown; a user's group is the code's remainder."""
    random, each = np.random.default_rng(seed), np.stack([chances(group) for group in range(GROUPS)])
    user = random.integers(0, USERS, count)
    label = random.integers(0, 2, count)
    chosen = np.array([random.choice(ITEMS, p=each[one % GROUPS]) for one in user])
    item = np.where(label == 1, chosen, random.integers(0, ITEMS, count))
    past = np.stack([random.choice(ITEMS, LENGTH, p=each[one % GROUPS]) for one in user]) + FIRST
    past[np.arange(LENGTH) >= random.integers(1, LENGTH + 1, (count, 1))] = 0
    return {
        "user": user + FIRST,
        "history": past,
        "item": item + FIRST,
        "shelf": (item % 7) + FIRST,
        "weight": (item / ITEMS).astype("float32"),
        "hour": random.integers(FIRST, 27, count),
        "clicked": label.astype("int8"),
    }


def write(folder: Path, columns: dict[str, Any]) -> None:
    """One split of two parts, with Merlin's schema."""
    folder.mkdir(parents=True)
    frame = pl.DataFrame({name: v.tolist() if v.ndim == 2 else v for name, v in columns.items()})
    half = len(frame) // 2
    for number, part in enumerate((frame[:half], frame[half:])):
        part.write_parquet(folder / f"part_{number}.parquet", metadata={"mews.fingerprint": FINGERPRINT})
    merlin_models()
    with quiet():
        from merlin.schema import ColumnSchema, Schema, Tags
        from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

        def codes(name: str, size: int, *tags: Any, **shape: Any) -> Any:
            domain = {"domain": {"min": 0, "max": size - 1, "name": name}}
            return ColumnSchema(name, dtype="int64", tags=[Tags.CATEGORICAL, *tags], properties=domain, **shape)

        schema = [
            codes("user", USERS + FIRST, Tags.USER_ID),
            codes("history", ITEMS + FIRST, Tags.USER, dims=((0, None), (LENGTH, LENGTH))),
            codes("item", ITEMS + FIRST, Tags.ITEM_ID),
            codes("shelf", 7 + FIRST, Tags.ITEM),
            ColumnSchema("weight", dtype="float32", tags=[Tags.CONTINUOUS, Tags.ITEM]),
            codes("hour", 27),
            ColumnSchema("clicked", dtype="int8", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION]),
        ]
        if "visits" in columns:
            schema.append(ColumnSchema("visits", dtype="float32", tags=[Tags.CONTINUOUS, Tags.USER]))
        (folder / ".merlin").mkdir()
        TensorflowMetadata.from_merlin_schema(Schema(schema)).to_json_file(str(folder / ".merlin"))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, valid and test splits of the world."""
    folder = tmp_path_factory.mktemp("world")
    for seed, (name, count) in enumerate({"train": 6000, "valid": 1000, "test": 1500}.items()):
        write(folder / name, world(count, seed))
    return folder


Train = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train a model once, by name and changes of the configuration."""
    made: dict[str, Path] = {}

    def get(name: str, **changes: Any) -> Path:
        key = f"{name} {changes}"
        if key not in made:
            config = ModelConfig(name=name, **{**CONFIG, **changes})
            made[key] = train(features, config, tmp_path_factory.mktemp("models") / name, seed=3).folder
        return made[key]

    return get


def vectors(model: Path, features: Path, changes: dict[str, Any] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The users' vectors of the test rows with label 1, and the vector of every item."""
    found, tf = towers(model), tensorflow()
    rows = columns(features / "test", found["user"].features)
    rows |= {name: np.full_like(rows[name], value) for name, value in (changes or {}).items()}
    chosen = data.labels(features / "test", "clicked") == 1
    item = next(feature for feature in found["item"].features if feature.name == "item")
    catalogue = read_catalogue(features / "train", found["item"].features, item, "clicked")
    known = {name: tf.constant(values[FIRST:]) for name, values in catalogue.features.items()}
    users = found["user"].call({name: tf.constant(values[chosen]) for name, values in rows.items()})["vector"]
    return users.numpy(), found["item"].call(known)["vector"].numpy()


def columns(split: Path, wanted: tuple[data.Feature, ...]) -> dict[str, np.ndarray]:
    """All rows of a split."""
    found = list(data.batches(split, wanted))
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def hit_rate(scores: np.ndarray, features: Path, k: int = 10) -> float:
    """Share of the chosen test rows whose item is among the k that score highest."""
    frame = pl.concat([pl.read_parquet(path) for path in data.parts(features / "test")])
    item = frame.filter(pl.col("clicked") == 1)["item"].to_numpy() - FIRST
    best = np.argsort(-scores, 1)[:, :k]
    return float((best == item[:, None]).any(1).mean())


def popularity(features: Path) -> float:
    """The hit rate of the ten items that training rows chose most often."""
    frame = pl.concat([pl.read_parquet(path) for path in data.parts(features / "train")])
    item = frame.filter(pl.col("clicked") == 1)["item"].to_numpy() - FIRST
    chosen = int((pl.read_parquet(features / "test" / "*.parquet")["clicked"] == 1).sum())
    return hit_rate(np.tile(np.bincount(item, minlength=ITEMS), (chosen, 1)), features)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("two_tower", {}),
        ("two_tower", {"negatives": {"strategy": "hard", "count": 40, "explicit": True}}),
        ("youtube_dnn", UNKNOWN),
        ("triplet", {}),
        ("triplet", {"pair_loss": "margin", "negatives": {"strategy": "semi_hard"}}),
    ],
    ids=["two_tower", "two_tower hard", "youtube_dnn", "triplet bpr", "triplet margin"],
)
def test_each_finds_what_its_users_choose(name: str, changes: dict[str, Any], trained: Train, features: Path) -> None:
    users, items = vectors(trained(name, **changes), features)
    assert hit_rate(users @ items.T, features) > 1.3 * popularity(features)


def test_what_grows_with_time_does_not_give_the_chosen_item_away(tmp_path: Path) -> None:
    """Counts of the user and of the item that both grow tell which rows are of one day, not what the user chooses."""
    first = 0
    for seed, (name, count) in enumerate({"train": 6000, "valid": 1000, "test": 1500}.items()):
        day = ((first + np.arange(count)) / 6000).astype("float32")
        write(tmp_path / name, world(count, seed) | {"weight": day, "visits": day})
        first += count
    long = {"top": [64, 32], "batch_size": 1024, "learning_rate": 0.01, "epochs": 8}
    trained = train(tmp_path, ModelConfig(name="two_tower", **{**CONFIG, **long}), tmp_path / "model", seed=3)
    users, items = vectors(trained.folder, tmp_path)
    assert hit_rate(users @ items.T, tmp_path) > 1.3 * popularity(tmp_path)


def test_a_history_serves_users_that_training_did_not_know(trained: Train, features: Path) -> None:
    model = trained("youtube_dnn", **UNKNOWN)
    users, items = vectors(model, features, {"user": 2})
    assert hit_rate(users @ items.T, features) > 1.3 * popularity(features)


def test_log_q_gives_popular_items_their_due(trained: Train, features: Path) -> None:
    """In-batch negatives are popular ones: uncorrected, an item is pushed down as often as it is chosen."""

    def slope(log_q: bool) -> float:
        model = trained("two_tower", **({} if log_q else {"negatives": {"log_q": False}}))
        users, items = vectors(model, features)
        frame = pl.read_parquet(features / "test" / "*.parquet").filter(pl.col("clicked") == 1)
        groups, scores = (frame["user"].to_numpy() - FIRST) % GROUPS, users @ items.T
        found = [
            np.corrcoef(row[group == GROUP], np.log(POPULARITY[group == GROUP]))[0, 1]
            for row, group in zip(scores, groups, strict=True)
        ]
        return float(np.mean(found))

    assert slope(True) > 0.6
    assert slope(False) < slope(True) - 0.3


@pytest.mark.parametrize("strategy", ["uniform", "popularity"])
def test_items_are_drawn_as_often_as_the_strategy_says(strategy: Any, features: Path) -> None:
    tf, wanted = tensorflow(), data.read_inputs(features / "train").features
    item = next(feature for feature in wanted if feature.name == "item")
    catalogue = read_catalogue(features / "train", data.of_side(wanted, "item"), item, "clicked")
    frame = pl.concat([pl.read_parquet(path) for path in data.parts(features / "train")])
    chosen = np.bincount(frame.filter(pl.col("clicked") == 1)["item"], minlength=ITEMS + FIRST)
    weights = (chosen + 1.0) ** (0.75 if strategy == "popularity" else 0)
    weights[:FIRST] = 0  # padding, null and unknown are in no row
    assert np.allclose(catalogue.chances(strategy), weights / weights.sum())
    running, count = tf.constant(np.cumsum(weights / weights.sum())), 50_000
    drawn = draw(running / running[-1], count, 7, tf.constant(1, "int64")).numpy()
    expected = count * weights / weights.sum()
    assert (np.abs(np.bincount(drawn, minlength=len(weights)) - expected) <= 5 * np.sqrt(expected)).all()
    again, later = (draw(running / running[-1], count, 7, tf.constant(step, "int64")).numpy() for step in (1, 2))
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, later)


def test_the_catalogue_has_each_item_as_its_last_row_says(features: Path) -> None:
    wanted = data.read_inputs(features / "train").features
    item = next(feature for feature in wanted if feature.name == "item")
    # The hour differs from row to row; here it stands for a property of the item that changes.
    catalogue = read_catalogue(features / "train", [f for f in wanted if f.name in ("hour", "shelf")], item, "clicked")
    frame = pl.concat([pl.read_parquet(path) for path in data.parts(features / "train")])
    last = frame.group_by("item", maintain_order=True).last().sort("item")
    codes = last["item"].to_numpy()
    assert np.array_equal(catalogue.items, codes)
    assert np.array_equal(catalogue.features["hour"][codes, 0], last["hour"].to_numpy())
    assert catalogue.rate == pytest.approx(frame["clicked"].mean())


def test_what_may_count_and_what_is_hard() -> None:
    tf = tensorflow()
    codes, users = tf.constant([5, 6, 5, 7]), tf.constant([1, 1, 2, 3])
    assert others(codes, codes).numpy().tolist() == [
        [False, True, False, True],
        [True, False, True, True],
        [False, True, False, True],
        [True, True, True, False],
    ]
    allowed = others(codes, codes, users, users)
    assert allowed.numpy()[0].tolist() == [False, False, False, True]  # item 6 was chosen by the same user
    scores = tf.constant([[9.0, 0.5, 0.9, 0.2]] * 4)
    assert hardest(scores, others(codes, codes), 2)[0].numpy()[0].tolist() == pytest.approx([0.5, 0.2])
    found = semi_hard(tf.constant([0.6, 0.1, 1.0, 1.0]), scores, others(codes, codes)).numpy()[:, 0]
    assert found.tolist() == pytest.approx([0.5, 0.2, 0.5, 0.9])  # row 2: all are harder, so the least of them


class _Killed(BaseException):
    """Stands for the process being killed."""


def test_a_resumed_training_draws_the_same(features: Path, tmp_path: Path) -> None:
    config = ModelConfig(name="youtube_dnn", **{**CONFIG, **UNKNOWN, "epochs": 2, "batch_size": 2048})

    def kill_in_epoch_two(what: str, *_: Any) -> None:
        if what.startswith("epoch 2"):
            raise _Killed

    whole = train(features, config, tmp_path / "whole", seed=5)
    with pytest.raises(_Killed):
        train(features, config, tmp_path / "parts", seed=5, progress=kill_in_epoch_two)
    done = train(features, config, tmp_path / "parts", seed=5)
    assert done.resumed
    assert [epoch.valid_loss for epoch in done.history] == [epoch.valid_loss for epoch in whole.history]
    scores = [predict(folder.folder, features / "test") for folder in (done, whole)]
    assert np.array_equal(*scores)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("two_tower", {}), ("youtube_dnn", UNKNOWN), ("triplet", {})],
    ids=["two_tower", "youtube_dnn", "triplet"],
)
def test_towers_in_onnx_answer_as_the_model_does(
    name: str, changes: dict[str, Any], trained: Train, features: Path, tmp_path: Path
) -> None:
    model, kept = trained(name, **changes), towers(trained(name, **changes))
    files = towers_to_onnx(model, tmp_path / "towers")
    made = {}
    for side, path in files.items():
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        rows = columns(features / "test", kept[side].features)
        assert {value.name for value in session.get_inputs()} <= set(rows)
        asked = {value.name: rows[value.name] for value in session.get_inputs()}
        (made[side],) = session.run(["vector"], asked)
        wanted = kept[side].call({name: tensorflow().constant(values) for name, values in rows.items()})["vector"]
        assert np.abs(made[side] - wanted.numpy()).max() <= 1e-5
        assert session.get_modelmeta().custom_metadata_map["mews.fingerprint"] == FINGERPRINT
    dots, scores = (made["user"] * made["item"]).sum(1), predict(model, features / "test")
    order = np.argsort(dots)
    assert (np.diff(scores[order]) >= -1e-6).all()
    assert scores[order[-1]] > scores[order[0]]


def test_what_is_served_holds_nothing_of_what_training_drew_from(trained: Train, tmp_path: Path) -> None:
    to_onnx(trained("triplet"), tmp_path / "model.onnx")
    held = {tuple(value.dims) for value in onnx.load(tmp_path / "model.onnx").graph.initializer}
    codes = ITEMS + FIRST
    assert any(len(dims) == 2 and dims[0] >= codes and dims[1] == CONFIG["embedding_dim"] for dims in held), "tables"
    assert not held & {(codes,), (codes, 1)}  # chances, features of the items


def test_item_vectors_are_those_of_the_item_graph(trained: Train, features: Path, tmp_path: Path) -> None:
    model = trained("two_tower")
    assert write_item_vectors(model, features / "train", tmp_path / "vectors.parquet") == ITEMS
    frame = pl.read_parquet(tmp_path / "vectors.parquet")
    assert frame["item"].to_list() == list(range(FIRST, ITEMS + FIRST))
    assert np.allclose(frame["vector"].to_numpy(), vectors(model, features)[1], atol=1e-6)
    write(tmp_path / "other", world(10, 0))
    for path in (tmp_path / "other").glob("*.parquet"):
        pl.read_parquet(path).write_parquet(path, metadata={"mews.fingerprint": "ef" * 32})
    with pytest.raises(ArtifactError, match="efefefef"):
        write_item_vectors(model, tmp_path / "other", tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


def test_features_without_sides_and_strategies_without_sense_are_refused(features: Path) -> None:
    inputs = data.read_inputs(features / "train")
    bare = data.Inputs(inputs.features[-1:], inputs.label, inputs.schema, inputs.rows, folder=inputs.folder)
    with pytest.raises(ConfigError, match="item id"):
        build(bare, ModelConfig(name="two_tower"), 0)
    for name, strategy in (("two_tower", "semi_hard"), ("triplet", "hard")):
        with pytest.raises(ConfigError, match=strategy):
            build(inputs, ModelConfig(name=name, negatives={"strategy": strategy}), 0)
