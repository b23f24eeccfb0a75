"""Figures of a training in TensorBoard and MLflow, and how it computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from etl.errors import ConfigError
from training.config import ModelConfig, TrainConfig
from training.tensorflow import quiet
from training.train import train

from .conftest import SMALL

CONFIG = ModelConfig(**{**SMALL, "epochs": 2})  # type: ignore[arg-type]


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    with quiet():
        from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
        from tensorflow import make_ndarray

        found = EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()
        return {
            tag: [(one.step, float(make_ndarray(one.tensor_proto))) for one in found.Tensors(tag)]
            for tag in found.Tags()["tensors"]
        }


def test_tensorboard_and_mlflow_are_told_every_epoch(features: Path, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = TrainConfig(tensorboard=tmp_path / "logs", mlflow=address)
    done = train(features, CONFIG, tmp_path / "model", 3, settings=settings)
    losses = {epoch.epoch: epoch.valid_loss for epoch in done.history}
    told = _scalars(tmp_path / "logs")
    assert dict(told["epoch/valid_loss"]) == pytest.approx(losses)
    assert [step for step, _ in told["step/loss"]] == [20, 40, 60]  # 32 steps an epoch
    assert told["epoch/valid_auc"][-1][1] == pytest.approx(done.history[-1].valid["auc"])

    import mlflow

    client = mlflow.MlflowClient(address)
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert run.info.status == "FINISHED"
    assert run.data.params["config.name"] == "dlrm"
    history = client.get_metric_history(run.info.run_id, "valid_loss")
    assert {one.step: one.value for one in history} == pytest.approx(losses)


def test_an_address_that_is_none_is_refused(features: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mlflow"):
        train(features, CONFIG, tmp_path / "model", settings=TrainConfig(mlflow="ftp://nowhere"))


def test_clipped_gradients_and_xla_change_how_and_not_what_is_learned(features: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 1, "optimizer": "sgd", "learning_rate": 0.5})
    plain = train(features, config, tmp_path / "plain", 3)
    xla = train(features, config, tmp_path / "xla", 3, settings=TrainConfig(xla=True))
    assert xla.history[0].valid_loss == pytest.approx(plain.history[0].valid_loss, rel=1e-4)
    held = train(features, config, tmp_path / "held", 3, settings=TrainConfig(clip_norm=1e-6))
    assert held.history[0].train_loss > plain.history[0].train_loss  # steps too small to learn
    assert np.isfinite(held.history[0].train_loss)
