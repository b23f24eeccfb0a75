"""manifest.json: what one exported version consists of, and the check that it still does."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ensemble.repository import CONFIG, MANIFEST
from ensemble.spec import RequestSchema
from etl.errors import ArtifactError
from etl.versions import installed

FORMAT = 1
_PACKAGES = ("mews", "onnx", "onnxruntime", "polars", "numpy", "nvtabular", "merlin-models", "tensorflow", "tf2onnx")


@dataclass(frozen=True)
class FileRecord:
    """One file: hex SHA-256 and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """One version of one ensemble; `files` by path relative to the repository, `created` in UTC (ISO 8601)."""

    name: str
    version: int
    created: str
    models: tuple[str, ...]
    fingerprint: str
    fused: bool
    request: RequestSchema
    response: Mapping[str, Any]
    metrics: Mapping[str, Any]
    packages: Mapping[str, str]
    files: Mapping[str, FileRecord]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values, `format` first."""
        values = {**self.__dict__, "models": list(self.models), "request": self.request.to_json()}
        values["files"] = {path: asdict(record) for path, record in self.files.items()}
        return {"format": FORMAT, **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Manifest:
        """Return the manifest that `to_json` wrote; KeyError, TypeError or ValueError for anything else."""
        fields = dict(values)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"format {values['format']!r}, this version reads {FORMAT}")
        fields["models"] = tuple(fields["models"])
        fields["request"] = RequestSchema.from_json(fields["request"])
        fields["files"] = {path: FileRecord(**record) for path, record in fields["files"].items()}
        return cls(**fields)


@dataclass(frozen=True)
class Verification:
    """What `verify` found: `files` checked, and every problem as one sentence."""

    folder: Path
    files: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing is missing, changed or extra."""
        return not self.problems

    def raise_if_failed(self) -> None:
        """ArtifactError with every problem."""
        if self.problems:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            raise ArtifactError(f"version {self.folder} is not what was exported:{listed}", hint="Export it again.")


def packages() -> dict[str, str]:
    """Return the installed versions of what shapes an export."""
    return installed(_PACKAGES)


def record(root: Path, folders: Sequence[str], files: Sequence[str] = ()) -> dict[str, FileRecord]:
    """Return a FileRecord for each of `files` and of all files below `folders`, all relative to `root`."""
    paths = sorted({*files, *(path for folder in folders for path in _walk(root, folder))})
    return {path: _file_record(root / path) for path in paths}


def load(folder: Path) -> Manifest:
    """Read <folder>/manifest.json; ArtifactError when it is missing, truncated or of another format."""
    path = folder / MANIFEST
    try:
        return Manifest.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing", hint="This is not a version that Mews exported.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read", received=f"{type(error).__name__}: {error}") from error


def verify(folder: Path) -> Verification:
    """Check the version folder <repository>/<name>/<version> and its composing models against its manifest.

    Every file must be there with its size and SHA-256 and no other may be; symbolic links, absolute paths and ".." are
    problems too. ArtifactError only when the manifest itself cannot be read.
    """
    folder = folder.absolute()
    manifest = load(folder)
    root = folder.parent.parent
    problems = []
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        problems.append(f"the manifest is of {manifest.name} version {manifest.version}")
    for path, expected in manifest.files.items():
        problems += _check_file(root, path, expected)
    folders = [path for path in (f"{manifest.name}/{manifest.version}", *manifest.models) if not _leaves(path)]
    problems += [f"{model}: leaves the repository" for model in manifest.models if _leaves(model)]
    known = {*manifest.files, f"{manifest.name}/{manifest.version}/{MANIFEST}"}
    problems += [f"{path}: not in the manifest" for each in folders for path in _walk(root, each) if path not in known]
    problems += _check_links(root, folders)
    problems += _check_serving(root, manifest)
    return Verification(folder, len(manifest.files), tuple(problems))


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Yield every file and symbolic link below root/folder, relative to `root`, without following links."""
    for path in sorted((root / folder).rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(root).as_posix()


def _leaves(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in path


def _check_file(root: Path, path: str, expected: FileRecord) -> list[str]:
    if _leaves(path):
        return [f"{path}: leaves the repository"]
    found = root / path
    link = _link_in(root, path)
    if link:
        return [f"{path}: {link} is a symbolic link"]
    try:
        mode = found.lstat().st_mode
    except OSError:
        return [f"{path}: missing"]
    if not stat.S_ISREG(mode):
        return [f"{path}: not a regular file"]
    return [] if _file_record(found) == expected else [f"{path}: changed"]


def _link_in(root: Path, path: str) -> str:
    """Return the first part of `path` below `root` that is a symbolic link, or nothing."""
    parts = PurePosixPath(path).parts
    below = (PurePosixPath(*parts[: count + 1]) for count in range(len(parts)))
    return next((str(part) for part in below if (root / part).is_symlink()), "")


def _check_links(root: Path, folders: Sequence[str]) -> list[str]:
    links = {_link_in(root, folder) for folder in folders} - {""}
    return [f"{link}: a symbolic link" for link in sorted(links)]


def _check_serving(root: Path, manifest: Manifest) -> list[str]:
    """The ensemble's config.pbtxt belongs to one of the archived configs; any other was changed by hand."""
    config = root / manifest.name / CONFIG
    if not config.is_file():
        return [f"{manifest.name}/{CONFIG}: missing"]
    archived = (root / manifest.name / "configs").glob("*.pbtxt")
    if config.read_bytes() not in {path.read_bytes() for path in archived}:
        return [f"{manifest.name}/{CONFIG}: not the configuration of any exported version"]
    return []


def _file_record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileRecord(digest.hexdigest(), os.fstat(file.fileno()).st_size)
