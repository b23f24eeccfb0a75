"""What a search may choose from: the configured space, or the model's own; as Optuna, a grid and pipeline.yaml see it.

A choice from a list is kept in the study as JSON text, because Optuna keeps nothing but single values.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from training.tuning.config import Range

Params = Mapping[str, Any]
"""A point as Optuna keeps it: numbers, and JSON texts."""

_SIZES = [8, 16, 32]
_COMMON: dict[str, list[Any] | Range] = {
    "model.learning_rate": Range(low=3e-4, high=3e-2, log=True),
    "model.l2": [0.0, 2.0, 20.0],
    "model.batch_size": [1024, 2048, 4096],
}
_TOP: list[Any] = [[32, 16], [64, 32], [128, 64]]
_DEEP: dict[str, list[Any] | Range] = {"model.top": _TOP, "model.dropout": Range(low=0.0, high=0.4, step=0.1)}
# DLRM's bottom layers end in the embeddings' size, so the two are chosen together.
_DLRM: dict[str, list[Any] | Range] = {"model": [{"embedding_dim": size, "bottom": [64, size]} for size in _SIZES]}
_SIZE: dict[str, list[Any] | Range] = {"model.embedding_dim": list(_SIZES)}
_DEFAULTS: dict[str, dict[str, list[Any] | Range]] = {
    "dlrm": {**_COMMON, **_DLRM, **_DEEP},
    "dcn_v2": {**_COMMON, **_SIZE, **_DEEP, "model.cross_depth": Range(low=1, high=4)},
    "mf": {**_COMMON, **_SIZE},
}


def defaults(model: str) -> dict[str, list[Any] | Range]:
    """Return the space of the model of this name where the configuration gives none."""
    return _DEFAULTS.get(model, {**_COMMON, **_SIZE, **_DEEP})


@dataclass(frozen=True)
class Space:
    """Keys of pipeline.yaml, each with a list of values or a range."""

    choices: Mapping[str, list[Any] | Range]

    @cached_property
    def distributions(self) -> dict[str, Any]:
        """The choices as Optuna's distributions."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        made: dict[str, Any] = {}
        for key, values in self.choices.items():
            if isinstance(values, list):
                made[key] = CategoricalDistribution([_text(value) for value in values])
            elif _whole(values):
                made[key] = IntDistribution(int(values.low), int(values.high), values.log, int(values.step or 1))
            else:
                made[key] = FloatDistribution(values.low, values.high, values.log, values.step)
        return made

    def values(self, params: Params) -> dict[str, Any]:
        """Return a point as values of pipeline.yaml."""
        listed = {key for key, values in self.choices.items() if isinstance(values, list)}
        return {key: json.loads(value) if key in listed else value for key, value in params.items()}

    def grid(self) -> Iterator[Params]:
        """Yield every combination; of a range, `points` values."""
        axes = [
            [_text(value) for value in values] if isinstance(values, list) else _spread(values)
            for values in self.choices.values()
        ]
        for point in itertools.product(*axes):
            yield dict(zip(self.choices, point, strict=True))

    def place(self, tree: Mapping[str, Any]) -> Params | None:
        """Return the point of the configuration `tree`; None where it is not in the space."""
        found: dict[str, Any] = {}
        for key, values in self.choices.items():
            now = _at(tree, key)
            if isinstance(values, list):
                same = [value for value in values if _holds(now, value)]
                if not same:
                    return None
                found[key] = _text(same[0])
            elif isinstance(now, int | float) and values.low <= now <= values.high:
                found[key] = now if _whole(values) else float(now)
            else:
                return None
        return found


def applied(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration `tree` with `values` set; a value that is a mapping sets the keys it names."""
    made = deepcopy(dict(tree))
    for key, value in values.items():
        *sections, leaf = key.split(".")
        place = made
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = {**place.get(leaf, {}), **value} if isinstance(value, dict) else value
    return made


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _whole(values: Range) -> bool:
    return all(isinstance(one, int) for one in (values.low, values.high, values.step or 1))


def _spread(values: Range) -> list[Any]:
    spaced = np.geomspace if values.log else np.linspace
    points = [float(point) for point in spaced(values.low, values.high, values.points)]
    if values.step:
        steps = [round((point - values.low) / values.step) for point in points]
        points = [min(values.low + step * values.step, values.high) for step in steps]
    return list(dict.fromkeys(round(point) if _whole(values) else point for point in points))


def _at(tree: Mapping[str, Any], key: str) -> Any:
    found: Any = tree
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _holds(now: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(now, Mapping) and all(now.get(key) == one for key, one in value.items())
    return bool(now == value)
