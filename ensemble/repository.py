"""The only writer of a Triton model repository: whole versions, numbered, never overwritten.

    <repository>/<name>/config.pbtxt            the ensemble; names the stable version, and ends with its labels
    <repository>/<name>/configs/<version>.pbtxt that file without labels, for each version
    <repository>/<name>/<version>/manifest.json and request.example.json
    <repository>/<name>_<role>_<version>/...    composing models, named by version: a swap never mixes two versions
    <repository>/<name>_v<version>/...          an ensemble of one version beside the stable one, while it is tried

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
from dataclasses import replace
from pathlib import Path

from ensemble.labels import Labels, parse, render
from etl.atomic import sync
from etl.errors import ArtifactError

CONFIG = "config.pbtxt"
MANIFEST = "manifest.json"
_LABELS = b"\n# labels\n"
# What a version leaves beside the ensemble: <name>_<role>_<version>, and <name>_v<version>.
_OF_VERSION = re.compile(r"_(?:[a-z][a-z0-9_]*_|v)(\d+)$")


def versions(repository: Path, name: str) -> list[int]:
    """Return the complete versions of ensemble `name`, oldest first."""
    found = (repository / name).glob(f"*/{MANIFEST}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdigit())


def current(repository: Path, name: str) -> int | None:
    """Return the version that the ensemble's config.pbtxt names, None when there is none."""
    config = repository / name / CONFIG
    if not config.is_file():
        return None
    text = without_labels(config.read_bytes())
    for version in reversed(versions(repository, name)):
        archived = repository / name / "configs" / f"{version}.pbtxt"
        if archived.is_file() and archived.read_bytes() == text:
            return version
    return None


def without_labels(config: bytes) -> bytes:
    """Return a config.pbtxt as it was exported; unchanged if what follows is anything but labels."""
    exported, _, rest = config.partition(_LABELS)
    try:
        return exported if render(parse(rest.decode())).encode() == rest else config
    except (ArtifactError, UnicodeDecodeError):
        return config


def labels_of(repository: Path, name: str) -> Labels:
    """Return the labels at the end of the ensemble's config.pbtxt; ArtifactError when they cannot be read."""
    config = repository / name / CONFIG
    return parse(config.read_bytes().partition(_LABELS)[2].decode()) if config.is_file() else Labels()


def beside(name: str, version: int) -> str:
    """Return the name of the ensemble that runs `version` beside the stable one."""
    return f"{name}_v{version}"


def activate(repository: Path, name: str, version: int, labels: Labels | None = None) -> None:
    """Make `version`, with these labels, the one that serves at the next load, by one rename.

    ArtifactError when it is not there.
    """
    if version not in versions(repository, name):
        raise ArtifactError(
            f"version {version} of ensemble {name!r} is not in {repository}",
            expected=f"one of {', '.join(map(str, versions(repository, name))) or 'no versions yet'}",
        )
    with writing(repository) as staging:
        staged = staging / CONFIG
        text = (repository / name / "configs" / f"{version}.pbtxt").read_bytes()
        staged.write_bytes(_labelled(text, labels or Labels()))
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


def _labelled(config: bytes, labels: Labels) -> bytes:
    text = render(labels)
    return config + (_LABELS + text.encode() if text else b"")


def next_version(repository: Path, name: str) -> int:
    """Return one more than any number that ensemble `name` uses or used; call it while holding the lock."""
    numbers = [0]
    if (repository / name).is_dir():
        numbers += [int(path.name) for path in (repository / name).iterdir() if path.name.isdigit()]
        numbers += [int(path.stem) for path in (repository / name / "configs").glob("*.pbtxt") if path.stem.isdigit()]
    for path in repository.iterdir():
        match = _OF_VERSION.match(path.name.removeprefix(name)) if path.name.startswith(name) else None
        numbers += [int(match[1])] if match else []
    return max(numbers) + 1


def publish(
    staged: Path, repository: Path, name: str, version: int, models: tuple[str, ...], *, stable: bool = True
) -> None:
    """Move a version from `staged`, laid out like a repository, into `repository`; the last rename makes it serve.

    Not `stable`, it is only stored, unless it is the first. ArtifactError when one of its names is taken.
    """
    if stable:
        _label_staged(staged, repository, name)
    for path in sorted(staged.rglob("*")):
        sync(path)
    moves = [Path(model) for model in models]
    if (repository / name).exists():
        (repository / name / "configs").mkdir(exist_ok=True)
        moves += [Path(name, "configs", f"{version}.pbtxt"), Path(name, str(version))]
        moves += [Path(name, CONFIG)] if stable or not (repository / name / CONFIG).is_file() else []
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


def _label_staged(staged: Path, repository: Path, name: str) -> None:
    """The version that is stable now becomes the previous one; what is beside it stays."""
    old = current(repository, name)
    if old is not None:
        known = labels_of(repository, name)
        config = staged / name / CONFIG
        config.write_bytes(_labelled(config.read_bytes(), replace(known, previous=(*known.previous, old), switch=None)))


def _sync_parents(repository: Path, moves: list[Path]) -> None:
    for folder in sorted({(repository / move).parent for move in moves}):
        sync(folder)


def _staging_place(repository: Path) -> tuple[Path, str]:
    """Return (folder, name prefix) for temporaries: beside the repository, or in it where it is a mount of its own."""
    beside = repository.parent
    if beside.stat().st_dev == repository.stat().st_dev and os.access(beside, os.W_OK):
        return beside, f".{repository.name}.staging."
    return repository, ".staging."
