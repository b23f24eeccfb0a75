"""Settings that suit a model better than those of the default model: what `mews compare` trains it with.

They were chosen by the validation rows of MovieLens latest-small (docs/quality.md).
"""

from __future__ import annotations

from typing import Any

from training.config import ModelConfig

SUITED: dict[str, dict[str, Any]] = {
    "mf": {"l2": 2.0, "epochs": 10},
}
"""By model: the keys of `model` that differ. Vectors that are only multiplied need more passes and a weaker prior."""


def suited(config: ModelConfig, name: str) -> ModelConfig:
    """Return `config` for the model `name`: what SUITED says, where `config` has the default; what is set stays."""
    defaults = ModelConfig()
    changes = {key: value for key, value in SUITED.get(name, {}).items() if _is_default(config, defaults, key)}
    return config.model_copy(update={"name": name, **changes})


def _is_default(config: ModelConfig, defaults: ModelConfig, key: str) -> bool:
    return bool(getattr(config, key) == getattr(defaults, key))
