"""From a name to a compiled Keras model: families register their builders here and are imported when asked for.

Every model maps {feature: [batch, width]} to what its task (training/tasks.py) says; click: the probability [batch, 1].
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Inputs
from training.models.catalog import MODELS
from training.models.lazy_adam import lazy_adam
from training.tensorflow import quiet, tensorflow

Builder = Callable[[Inputs, ModelConfig, int], Any]
_BUILDERS: dict[str, Builder] = {}


def model(name: str) -> Callable[[Builder], Builder]:
    """Register the builder of the model `name`, which catalog.py must list."""

    def register(builder: Builder) -> Builder:
        if name in _BUILDERS or name not in MODELS:
            raise ValueError(f"model {name!r} is registered twice, or not in training/models/catalog.py")
        _BUILDERS[name] = builder
        return builder

    return register


def builder(name: str) -> Builder:
    """Return the builder of the model `name`; ConfigError when there is no such model."""
    if name not in MODELS:
        raise ConfigError("model", expected=f"one of {', '.join(sorted(MODELS))}", received=repr(name))
    importlib.import_module(f"training.models.{MODELS[name].family}")
    return _BUILDERS[name]


def build(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Return the untrained, compiled Keras model called `config.name`; the same seed gives the same weights.

    Sets the global seeds of Python, NumPy and TensorFlow. ConfigError when the features do not suit the model.
    """
    make = builder(config.name)
    tf = tensorflow()
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    with quiet():
        made = make(inputs, config, seed)
        made.compile(optimizer=_optimizer(config), metrics=[])
        made({feature.name: tf.zeros((1, feature.width), feature.dtype) for feature in inputs.features})
    return made


def _optimizer(config: ModelConfig) -> Any:
    tf = tensorflow()
    # Merlin Models trains with Keras' legacy optimizers, of which Merlin's LazyAdam and ours are.
    legacy = tf.keras.optimizers.legacy
    made = {"lazy_adam": lazy_adam(), "adam": legacy.Adam, "adagrad": legacy.Adagrad, "sgd": legacy.SGD}
    return made[config.optimizer](learning_rate=config.learning_rate)
