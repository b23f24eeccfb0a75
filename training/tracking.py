"""Figures of a training while it runs, for TensorBoard and MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Protocol

from training.config import TrainConfig
from training.history import Epoch
from training.tensorflow import tensorflow

_EVERY = 20
"""Steps between two points of a step's curve."""


class Tracker(Protocol):
    """What is told of a training."""

    def step(self, step: int, loss: float, samples_per_s: float) -> None:
        """Take in the loss of one step, and the rate of its pass so far."""

    def epoch(self, epoch: Epoch, step: int) -> None:
        """Take in an epoch that ended with step number `step`."""


class Trackers:
    """Several as one; none is fine."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = tuple(trackers)

    def step(self, step: int, loss: float, samples_per_s: float) -> None:
        """Tell every tracker."""
        for tracker in self._trackers:
            tracker.step(step, loss, samples_per_s)

    def epoch(self, epoch: Epoch, step: int) -> None:
        """Tell every tracker."""
        for tracker in self._trackers:
            tracker.epoch(epoch, step)


class TensorBoard:
    """Writes TensorBoard's event files: loss and rate of steps, all figures of epochs."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def step(self, step: int, loss: float, samples_per_s: float) -> None:
        """Write every so many steps."""
        if step % _EVERY == 0:
            self._write({"step/loss": loss, "step/samples_per_s": samples_per_s}, step)

    def epoch(self, epoch: Epoch, step: int) -> None:
        """Write the figures at the epoch's number, so that runs with other batch sizes can be compared."""
        self._write({f"epoch/{name}": value for name, value in figures(epoch).items()}, epoch.epoch)
        self._writer.flush()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        with self._writer.as_default():
            for name, value in values.items():
                tensorflow().summary.scalar(name, value, step=step)


def figures(epoch: Epoch) -> dict[str, float]:
    """Return an epoch's numbers by name, those of the validation as valid_<name>."""
    plain = {name: value for name, value in asdict(epoch).items() if name not in ("epoch", "valid")}
    return plain | {f"valid_{name}": value for name, value in epoch.valid.items()}


def trackers(config: TrainConfig, facts: Mapping[str, Any], stack: ExitStack) -> Trackers:
    """Return what `train.tensorboard` and `train.mlflow` ask for; `stack` closes them."""
    made: list[Tracker] = []
    if config.tensorboard is not None:
        writer = tensorflow().summary.create_file_writer(str(config.tensorboard))
        stack.callback(writer.close)
        made.append(TensorBoard(writer))
    if config.mlflow is not None:
        from training.registry.live import live

        made.append(stack.enter_context(live(config.mlflow, facts)))
    return Trackers(made)
