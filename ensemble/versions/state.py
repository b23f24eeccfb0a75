"""What a repository holds of one ensemble: its versions and what each is, read from the files alone."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble import manifest, repository
from ensemble.labels import Labels
from etl.errors import ArtifactError, MewsError


@dataclass(frozen=True)
class Place:
    """One ensemble in one repository."""

    repository: Path
    name: str

    def folder(self, version: int) -> Path:
        """The folder of a version, with its manifest."""
        return self.repository / self.name / str(version)

    def config(self, version: int) -> str:
        """The config.pbtxt of a version as it was exported; ArtifactError when it is not there."""
        path = self.repository / self.name / "configs" / f"{version}.pbtxt"
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{path} cannot be read", received=str(error)) from error

    def models(self, version: int) -> tuple[str, ...]:
        """The composing models of a version, none if its manifest cannot be read."""
        try:
            return manifest.load(self.folder(version)).models
        except MewsError:
            return ()

    @property
    def state(self) -> State:
        """What the files say now."""
        where = (self.repository, self.name)
        return State(tuple(repository.versions(*where)), repository.current(*where), repository.labels_of(*where))

    def label(self, version: int, labels: Labels) -> None:
        """Make `version` the stable one, with these labels, by one rename."""
        repository.activate(self.repository, self.name, version, labels)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other changes of versions out; ArtifactError when one is under way. The lock ends with the process."""
        try:
            lock = (self.repository / ".versions.lock").open("w")
        except OSError as error:
            raise ArtifactError(
                f"cannot write to the model repository {self.repository}", received=str(error)
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArtifactError(
                    f"model repository {self.repository}",
                    expected="no other `mews versions` at work in it",
                    received="a lock held by one",
                    hint="Wait until it is done.",
                ) from None
            yield


@dataclass(frozen=True)
class State:
    """The versions in a repository, oldest first, the stable one, and the labels."""

    versions: tuple[int, ...]
    stable: int | None
    labels: Labels

    @property
    def previous(self) -> int | None:
        """The last stable version before this one that is still there."""
        found = (each for each in reversed(self.labels.previous) if each in self.versions and each != self.stable)
        return next(found, None)

    def of(self, version: int) -> str:
        """stable, previous, canary, candidate or stored."""
        canary = self.labels.canary.version if self.labels.canary else None
        names = {
            self.labels.candidate: "candidate",
            self.previous: "previous",
            canary: "canary",
            self.stable: "stable",
        }
        return names.get(version, "stored")


def describe(place: Place, ready: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Return what is known of each version, oldest first.

    `ready` holds the models that a server has ready; None is no server, and `ready` is then null. `size` is in bytes.
    A version whose manifest cannot be read has its `problem` instead of what the manifest says.
    """
    state = place.state
    return [_describe(place, state, version, ready) for version in state.versions]


def _describe(place: Place, state: State, version: int, ready: Collection[str] | None) -> dict[str, Any]:
    name = place.name if version == state.stable else repository.beside(place.name, version)
    known = {"version": version, "state": state.of(version), "ready": None if ready is None else name in ready}
    if state.labels.canary and state.labels.canary.version == version:
        known["share"] = state.labels.canary.share
    try:
        found = manifest.load(place.folder(version))
    except MewsError as error:
        return known | {"problem": str(error)}
    return known | {
        "created": found.created,
        "fingerprint": found.fingerprint,
        "metrics": dict(found.metrics),
        "size": sum(file.size for file in found.files.values()),
    }


def beside_folders(place: Place) -> dict[int, Path]:
    """Return the ensembles that run one version beside the stable one, by version."""
    prefix = repository.beside(place.name, 0).removesuffix("0")
    found = [path for path in place.repository.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdigit()]
    return {int(path.name.removeprefix(prefix)): path for path in found}
