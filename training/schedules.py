"""The learning rate of a step, from nothing but the configuration, the step's number and the epochs so far.

Nothing of it is kept in a checkpoint: a resumed run finds the same rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from training.config import TrainConfig


def factor(config: TrainConfig, step: int, per_epoch: int, epochs: int, losses: Sequence[float]) -> float:
    """Return what model.learning_rate is multiplied by in step number `step`, from 0, of `per_epoch` x `epochs`.

    `losses` are the validation losses of the epochs that are over.
    """
    made = _SCHEDULES[config.schedule](config, step / per_epoch, epochs, losses)
    return made * min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else made


def _constant(config: TrainConfig, passed: float, epochs: int, losses: Sequence[float]) -> float:
    return 1.0


def _cosine(config: TrainConfig, passed: float, epochs: int, losses: Sequence[float]) -> float:
    return (1 + math.cos(math.pi * min(1.0, passed / epochs))) / 2


def _exponential(config: TrainConfig, passed: float, epochs: int, losses: Sequence[float]) -> float:
    return math.pow(config.decay, passed)


def _plateau(config: TrainConfig, passed: float, epochs: int, losses: Sequence[float]) -> float:
    worse = sum(loss >= min(losses[:at]) for at, loss in enumerate(losses) if at)
    return math.pow(config.decay, worse)


# `passed` is the time in epochs.
_SCHEDULES: dict[str, Callable[[TrainConfig, float, int, Sequence[float]], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "exponential": _exponential,
    "plateau": _plateau,
}
