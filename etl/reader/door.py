"""The door to NVTabular: settings that must stand before its import, and the noise of that import kept out.

NVTabular imports pandas, Dask and, where installed, TensorFlow (about ten seconds): call these functions late.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from etl.errors import ConfigError

# Said while third-party modules are imported; none of it is about our code or our user's.
_IMPORT_NOISE: tuple[tuple[str, type[Warning]], ...] = (
    ("", DeprecationWarning),
    (r"\s*Dask dataframe query planning", FutureWarning),
    (r"\S+ dtype mappings did not load successfully", UserWarning),
)
# Said by operators and by Dataset at run time, on every CPU machine and for every num_buckets.
_RUN_NOISE: tuple[tuple[str, type[Warning]], ...] = (
    (r"Initializing an NVTabular Dataset in CPU mode", UserWarning),
    (r"Changing an NVTabular Dataset to CPU mode", UserWarning),
    (r"Performing a hash-based transformation", UserWarning),
    (r"You are setting num_buckets without using max_size or freq_threshold", UserWarning),
)


def nvtabular() -> Any:
    """Return the nvtabular module with its `ops`; ConfigError if it is not installed."""
    # With string conversion on, Dask hands list columns to NVTabular as strings.
    os.environ.setdefault("DASK_DATAFRAME__CONVERT_STRING", "False")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _without(_IMPORT_NOISE):
            import dask
            import nvtabular
            import nvtabular.ops
    except ImportError as error:
        hint = "A saved feature graph works without it; only reading or building a workflow needs it."
        raise ConfigError(f"NVTabular cannot be imported ({error})", hint=hint) from error
    dask.config.set({"dataframe.convert-string": False})
    return nvtabular


@contextmanager
def quiet() -> Iterator[None]:
    """Keep out what NVTabular warns of on every CPU machine; other warnings pass."""
    with _without(_RUN_NOISE):
        yield


@contextmanager
def _without(noise: tuple[tuple[str, type[Warning]], ...]) -> Iterator[None]:
    with warnings.catch_warnings():
        for message, category in noise:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
