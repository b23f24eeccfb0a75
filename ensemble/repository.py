"""The only writer of a Triton model repository: whole versions, numbered, never overwritten.

    <repository>/<name>/config.pbtxt            the ensemble; names the version that serves
    <repository>/<name>/configs/<version>.pbtxt that file, for each version
    <repository>/<name>/<version>/manifest.json and request.example.json
    <repository>/<name>_features_<version>/...  composing models, named by version: a swap never mixes two versions

A version is written and synced outside, then moved in by renames, of which the one that makes it serve is the last. So
a crash at any point leaves the version that served before. Temporary folders stay out of the repository where
possible: Triton takes every folder in it, hidden or not, for a model, and does not start if one cannot be loaded.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.atomic import sync
from etl.errors import ArtifactError

CONFIG = "config.pbtxt"
MANIFEST = "manifest.json"
_COMPOSING = re.compile(r"_(?:features|model|fused)_(\d+)$")


def versions(repository: Path, name: str) -> list[int]:
    """Return the complete versions of ensemble `name`, oldest first."""
    found = (repository / name).glob(f"*/{MANIFEST}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdigit())


def current(repository: Path, name: str) -> int | None:
    """Return the version that the ensemble's config.pbtxt names, None when there is none."""
    config = repository / name / CONFIG
    if not config.is_file():
        return None
    text = config.read_bytes()
    for version in reversed(versions(repository, name)):
        archived = repository / name / "configs" / f"{version}.pbtxt"
        if archived.is_file() and archived.read_bytes() == text:
            return version
    return None


def activate(repository: Path, name: str, version: int) -> None:
    """Make `version` the one that serves at the next load, by one rename; ArtifactError when it is not there."""
    if version not in versions(repository, name):
        raise ArtifactError(
            f"version {version} of ensemble {name!r} is not in {repository}",
            expected=f"one of {', '.join(map(str, versions(repository, name))) or 'no versions yet'}",
        )
    with writing(repository) as staging:
        staged = staging / CONFIG
        shutil.copyfile(repository / name / "configs" / f"{version}.pbtxt", staged)
        sync(staged)
        staged.rename(repository / name / CONFIG)
        sync(repository / name)


@contextmanager
def writing(repository: Path) -> Iterator[Path]:
    """Hold the repository's lock and yield an empty folder to write in; it is removed afterwards.

    Another writer waits; the lock ends with the process. What a killed writer left is removed. An OSError, such as a
    full disk, becomes an ArtifactError.
    """
    repository = repository.resolve()
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with (repository / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            parent, prefix = _staging_place(repository)
            for leftover in parent.glob(f"{prefix}*.tmp"):
                shutil.rmtree(leftover, ignore_errors=True)
            staging = Path(tempfile.mkdtemp(dir=parent, prefix=prefix, suffix=".tmp"))
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(
            f"cannot write to the model repository {repository}",
            received=str(error),
            hint="Nothing that serves was changed; make room or give write permission, and export again.",
        ) from error


def next_version(repository: Path, name: str) -> int:
    """Return one more than any number that ensemble `name` uses or used; call it while holding the lock."""
    numbers = [0]
    if (repository / name).is_dir():
        numbers += [int(path.name) for path in (repository / name).iterdir() if path.name.isdigit()]
        numbers += [int(path.stem) for path in (repository / name / "configs").glob("*.pbtxt") if path.stem.isdigit()]
    for path in repository.iterdir():
        match = _COMPOSING.search(path.name)
        if match and path.name[: match.start()] == name:
            numbers.append(int(match.group(1)))
    return max(numbers) + 1


def publish(staged: Path, repository: Path, name: str, version: int, models: tuple[str, ...]) -> None:
    """Move a version from `staged`, laid out like a repository, into `repository`; the last rename makes it serve.

    ArtifactError when one of its names is taken.
    """
    for path in sorted(staged.rglob("*")):
        sync(path)
    moves = [Path(model) for model in models]
    if (repository / name).exists():
        (repository / name / "configs").mkdir(exist_ok=True)
        moves += [Path(name, "configs", f"{version}.pbtxt"), Path(name, str(version)), Path(name, CONFIG)]
    else:
        moves.append(Path(name))
    for move in moves:
        target = repository / move
        if target.exists() and move.name != CONFIG:
            raise ArtifactError(f"{target} exists already", hint="Exported versions are never overwritten.")
        if move == moves[-1]:
            _sync_parents(repository, moves)
        (staged / move).rename(target)
    _sync_parents(repository, moves[-1:])


def _sync_parents(repository: Path, moves: list[Path]) -> None:
    for folder in sorted({(repository / move).parent for move in moves}):
        sync(folder)


def _staging_place(repository: Path) -> tuple[Path, str]:
    """Return (folder, name prefix) for temporaries: beside the repository, or in it where it is a mount of its own."""
    beside = repository.parent
    if beside.stat().st_dev == repository.stat().st_dev and os.access(beside, os.W_OK):
        return beside, f".{repository.name}.staging."
    return repository, ".staging."
