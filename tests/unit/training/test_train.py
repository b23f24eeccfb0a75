"""Real trainings on a few thousand rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from etl.errors import ArtifactError, ConfigError, DataError, MewsError
from training import data
from training.config import EvaluateConfig, ModelConfig
from training.evaluation.clicks import evaluate_model
from training.loop import Loop
from training.models.registry import build
from training.predict import predict
from training.tensorflow import quiet
from training.train import Trained, train

from .conftest import FINGERPRINT, SMALL, rows, write_schema, write_split

BOTH = pytest.mark.parametrize("name", ["dlrm", "dcn_v2"])


@BOTH
def test_the_model_beats_both_baselines(
    name: str, trained: Callable[[str], Trained], features: Path, tmp_path: Path
) -> None:
    found = evaluate_model(trained(name).folder, features, EvaluateConfig(bootstrap=50), tmp_path / "metrics.json")
    for baseline in ("constant", "popularity"):
        assert found["auc_low"] > found["baselines"][baseline]["auc_high"]
        assert found["logloss"] < found["baselines"][baseline]["logloss"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == found


@BOTH
def test_two_runs_agree_to_the_bit(
    name: str, trained: Callable[[str], Trained], features: Path, tmp_path: Path
) -> None:
    first = trained(name)
    config = ModelConfig(name=name, epochs=6, **SMALL)  # type: ignore[arg-type]
    again = train(features, config, tmp_path / "again", seed=3)
    assert [(e.train_loss, e.valid_loss, e.valid["auc"]) for e in again.history] == [
        (e.train_loss, e.valid_loss, e.valid["auc"]) for e in first.history
    ]
    assert np.array_equal(predict(again.folder, features / "test"), predict(first.folder, features / "test"))
    other = train(features, config.model_copy(update={"epochs": 1}), tmp_path / "other", seed=4)
    assert other.history[0].valid_loss != first.history[0].valid_loss


def test_training_stops_early_and_keeps_the_best_epoch(features: Path, tmp_path: Path) -> None:
    config = ModelConfig(**{**SMALL, "learning_rate": 0.1, "id_dropout": 0.0, "l2": 0.0}, epochs=30, patience=1)  # type: ignore[arg-type]
    seen: list[tuple[str, int, int | None, str]] = []
    done = train(features, config, tmp_path / "model", seed=1, progress=lambda *step: seen.append(step))
    losses = [epoch.valid_loss for epoch in done.history]
    assert done.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == done.best_epoch + 2 < 30
    labels, scores = data.labels(features / "valid", "clicked"), predict(done.folder, features / "valid")
    assert log_loss(labels, scores.astype("float64")) == pytest.approx(min(losses), abs=1e-6)
    assert roc_auc_score(labels, scores) == pytest.approx(done.history[done.best_epoch - 1].valid["auc"], abs=1e-6)
    assert seen[-1][1:] == (4000, 4000, "samples")
    written = json.loads((done.folder / "history.json").read_text())
    assert [epoch["valid_loss"] for epoch in written] == losses
    assert list(tmp_path.iterdir()) == [done.folder]


def test_what_is_written_says_how_it_was_made(trained: Callable[[str], Trained]) -> None:
    folder = trained("dlrm").folder
    facts = json.loads((folder / "training.json").read_text())
    assert facts["fingerprint"] == FINGERPRINT
    assert facts["seed"] == 3
    assert facts["rows"] == 4000
    assert facts["best_epoch"] == trained("dlrm").best_epoch
    assert facts["versions"]["tensorflow"].startswith("2.")
    assert ModelConfig(**facts["config"]).name == "dlrm"
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]


class _Killed(BaseException):
    """Stands for the process being killed."""


def test_a_killed_run_goes_on_after_its_last_epoch_to_the_same_model(
    trained: Callable[[str], Trained], features: Path, tmp_path: Path
) -> None:
    def kill_in_epoch_three(what: str, *_: Any) -> None:
        if what.startswith("epoch 3"):
            raise _Killed

    config, out = ModelConfig(name="dlrm", epochs=6, **SMALL), tmp_path / "model"  # type: ignore[arg-type]
    with pytest.raises(_Killed):
        train(features, config, out, seed=3, progress=kill_in_epoch_three)
    assert not out.exists()
    done = train(features, config, out, seed=3)
    assert done.resumed
    assert [e.valid_loss for e in done.history] == [e.valid_loss for e in trained("dlrm").history]
    assert np.array_equal(predict(out, features / "test"), predict(trained("dlrm").folder, features / "test"))


def test_a_checkpoint_of_another_configuration_is_not_taken_up(features: Path, tmp_path: Path) -> None:
    def kill_in_epoch_two(what: str, *_: Any) -> None:
        if what.startswith("epoch 2"):
            raise _Killed

    config, out = ModelConfig(epochs=2, **SMALL), tmp_path / "model"  # type: ignore[arg-type]
    with pytest.raises(_Killed):
        train(features, config, out, progress=kill_in_epoch_two)
    assert not train(features, config.model_copy(update={"top": [8], "epochs": 1}), out).resumed


def test_a_loss_that_is_not_a_number_stops_training_and_keeps_the_batch(features: Path, tmp_path: Path) -> None:
    config = ModelConfig(**{**SMALL, "optimizer": "sgd", "learning_rate": 1e30})  # type: ignore[arg-type]
    with pytest.raises(MewsError, match="learning_rate") as caught:
        train(features, config, tmp_path / "model")
    assert "NaN" in str(caught.value)
    batch = pl.read_parquet(tmp_path / "model.bad_batch.parquet")
    assert len(batch) == 128
    assert batch["tags"].list.len().unique().to_list() == [3]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("optimizer", ["lazy_adam", "adam", "adagrad", "sgd"])
def test_every_optimizer_lowers_the_loss_with_a_step_that_is_traced_once(
    optimizer: str, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second trace takes as long as the first, of large models seconds."""
    step, traces = Loop._step, []
    monkeypatch.setattr(Loop, "_step", lambda *given: traces.append(given) or step(*given))
    rate = {"lazy_adam": 0.01, "adam": 0.01, "adagrad": 0.1, "sgd": 0.5}[optimizer]
    config = ModelConfig(**{**SMALL, "optimizer": optimizer, "learning_rate": rate}, epochs=2)  # type: ignore[arg-type]
    history = train(features, config, tmp_path / "model").history
    assert history[1].train_loss < history[0].train_loss
    assert len(traces) == 1


