"""Every model of the click and multi families: what it learns, and what it is once exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from etl.errors import ConfigError, DataError
from training import data
from training.config import EvaluateConfig, ModelConfig, NegativesConfig
from training.evaluation.clicks import evaluate_model
from training.export.onnx import to_onnx
from training.export.towers import towers_to_onnx
from training.models.catalog import MODELS
from training.models.crosses import crosses
from training.models.registry import build, builder
from training.predict import predict, read_features
from training.tensorflow import quiet, tensorflow
from training.train import Trained, read_training, train

from .conftest import SMALL, rows, write_split

CLICK = ("deepfm", "wide_deep", "mf", "deep_mf", "deep_mf_meta")
MULTI = ("mmoe", "ple")
WIDE = {"wide_deep": {"crosses": [["user", "item"]], "cross_buckets": 50}}
EXPERTS = {"expert": [8], "experts": 2, "label_experts": 1, "levels": 1}


def settings(name: str, **more: Any) -> ModelConfig:
    return ModelConfig(
        **{**SMALL, "name": name, "epochs": 2, "id_dropout": 0.0, **EXPERTS, **WIDE.get(name, {}), **more}
    )  # type: ignore[arg-type]


def two_labels(count: int, seed: int) -> dict[str, Any]:
    """`bought` follows from `clicked`, and hangs on the item besides."""
    columns, random = rows(count, seed), np.random.default_rng(seed + 100)
    chance = np.where(columns["clicked"] == 1, 0.5, 0.05) + 0.3 * (columns["item"] % 2)
    return {**columns, "bought": (random.random(count) < chance).astype("int8")}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    for seed, (name, count) in enumerate({"train": 3000, "valid": 800, "test": 1000}.items()):
        write_split(folder / name, two_labels(count, seed))
    return folder


@pytest.fixture(scope="module")
def model_of(
    features: Path, several: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Trained, Path]]:
    """Train a model once, by name; its features beside it."""
    made: dict[str, tuple[Trained, Path]] = {}

    def get(name: str) -> tuple[Trained, Path]:
        if name not in made:
            own = several if name in MULTI else features
            made[name] = train(own, settings(name), tmp_path_factory.mktemp("models") / name, seed=3), own
        return made[name]

    return get


def all_rows(folder: Path, model: Path) -> dict[str, Any]:
    found = list(data.batches(folder, read_features(read_training(model))))
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_catalog_has_a_builder(name: str) -> None:
    assert callable(builder(name))


@pytest.mark.parametrize("name", CLICK + MULTI)
def test_a_trained_model_beats_the_constant_and_is_the_same_in_onnx(
    name: str, model_of: Callable[[str], tuple[Trained, Path]], tmp_path: Path
) -> None:
    trained, own = model_of(name)
    found = evaluate_model(trained.folder, own, EvaluateConfig(bootstrap=40))
    assert found["auc_low"] > 0.6
    assert found["logloss"] < found["baselines"]["constant"]["logloss"]
    to_onnx(trained.folder, tmp_path / "model.onnx")
    with quiet():
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    read = {value.name for value in session.get_inputs()}
    batch = all_rows(own / "test", trained.folder)
    outputs = [value.name for value in session.get_outputs()]
    answers = session.run(outputs, {name: values for name, values in batch.items() if name in read})
    assert outputs == (["score", "score_bought", "score_clicked"] if name in MULTI else ["score"])
    for output, answer in zip(outputs, answers, strict=True):
        assert_allclose(answer[:, 0], predict(trained.folder, own / "test", output=output), atol=1e-5)


@pytest.mark.parametrize("name", MULTI)
def test_several_labels_are_judged_each_by_its_own_score(
    name: str, model_of: Callable[[str], tuple[Trained, Path]], tmp_path: Path
) -> None:
    trained, own = model_of(name)
    found = evaluate_model(trained.folder, own, EvaluateConfig(bootstrap=40), tmp_path / "metrics.json")
    assert list(found["labels"]) == ["clicked", "bought"]
    assert found["labels"]["clicked"]["auc"] == found["auc"]
    for label in found["labels"].values():
        assert label["auc_low"] > 0.6
        assert label["logloss"] < label["constant"]["logloss"]
    assert found["labels"]["bought"]["auc"] != found["auc"]
    epoch = trained.history[-1].valid
    assert set(epoch) == {"auc", "auc_clicked", "auc_bought"}
    assert epoch["auc"] == epoch["auc_clicked"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    clicks, bought = (predict(trained.folder, own / "test", output=f"score_{label}") for label in ("clicked", "bought"))
    assert_array_equal(clicks, predict(trained.folder, own / "test"))
    assert np.abs(clicks - bought).max() > 0.05


@pytest.mark.parametrize("name", CLICK + MULTI)
def test_the_same_seed_gives_the_same_weights(name: str, several: Path) -> None:
    inputs = data.read_inputs(several / "train", several=name in MULTI)
    first, again = ([np.array(value) for value in build(inputs, settings(name), 1).variables] for _ in range(2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(value.std() > 0 for value in first)


@pytest.mark.parametrize("name", MULTI)
def test_experts_begin_different(name: str, several: Path) -> None:
    inputs = data.read_inputs(several / "train", several=True)
    made = build(inputs, settings(name, levels=1), seed=0)
    layers = [np.array(value) for value in made.trainable_variables if tuple(value.shape) == (13, 8)]
    assert len(layers) == {"mmoe": 2, "ple": 4}[name]
    assert len({layer.tobytes() for layer in layers}) == len(layers)


def test_the_product_of_the_towers_of_mf_is_the_score(
    model_of: Callable[[str], tuple[Trained, Path]], features: Path, tmp_path: Path
) -> None:
    trained, _ = model_of("mf")
    files, batch = towers_to_onnx(trained.folder, tmp_path), all_rows(features / "test", trained.folder)
    made = {}
    for side, path in files.items():
        with quiet():
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        asked = {value.name: batch[value.name] for value in session.get_inputs()}
        (made[side],) = session.run(["vector"], asked)
    assert made["user"].shape == made["item"].shape == (2000, 6)
    scores = 1 / (1 + np.exp(-(made["user"] * made["item"]).sum(1)))
    assert_allclose(scores, predict(trained.folder, features / "test"), atol=1e-5)
    with pytest.raises(ConfigError, match="two towers"):
        towers_to_onnx(model_of("deep_mf")[0].folder, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_only_the_model_with_metadata_reads_it(model_of: Callable[[str], tuple[Trained, Path]], tmp_path: Path) -> None:
    columns = rows(50)
    same = write_split(tmp_path / "same", columns)
    dearer = write_split(tmp_path / "dearer", {**columns, "price": columns["price"] + 2})
    for name, reads in {"deep_mf": False, "deep_mf_meta": True}.items():
        folder = model_of(name)[0].folder
        assert bool(np.abs(predict(folder, same) - predict(folder, dearer)).max() > 0.01) == reads


def test_a_cross_has_a_weight_for_each_combination(features: Path) -> None:
    inputs = data.read_inputs(features / "train")
    tf = tensorflow()
    layer = crosses()(inputs, ["user", "item"], settings("wide_deep", cross_buckets=1000, l2=0.0))
    users, items = (codes.reshape(-1, 1) for codes in np.meshgrid(np.arange(3, 13), np.arange(3, 13)))
    columns = {"user": tf.constant(users), "item": tf.constant(items)}
    assert not np.any(layer(columns))
    layer.table.embeddings.assign(tf.range(1000, dtype="float32")[:, None])
    found = layer(columns).numpy()
    assert found.shape == (100, 1)
    assert len(np.unique(found)) > 80, "combinations share weights only by chance"
    assert_array_equal(found, layer(columns).numpy())


@pytest.mark.parametrize("names", [["user", "tags"], ["user", "price"], ["user", "nothing"], ["user", "user"]])
def test_what_cannot_be_crossed_is_refused(names: list[str], features: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.crosses"):
        build(data.read_inputs(features / "train"), settings("wide_deep", crosses=[names]), seed=0)


def test_tables_can_have_sizes_of_their_own(features: Path) -> None:
    inputs = data.read_inputs(features / "train")
    made = build(inputs, settings("dcn_v2", embedding_dims={"user": 8, "item": 2}), seed=0)
    shapes = {tuple(value.shape) for value in made.trainable_variables}
    assert {(40, 8), (30, 2), (12, 4)} <= shapes
    with pytest.raises(ConfigError, match=r"embedding_dims: usr"):
        build(inputs, settings("dcn_v2", embedding_dims={"usr": 8}), seed=0)
    with pytest.raises(ConfigError, match=r"embedding_dims: item"):
        build(inputs, settings("youtube_dnn", embedding_dims={"item": 8}), seed=0)


@pytest.mark.parametrize("name", ["wide_deep", "deep_mf_meta", "mmoe", "two_tower", "triplet", "youtube_dnn"])
def test_models_that_put_vectors_side_by_side_take_any_size(name: str, several: Path) -> None:
    inputs = data.read_inputs(several / "train", several=name in MULTI)
    feature = ("user", (40, 7)) if name == "youtube_dnn" else ("tags", (12, 7))
    made = build(inputs, settings(name, embedding_dims={feature[0]: 7}), seed=0)
    assert feature[1] in {tuple(value.shape) for value in made.trainable_variables}


@pytest.mark.parametrize("name", ["dlrm", "deepfm", "mf", "deep_mf"])
def test_models_that_multiply_vectors_need_one_size(name: str, features: Path) -> None:
    with pytest.raises(ConfigError, match="one size"):
        build(data.read_inputs(features / "train"), settings(name, embedding_dims={"user": 8}), seed=0)


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("mf", ("item", "price"), "tagged user_id"),
        ("deep_mf", ("user", "price"), "tagged item_id"),
        ("deep_mf_meta", ("user", "item"), "beside the ids"),
        ("deepfm", ("user", "price"), "two categorical"),
    ],
)
def test_a_model_says_which_features_it_lacks(name: str, columns: tuple[str, ...], said: str, tmp_path: Path) -> None:
    made = rows(100)
    folder = write_split(tmp_path / "train", {key: made[key] for key in (*columns, "clicked")})
    with pytest.raises(ConfigError, match=said):
        build(data.read_inputs(folder), settings(name), seed=0)


def test_a_model_of_several_labels_needs_several(features: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two or more columns tagged target"):
        train(features, settings("mmoe"), tmp_path / "model")


@pytest.mark.parametrize(("split", "value", "said"), [("train", 2, "only 0 and 1"), ("valid", 1, "both classes")])
def test_every_label_is_checked(split: str, value: int, said: str, tmp_path: Path) -> None:
    for name in ("train", "valid"):
        columns = two_labels(100, 1)
        columns["bought"][:] = value if name == split else columns["bought"]
        write_split(tmp_path / name, columns)
    with pytest.raises(DataError, match=rf"'bought' in .*{split}; expected {said}"):
        train(tmp_path, settings("ple"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_model_of_one_label_learns_the_first(several: Path) -> None:
    inputs = data.read_inputs(several / "train")
    assert inputs.labels == ("clicked",)
    assert [feature.name for feature in inputs.features] == ["user", "item", "tags", "price"]


def test_labels_count_by_their_weight(several: Path) -> None:
    inputs = data.read_inputs(several / "train", several=True)
    only = build(inputs, settings("mmoe", label_weights={"bought": 0.0}, l2=0.0), seed=0)
    columns, labels = next(iter(data.loader(several / "train", inputs, 256)))[:2]
    with quiet():
        loss = float(only.train_step((columns, labels))["loss_batch"])
        shown = np.array(build(inputs, settings("mmoe"), seed=0)(columns), "float64")
    clicked = np.array(labels)[:, 0]
    assert loss == pytest.approx(-np.mean(np.log(np.where(clicked > 0, shown[:, 0], 1 - shown[:, 0]))), abs=1e-5)
    for weights in ({"buoght": 1.0}, {"clicked": 0.0, "bought": 0.0}):
        with pytest.raises(ConfigError, match="label_weights"):
            build(inputs, settings("mmoe", label_weights=weights), seed=0)


def test_the_page_on_models_has_every_model_and_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    keys = [f"negatives.{key}" for key in NegativesConfig.model_fields]
    keys += [key for key in ModelConfig.model_fields if key != "negatives"]
    assert [key for key in keys if f"| `{key}` |" not in page] == []
    assert [name for name in MODELS if f"`{name}`" not in page] == []
