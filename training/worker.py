"""One worker of a training: `python -m training.worker pipeline.yaml --features FOLDER --out FOLDER`.

Every worker of a cluster runs the same line, with TF_CONFIG in its environment, as a Kubernetes TFJob sets it; without
TF_CONFIG it trains alone. Of the configuration it reads `seed`, `model` and `train`. FOLDERs are those of one run on
storage that all workers share: `features/` and `model/` beside the file, unless they are named. Exit codes: 0, the
model is written; 2, something in the configuration; 1, anything else, such as a lost worker.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from etl.errors import ConfigError, MewsError
from etl.section import Section
from training.config import ModelConfig, TrainConfig


class _Config(Section):
    """The part of a pipeline's configuration that says what is trained."""

    seed: int = 7
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.worker", description="One worker of a training.")
    parser.add_argument("config", type=Path, help="a pipeline.yaml, or the config.yaml of a run")
    parser.add_argument("--features", type=Path, help="folder of train/ and valid/ (features/ beside the config)")
    parser.add_argument("--out", type=Path, help="folder of the model (model/ beside the config)")
    given = parser.parse_args(arguments)
    try:
        config = _read(given.config)
        beside = given.config.resolve().parent
        _train(config, given.features or beside / "features", given.out or beside / "model")
    except MewsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _read(path: Path) -> _Config:
    try:
        tree: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        train = tree.get("train")
        for key in ("warm_start", "tensorboard"):  # relative to the file, as `mews` reads it
            if isinstance(train, dict) and isinstance(train.get(key), str):
                train[key] = path.resolve().parent / train[key]
        return _Config(**{name: tree[name] for name in _Config.model_fields if name in tree})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError, TypeError) as error:
        raise ConfigError(f"configuration {path}", expected="a pipeline.yaml", received=str(error)) from error


def _train(config: _Config, features: Path, out: Path) -> None:
    from training.train import train

    said = time.monotonic()

    def progress(what: str, done: int, total: int | None, unit: str) -> None:
        nonlocal said
        if time.monotonic() - said > 5 or done == total:
            said = time.monotonic()
            sys.stdout.write(f"{what}: {done:,} of {total:,} {unit}\n")
            sys.stdout.flush()

    done = train(features, config.model, out, config.seed, progress, settings=config.train)
    sys.stdout.write(f"best epoch {done.best_epoch}, {done.samples_per_s:,.0f} samples/s\n")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # TensorFlow waits for a lost worker when its cluster is taken down.
    os._exit(code)
