"""What a repository says of an ensemble's versions: which was stable before, which is tried, which gets a share.

Labels are parameters at the end of the ensemble's config.pbtxt. So they change with the stable version, by one rename,
and a client reads the canary's share from the server.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from etl.errors import ArtifactError

CANARY = "mews.canary"
"""The parameter {"version": 3, "share": 0.1}, in JSON, that clients read."""
_LABELS = "mews.labels"
_PARAMETER = re.compile(r'parameters \{\n  key: "(.+)"\n  value \{\n    string_value: (".*")\n  \}\n\}\n')


@dataclass(frozen=True)
class Canary:
    """A version that gets `share` (0 to 1) of the requests."""

    version: int
    share: float


@dataclass(frozen=True)
class Switch:
    """A change of the stable version that has begun: what asked for it, and `previous` as it was before."""

    old: int
    new: int
    by: str
    previous: tuple[int, ...] = ()


@dataclass(frozen=True)
class Labels:
    """`previous` are the versions that were stable, the last one last; `candidate` was checked and waits."""

    previous: tuple[int, ...] = ()
    candidate: int | None = None
    canary: Canary | None = None
    switch: Switch | None = None

    @property
    def beside(self) -> tuple[int, ...]:
        """The versions that are kept loaded beside the stable one."""
        both = (self.candidate, self.canary.version if self.canary else None)
        return tuple(dict.fromkeys(version for version in both if version is not None))


def render(labels: Labels) -> str:
    """Return parameters in protobuf's text format; nothing for no labels."""
    fields = asdict(labels)
    canary = fields.pop("canary")
    texts = {_LABELS: fields if labels != Labels(canary=labels.canary) else None, CANARY: canary}
    return "".join(_parameter(key, value) for key, value in texts.items() if value is not None)


def parse(text: str) -> Labels:
    """Return what `render` wrote; ArtifactError for anything else."""
    try:
        found = {match[1]: json.loads(json.loads(match[2])) for match in _PARAMETER.finditer(text)}
        fields: dict[str, Any] = dict(found.get(_LABELS, {}))
        fields["canary"] = Canary(**found[CANARY]) if CANARY in found else None
        if switch := fields.get("switch"):
            fields["switch"] = Switch(**{**switch, "previous": tuple(switch["previous"])})
        fields["previous"] = tuple(fields.get("previous", ()))
        return Labels(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError("the labels in config.pbtxt cannot be read", received=str(error)) from error


def _parameter(key: str, value: Any) -> str:
    text = json.dumps(json.dumps(value))  # JSON's escapes of ASCII are protobuf's too
    return f'parameters {{\n  key: "{key}"\n  value {{\n    string_value: {text}\n  }}\n}}\n'