def test_padding_does_not_count(features: Path) -> None:
    """[5, 0, 0] is the mean of one value; the vector of code 0 has no influence."""
    inputs = data.read_inputs(features / "train")
    model = build(inputs, ModelConfig(**{**SMALL, "name": "dcn_v2"}), seed=0)  # type: ignore[arg-type]
    table = next(layer for layer in model._flatten_layers() if layer.name == "tags" and hasattr(layer, "table"))

    def vectors(codes: list[list[int]]) -> np.ndarray:
        with quiet():
            found: np.ndarray = table({"tags": np.array(codes)[..., None]})["tags"].numpy()
        return found

    weights = table.table.embeddings.numpy()
    found = vectors([[5, 0, 0], [5, 7, 0], [0, 0, 0]])
    expected = [weights[5], (weights[5] + weights[7]) / 2, np.zeros(4)]
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "columns"), [("dlrm", ("user", "tags")), ("dcn_v2", ("price",)), ("dcn_v2", ("tags",))]
)
def test_features_of_one_kind_can_be_trained_on(name: str, columns: tuple[str, ...], tmp_path: Path) -> None:
    for split in ("train", "valid"):
        made = rows(600)
        write_split(tmp_path / "features" / split, {key: made[key] for key in (*columns, "clicked")})
    config = ModelConfig(name=name, epochs=1, **SMALL)  # type: ignore[arg-type]
    done = train(tmp_path / "features", config, tmp_path / "model")
    assert predict(done.folder, tmp_path / "features" / "valid").shape == (600,)


@pytest.mark.parametrize("columns", [("price",), ("user",)])
def test_dlrm_says_which_features_it_needs(columns: tuple[str, ...], tmp_path: Path) -> None:
    made = rows(100)
    folder = write_split(tmp_path / "train", {key: made[key] for key in (*columns, "clicked")})
    with pytest.raises(ConfigError, match="dcn_v2"):
        build(data.read_inputs(folder), ModelConfig(), seed=0)


def test_the_bottom_of_dlrm_must_end_in_the_embedding_size(features: Path) -> None:
    with pytest.raises(ConfigError, match="embedding_dim"):
        build(data.read_inputs(features / "train"), ModelConfig(embedding_dim=8, bottom=[16]), seed=0)


def _broken(tmp_path: Path, change: Callable[[dict[str, Any]], None], split: str = "train") -> Path:
    for name in ("train", "valid"):
        columns = rows(200)
        if name == split:
            change(columns)
        write_split(tmp_path / name, columns)
    return tmp_path


