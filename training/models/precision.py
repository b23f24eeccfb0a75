"""How a model computes: in bfloat16 where that is safe, clipped gradients, compiled by XLA."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from training.config import ModelConfig, TrainConfig
from training.inputs import Inputs
from training.models.registry import build
from training.tensorflow import tensorflow


@dataclass(frozen=True)
class Networks:
    """The model that is trained, and the float32 one that is judged and served: the same but for mixed precision."""

    trained: Any
    served: Any

    def match(self) -> None:
        """Give the served model the trained one's weights."""
        if self.served is not self.trained:
            for served, trained in zip(self.served.variables, self.trained.variables, strict=True):
                served.assign(trained)


def networks(inputs: Inputs, config: ModelConfig, train: TrainConfig, seed: int) -> Networks:
    """Build the model as `train` says it is to compute; errors are those of `build`."""
    mixed = tensorflow().keras.mixed_precision
    tensorflow().config.optimizer.set_jit("autoclustering" if train.xla else "")
    served = build(inputs, config, seed) if train.mixed_precision else None
    # bfloat16 has the range of float32, so that the loss needs no scaling.
    mixed.set_global_policy("mixed_bfloat16" if train.mixed_precision else "float32")
    try:
        trained = build(inputs, config, seed)
    finally:
        mixed.set_global_policy("float32")
    if train.clip_norm is not None:
        trained.optimizer.global_clipnorm = train.clip_norm
    return Networks(trained, served or trained)


def allow_xla() -> None:
    """Let XLA compile for the CPU too; without effect once TensorFlow has run anything."""
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if "tf_xla_cpu_global_jit" not in flags:
        os.environ["TF_XLA_FLAGS"] = f"{flags} --tf_xla_cpu_global_jit".strip()
