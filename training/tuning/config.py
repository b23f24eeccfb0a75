"""The part of pipeline.yaml that says how the model's settings are searched: tune."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from etl.section import Section

SECTIONS = ("model", "train")
"""Sections of pipeline.yaml whose keys may be searched."""


class Range(Section):
    """Numbers from `low` to `high`, both included; whole ones where both are."""

    low: int | float
    """The least."""
    high: int | float
    """The largest."""
    log: bool = False
    """Whether a step is a factor: for learning rates and the like."""
    step: int | float | None = Field(default=None, gt=0)
    """Distance of neighbours; any number if absent."""
    points: int = Field(default=3, ge=2)
    """How many values of it a grid takes."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError("expected low below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("expected low above 0 and no step, for a range by factors")
        return self


class TuneConfig(Section):
    """How settings of the model are searched: `mews tune`."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How the next settings are chosen: tpe learns from the trials so far, grid tries all."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """What ends a trial early, by the metric after each epoch: worse than the median of the others, or hyperband."""
    warmup_epochs: int = Field(default=1, ge=0)
    """Epochs that every trial gets (median)."""
    startup_trials: int = Field(default=4, ge=1)
    """Trials that are run to the end before any is ended early (median)."""
    metric: str = "loss"
    """What counts on the validation rows: `loss`, or a metric of the model's task, such as auc."""
    trials: int = Field(default=20, ge=1)
    """Trials at most, those of earlier runs of the same search included."""
    seconds: float | None = Field(default=None, gt=0)
    """Time after which no trial is begun, and those under way stop after their epoch."""
    jobs: int = Field(default=1, ge=1)
    """Trials at the same time, each in a process of its own."""
    space: dict[str, list[Any] | Range] = Field(default_factory=dict)
    """Keys such as model.learning_rate, each with a list of values or a range; the model's own if empty. A value that
    is a mapping sets several keys of a section together."""

    @field_validator("space")
    @classmethod
    def _keys(cls, space: dict[str, list[Any] | Range]) -> dict[str, list[Any] | Range]:
        for key, values in space.items():
            if key.partition(".")[0] not in SECTIONS or key == "model.name":
                raise ValueError(f"{key}: expected a key of {' or '.join(SECTIONS)} other than model.name")
            if not values:
                raise ValueError(f"{key}: expected values")
        return space
