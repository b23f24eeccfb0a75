"""Settings that suit a model better than those of the default model: what `mews compare` trains it with.

They were chosen by the validation rows of MovieLens latest-small (docs/quality.md).
"""

from __future__ import annotations

from typing import Any

from mews.config import PipelineConfig
from training.config import ModelConfig

_SEQUENCES = {"batch_size": 256, "embedding_dim": 32, "dropout": 0.2, "epochs": 12, "patience": 2}
SUITED: dict[str, dict[str, Any]] = {
    "mf": {"l2": 2.0, "epochs": 10},
    "deep_mf": {"l2": 2.0, "epochs": 10},
    "gru4rec": _SEQUENCES,
    "transformer": _SEQUENCES,
    "autoencoder": {"batch_size": 64, "epochs": 30, "patience": 3},
}
"""By model: the keys of `model` that differ. Vectors that are only multiplied need more passes and a weaker prior.
Lists are fewer than rows, so smaller batches and more passes."""


def suited(config: ModelConfig, name: str) -> ModelConfig:
    """Return `config` for the model `name`: what SUITED says, where `config` has the default; what is set stays."""
    defaults = ModelConfig()
    changes = {key: value for key, value in SUITED.get(name, {}).items() if _is_default(config, defaults, key)}
    return config.model_copy(update={"name": name, **changes})


def for_lists(config: PipelineConfig, name: str, group: list[str]) -> PipelineConfig:
    """Return `config` for the model `name` of item lists beside models of rows.

    A list is what those of one `group` (raw columns) had, unless split.group says otherwise. Features are made from the
    columns' roles: chains and workflows that are given read rows. What an export would refuse is not asked.
    """
    split = config.split.model_copy(update={"examples": None, "group": config.split.group or group})
    features = config.features.model_copy(update={"chains": [], "workflow": None})
    export = config.export.model_copy(update={"precision": "float32"})
    changes = {"model": suited(config.model, name), "split": split, "features": features, "export": export}
    return config.model_copy(update=changes)


def _is_default(config: ModelConfig, defaults: ModelConfig, key: str) -> bool:
    return bool(getattr(config, key) == getattr(defaults, key))