def _set(name: str, index: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(columns: dict[str, Any]) -> None:
        columns[name][index] = value

    return change


def _optional(columns: dict[str, Any]) -> None:
    columns["user"] = pl.Series([None, *columns["user"].tolist()[1:]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("clicked", slice(None), 0), "both classes"),
        (_set("clicked", 3, 2), "only 0 and 1"),
        (_set("user", 5, 40), r"user: codes outside the table's 0 to 39 \(1\)"),
        (_set("tags", (5, 1), 12), "tags: codes outside the table's 0 to 11"),
        (_set("item", 5, -1), "item: codes outside"),
        (_set("price", 5, np.nan), "price: values that are NaN"),
        (_set("price", 5, np.inf), "price: values that are NaN"),
        (_optional, r"user: nulls \(1\)"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused_before_training(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        train(_broken(tmp_path, change), ModelConfig(**SMALL), tmp_path / "model")  # type: ignore[arg-type]
    assert not (tmp_path / "model").exists()


def test_a_validation_split_of_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"valid.*both classes"):
        train(_broken(tmp_path, _set("clicked", slice(None), 1), "valid"), ModelConfig(), tmp_path / "model")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path / "train", rows(100))
    write_split(tmp_path / "valid", {name: values[:0] for name, values in rows(100).items()})
    with pytest.raises(DataError, match="rows"):
        train(tmp_path, ModelConfig(), tmp_path / "model")


def test_ragged_lists_and_missing_labels_are_configuration_errors(tmp_path: Path) -> None:
    columns = rows(50)
    folder = write_split(tmp_path / "train", columns)
    write_schema(folder, columns, ragged=True)
    with pytest.raises(ConfigError, match="ListSlice"):
        data.read_inputs(folder)
    write_schema(folder, columns, label="")
    with pytest.raises(ConfigError, match="label"):
        data.read_inputs(folder)


def test_missing_and_mixed_features_are_artifact_errors(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Parquet"):
        data.parts(tmp_path)
    write_split(tmp_path / "train", rows(100))
    write_split(tmp_path / "valid", rows(100), fingerprint="cd" * 32)
    with pytest.raises(ArtifactError, match="one fingerprint"):
        train(tmp_path, ModelConfig(), tmp_path / "model")


def test_predictions_keep_the_order_of_rows_over_many_parts(
    trained: Callable[[str], Trained], features: Path, tmp_path: Path
) -> None:
    folder, columns = trained("dlrm").folder, rows(2000, seed=2)
    whole = predict(folder, features / "test")
    split = write_split(tmp_path / "parts", columns, per_file=150)  # 14 parts: part_00010 follows part_00009
    np.testing.assert_array_equal(predict(folder, split, batch_size=77), whole)
    unpadded = [path.rename(path.with_name(f"part_{int(path.stem[5:])}.parquet")) for path in split.glob("*.parquet")]
    assert len(unpadded) == 14
    np.testing.assert_array_equal(predict(folder, split), whole)


def test_features_of_another_graph_are_refused(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    other = write_split(tmp_path / "other", rows(20), fingerprint="cd" * 32)
    with pytest.raises(ArtifactError, match="fingerprint"):
        predict(trained("dlrm").folder, other)


def test_a_folder_without_a_model_is_named(tmp_path: Path, features: Path) -> None:
    with pytest.raises(ArtifactError, match=r"training\.json"):
        predict(tmp_path, features / "test")


def test_plain_nvtabular_output_can_be_trained_on(tmp_path: Path) -> None:
    with quiet():
        import nvtabular as nvt
        from merlin.io import Dataset
        from merlin.schema import Tags

        columns = rows(800)
        frame = pl.DataFrame({name: columns[name] for name in ("user", "item", "price", "clicked")}).to_pandas()
        codes = ["user", "item"] >> nvt.ops.Categorify(out_path=str(tmp_path))
        values = ["price"] >> nvt.ops.Normalize(out_dtype="float32")
        label = ["clicked"] >> nvt.ops.AddMetadata(tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION])
        workflow = nvt.Workflow(codes + values + label)
        workflow.fit(Dataset(frame))
        for split in ("train", "valid"):
            workflow.transform(Dataset(frame)).to_parquet(str(tmp_path / "features" / split))
    done = train(tmp_path / "features", ModelConfig(epochs=4, **SMALL), tmp_path / "model")  # type: ignore[arg-type]
    assert done.history[-1].valid["auc"] > 0.6
    assert json.loads((done.folder / "training.json").read_text())["fingerprint"] == ""
