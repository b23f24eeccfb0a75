"""Several workers train one model: real processes that TF_CONFIG makes a cluster of."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from etl.errors import ConfigError
from training.config import ModelConfig, TrainConfig
from training.distributed import Workers, start
from training.train import train, trained_by_workers

from .conftest import SMALL

ROOT = Path(__file__).resolve().parents[3]
# No dropout: each worker draws its own, as one worker would for more rows.
CONFIG = {**SMALL, "epochs": 2, "id_dropout": 0.0, "learning_rate": 0.01, "batch_size": 256}
SETTINGS = {"checkpoint_steps": 4, "worker_timeout": 120}


def _ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _cluster(folder: Path, features: Path) -> list[subprocess.Popen[str]]:
    """Start two workers as a TFJob does: one line, and a TF_CONFIG each."""
    places = [f"127.0.0.1:{port}" for port in _ports(2)]
    command = [sys.executable, "-m", "training.worker", "pipeline.yaml", "--features", str(features)]
    started = []
    for rank in range(2):
        config = {"cluster": {"worker": places}, "task": {"type": "worker", "index": rank}}
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(config)}
        log = (folder / f"{rank}.log").open("w")
        started.append(subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, text=True))
        log.close()
    return started


@pytest.mark.timeout(590)
def test_two_workers_learn_as_one_and_a_lost_one_is_told_and_resumed(features: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({"seed": 3, "model": CONFIG, "train": SETTINGS}))
    state = tmp_path / "model.checkpoint" / "state.json"
    workers = _cluster(tmp_path, features)
    try:
        while not state.exists():
            assert [worker.poll() for worker in workers] == [None, None], (tmp_path / "0.log").read_text()
            time.sleep(0.01)
        workers[1].send_signal(signal.SIGKILL)
        workers[1].wait()
        assert workers[0].wait(240) == 1
        assert "one is gone" in (tmp_path / "0.log").read_text()
        assert not (tmp_path / "model").exists()
        step = json.loads(state.read_text())["position"]["step"]
        assert 0 < step < 32
        workers = _cluster(tmp_path, features)
        assert [worker.wait(240) for worker in workers] == [0, 0], (tmp_path / "0.log").read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    config, settings = ModelConfig(**CONFIG), TrainConfig(**SETTINGS)
    alone = train(features, config, tmp_path / "alone", 3, settings=settings)
    written = json.loads((tmp_path / "model" / "history.json").read_text())
    for name in ("train_loss", "valid_loss"):
        expected = [getattr(epoch, name) for epoch in alone.history]
        np.testing.assert_allclose([epoch[name] for epoch in written], expected, rtol=1e-4)
    # The pipeline takes up what the workers made, and only for the same arguments.
    taken = trained_by_workers(features, config, tmp_path / "model", 3, settings)
    assert taken is not None
    assert taken.best_epoch == alone.best_epoch
    assert trained_by_workers(features, config, tmp_path / "model", 4, settings) is None


def test_the_rows_of_a_batch_are_shared_out() -> None:
    batch = [np.arange(7)[:, None], np.arange(7)]
    parts = [Workers(rank, 3).part(batch) for rank in range(3)]
    assert [rows.tolist() for (_, rows), _ in parts] == [[0, 1], [2, 3], [4, 5, 6]]
    assert sum(share for _, share in parts) == pytest.approx(1)
    few = [Workers(rank, 3).part([np.arange(2)]) for rank in range(3)]
    assert [len(rows) for (rows,), _ in few] == [1, 1, 1]
    assert sum(share for _, share in few) == pytest.approx(1)


@pytest.mark.parametrize(
    "text", ["{", '{"cluster": 5}', '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps"}}']
)
def test_a_cluster_that_cannot_be_read_is_a_configuration_error(text: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match="TF_CONFIG"):
        start(1)


def test_a_cluster_of_one_needs_no_others(monkeypatch: Any) -> None:
    config = {"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert start(1).alone
