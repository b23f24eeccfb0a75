"""The one door to TensorFlow and Merlin Models: imported when first needed, quietly.

Their imports warn about each other's deprecations and log to stderr at C++ level; none of it is about the user's work.
Everything else in training/ calls `tensorflow()` and `merlin_models()`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Hide Python warnings of third-party code that runs inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def tensorflow() -> Any:
    """The `tensorflow` module; its native log is off unless TF_CPP_MIN_LOG_LEVEL says otherwise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import tensorflow as tf
    tf.get_logger().setLevel(logging.ERROR)
    for gpu in tf.config.list_physical_devices("GPU"):
        # Merlin's dataloader needs some of the GPU's memory too.
        tf.config.experimental.set_memory_growth(gpu, True)
    return tf


@cache
def merlin_models() -> Any:
    """The `merlin.models.tf` module; list columns are read as lists, not as strings, from then on."""
    import dask

    tensorflow()
    dask.config.set({"dataframe.convert-string": False})
    with quiet():
        import merlin.models.tf as mm
    return mm
