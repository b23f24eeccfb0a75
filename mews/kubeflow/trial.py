"""One trial of a Katib experiment: `python -m mews.kubeflow.trial RUN model.learning_rate=0.01 ...`.

Trains with these settings on the features of the run folder, and prints `name=value` of every metric after each epoch,
which Katib's collector reads. The model is not kept. Exit codes are those of `mews`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from etl.errors import ConfigError, MewsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mews.kubeflow.trial", description="One trial of an experiment.")
    parser.add_argument("run", type=Path, help="run folder with config.yaml and features")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the trial, as YAML")
    given = parser.parse_args(arguments)
    try:
        _train(given.run, dict(_setting(one) for one in given.settings))
    except MewsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if equals:
            return key, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise ConfigError("setting of a trial", expected="section.key=value", received=text)


def _train(folder: Path, values: dict[str, Any]) -> None:
    from mews.config import load
    from mews.run import Run
    from mews.tune import with_settings
    from training.train import train

    run = Run(folder)
    config = with_settings(load(run.config), values)

    def told(epoch: Any) -> None:
        metrics = {"loss": epoch.valid_loss, **epoch.valid}
        sys.stdout.write("".join(f"{name}={value:.8g}\n" for name, value in metrics.items()))
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="mews-trial-") as out:
        train(
            run.features("train").parent,
            config.model,
            Path(out) / "model",
            config.seed,
            after_epoch=told,
            settings=config.train,
        )


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # TensorFlow's threads
