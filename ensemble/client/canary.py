"""Which calls go to the candidate that serves beside the stable version."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from ensemble.labels import CANARY
from etl.errors import RequestError

_RANGE = 2**64


@dataclass(frozen=True)
class Canary:
    """Version `version` of `model`, which takes `share` of the calls, 0 to 1."""

    model: str
    version: int
    share: float

    @classmethod
    def of(cls, model: str, parameters: Mapping[str, str]) -> Canary | None:
        """Return what the parameters of `model` say; None without a candidate. RequestError for what makes no sense."""
        if not parameters.get(CANARY):
            return None
        text = parameters[CANARY]
        try:
            said = json.loads(text)
            canary = cls(model, int(said["version"]), float(said["share"]))
        except (ValueError, TypeError, KeyError) as error:
            raise _wrong(model, text) from error
        if canary.version < 1 or not 0 <= canary.share <= 1:
            raise _wrong(model, text)
        return canary

    @property
    def name(self) -> str:
        """The candidate's own ensemble."""
        return f"{self.model}_v{self.version}"

    def takes(self, key: str | int | None) -> bool:
        """True for `share` of all keys, always the same ones, and more of them as the share grows; None is a throw."""
        if key is None:
            return random.random() < self.share
        digest = hashlib.sha256(f"{self.model}:{self.version}:{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * _RANGE


def _wrong(model: str, text: str) -> RequestError:
    expected = 'a version and a share of 0 to 1, such as {"version": 2, "share": 0.1}'
    return RequestError(f"parameter {CANARY} of model {model!r}", expected=expected, received=text)
