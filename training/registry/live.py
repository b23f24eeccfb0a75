"""A training's figures in MLflow while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etl.errors import ConfigError, MewsError
from training.history import Epoch
from training.registry.config import RegistryConfig, without_secrets
from training.registry.store import Store
from training.tracking import figures

_EVERY = 100
"""Steps between two points of a step's curve; each is a request to the server."""


class _Live:
    """One run of MLflow."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id

    def step(self, step: int, loss: float, samples_per_s: float) -> None:
        """Tell every so many steps."""
        if step % _EVERY == 0:
            self._store.tell(self._run_id, {"step_loss": loss, "step_samples_per_s": samples_per_s}, step)

    def epoch(self, epoch: Epoch, step: int) -> None:
        """Tell an epoch's figures."""
        self._store.tell(self._run_id, figures(epoch), epoch.epoch)


@contextmanager
def live(uri: str, facts: Mapping[str, Any]) -> Iterator[_Live]:
    """Yield a tracker that writes to the MLflow at `uri`; the run is marked as failed when the block raises.

    ConfigError for an address that is none, ArtifactError when MLflow does not answer.
    """
    try:
        store = Store(RegistryConfig(uri=uri), Path())
    except ValidationError as error:
        raise ConfigError(
            "train.mlflow", expected="https:// or sqlite:///file.db", received=without_secrets(uri)
        ) from error
    run_id = store.begin(_parameters(facts))
    try:
        yield _Live(store, run_id)
    except BaseException:
        with suppress(MewsError):  # the server may be what failed
            store.end(run_id, finished=False)
        raise
    store.end(run_id, finished=True)


def _parameters(facts: Mapping[str, Any]) -> dict[str, str]:
    sections = {f"{part}.{name}": value for part in ("config", "train") for name, value in facts[part].items()}
    plain = {name: facts[name] for name in ("seed", "fingerprint", "rows", "valid_rows")}
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in {**sections, **plain}.items()
    }
