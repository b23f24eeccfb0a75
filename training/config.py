"""The parts of pipeline.yaml that training reads: model and evaluation."""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import Field, field_validator

from etl.section import Section
from training.models.catalog import MODELS


class ModelConfig(Section):
    """Which model is trained, and how."""

    name: str = "dlrm"
    """A model of `mews models list`."""
    embedding_dim: int = Field(default=16, ge=1)
    """Size of every embedding vector (DLRM needs one size for all)."""
    bottom: list[int] = Field(default_factory=lambda: [64, 16], min_length=1)
    """DLRM: widths of the layers over continuous columns; the last must equal embedding_dim."""
    top: list[int] = Field(default_factory=lambda: [64, 32], min_length=1)
    """Widths of the layers before the output."""
    cross_depth: int = Field(default=2, ge=1)
    """DCN-v2: number of cross layers."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the top layers."""
    l2: float = Field(default=20.0, ge=0)
    """Gaussian prior on embedding vectors: in an epoch each costs l2 x its squared length (summed log loss), so that
    codes seen seldom stay near zero."""
    id_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training rows in which the vectors of user and item ids count as zeros: the model then learns more
    than the ids by heart, and copes with unknown ones."""
    optimizer: Literal["lazy_adam", "adam", "adagrad", "sgd"] = "lazy_adam"
    """lazy_adam touches only the embedding rows of the batch."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Learning rate."""
    batch_size: int = Field(default=2048, ge=1)
    """Rows of one training step."""
    epochs: int = Field(default=5, ge=1)
    """Largest number of passes over the training rows."""
    patience: int = Field(default=1, ge=0)
    """Epochs in a row without a better validation loss that are borne before training stops; the best is kept."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in MODELS:
            near = difflib.get_close_matches(name, MODELS, n=1)
            raise ValueError(f"did you mean {near[0]}?" if near else f"expected one of {', '.join(MODELS)}")
        return name


class EvaluateConfig(Section):
    """How the model is judged."""

    bootstrap: int = Field(default=200, ge=0)
    """Resamples for the confidence intervals."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Width of the intervals."""
    calibration_bins: int = Field(default=15, ge=2)
    """Bins of equal count for the expected calibration error."""
