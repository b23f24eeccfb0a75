"""What has happened in a training: its epochs, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows; `train_loss` is the mean while the weights changed, `valid` the metrics."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid: dict[str, float]
    seconds: float
    samples_per_s: float


@dataclass(frozen=True)
class Pass:
    """How far a pass over the training rows is: batches and rows, the sum of the rows' losses, seconds."""

    batches: int = 0
    rows: int = 0
    loss: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Position:
    """Where a training stands: its finished epochs, its steps in all, and the pass that it is in."""

    epochs: tuple[Epoch, ...] = ()
    step: int = 0
    now: Pass = Pass()

    @property
    def best(self) -> int:
        """Number of the epoch with the lowest validation loss, from 1; 0 before the first is over."""
        return min(self.epochs, key=lambda epoch: epoch.valid_loss).epoch if self.epochs else 0

    @property
    def samples_per_s(self) -> float:
        """Training rows over the seconds spent on them."""
        return sum(one.seconds * one.samples_per_s for one in self.epochs) / sum(one.seconds for one in self.epochs)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Position:
        """The position that `to_json` described."""
        return cls(tuple(Epoch(**epoch) for epoch in values["epochs"]), values["step"], Pass(**values["now"]))
