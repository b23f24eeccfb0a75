"""A training that is killed at any moment goes on to the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from etl.errors import ArtifactError
from training.config import ModelConfig, TrainConfig
from training.tensorflow import quiet, tensorflow
from training.train import Trained, train

from .conftest import SMALL

ROOT = Path(__file__).resolve().parents[3]
CONFIG = {**SMALL, "epochs": 3, "dropout": 0.3, "patience": 3}  # 32 steps an epoch, dropout with random numbers
SETTINGS = {"checkpoint_steps": 5, "schedule": "cosine", "warmup_steps": 8, "clip_norm": 0.5}


class _Killed(BaseException):
    """Stands for the process being killed."""


def weights(model: Path) -> list[np.ndarray]:
    with quiet():
        return [np.array(variable) for variable in tensorflow().saved_model.load(str(model / "saved_model")).weights]


@pytest.fixture(scope="module")
def whole(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("whole") / "model"
    return train(features, ModelConfig(**CONFIG), out, seed=3, settings=TrainConfig(**SETTINGS))


def same(first: Path, second: Path) -> bool:
    return all(np.array_equal(one, two) for one, two in zip(weights(first), weights(second), strict=True))


def test_after_kill_9_it_goes_on_at_the_step_of_the_checkpoint(whole: Trained, features: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({"seed": 3, "model": CONFIG, "train": SETTINGS}))
    out, state = tmp_path / "model", tmp_path / "model.checkpoint" / "state.json"
    command = [sys.executable, "-m", "training.worker", "pipeline.yaml", "--features", str(features)]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        while not (state.exists() and json.loads(state.read_text())["position"]["step"] > 35):
            assert process.poll() is None, "training ended before it was killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    position = json.loads(state.read_text())["position"]
    assert position["now"]["batches"] > 0  # within an epoch
    seen: list[tuple[str, int]] = []
    config, settings = ModelConfig(**CONFIG), TrainConfig(**SETTINGS)
    done = train(features, config, out, 3, lambda what, rows, *_: seen.append((what, rows)), settings=settings)
    assert done.resumed
    assert seen[0][1] == (position["now"]["batches"] + 1) * 128
    assert [epoch.valid_loss for epoch in done.history] == [epoch.valid_loss for epoch in whole.history]
    assert [epoch.train_loss for epoch in done.history] == [epoch.train_loss for epoch in whole.history]
    assert same(out, whole.folder)


def test_a_checkpoint_that_is_damaged_is_named_and_left(features: Path, tmp_path: Path) -> None:
    def kill(what: str, rows: int, *_: Any) -> None:
        if rows > 1500:
            raise _Killed

    config, settings, out = ModelConfig(**CONFIG), TrainConfig(**SETTINGS), tmp_path / "model"
    with pytest.raises(_Killed):
        train(features, config, out, 3, kill, settings=settings)
    (tensors,) = (tmp_path / "model.checkpoint").glob("last.data*")
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="Delete it"):
        train(features, config, out, 3, settings=settings)
    assert tensors.exists()


def test_mixed_precision_is_exported_as_float32_and_close(features: Path, tmp_path: Path) -> None:
    config = ModelConfig(**{**CONFIG, "epochs": 1, "dropout": 0.0})
    plain = train(features, config, tmp_path / "plain", 3)
    mixed = train(features, config, tmp_path / "mixed", 3, settings=TrainConfig(mixed_precision=True, xla=True))
    assert mixed.history[0].valid_loss != plain.history[0].valid_loss
    assert mixed.history[0].valid_loss == pytest.approx(plain.history[0].valid_loss, abs=0.01)
    assert not [one.dtype for one in weights(mixed.folder) if one.dtype not in ("float32", "int32", "bool")]
