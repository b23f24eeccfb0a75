"""What a registered version is, what it is made of, and how its events are kept in MLflow's tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl.errors import ArtifactError

_EVENT = "mews.event."
"""Begins the names of tags that hold one event each, numbered, as JSON."""


@dataclass(frozen=True)
class Version:
    """A registered version: `created` in UTC (ISO 8601), `events` what happened to it, oldest first."""

    number: int
    created: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    events: tuple[Mapping[str, Any], ...]
    run_id: str

    def to_json(self) -> dict[str, Any]:
        """Return the version as plain values."""
        found = {**self.__dict__, "version": self.number, "aliases": list(self.aliases), "tags": dict(self.tags)}
        return {key: value for key, value in found.items() if key != "number"} | {"events": list(self.events)}


@dataclass(frozen=True)
class Entry:
    """What is registered: parameters and metrics by name, tags of the version, and files by their place in it."""

    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, Path]


def event_tag(number: int) -> str:
    """Return the name of the tag that holds a version's event of this number."""
    return f"{_EVENT}{number:05d}"


def version_of(found: Any, aliases: tuple[str, ...]) -> Version:
    """Return a version from MLflow's own; ArtifactError when an event of it cannot be read."""
    named = sorted(name for name in found.tags if name.startswith(_EVENT))
    try:
        events = tuple(json.loads(found.tags[name]) for name in named)
    except ValueError as error:
        raise ArtifactError(f"events of version {found.version}", expected="JSON", received=str(error)) from error
    tags = {name: value for name, value in found.tags.items() if name not in named}
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    return Version(int(found.version), created, aliases, tags, events, found.run_id)
