"""manifest.json: what one exported version consists of. `verification.py` checks that it still does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ensemble.hashing import FileRecord, hash_files
from ensemble.repository import MANIFEST
from ensemble.spec import RequestSchema
from etl.errors import ArtifactError, MewsError
from etl.untrusted import read_json, typed
from etl.versions import installed

FORMAT = 1
_LONGEST = 16 * 2**20
"""Bytes of manifest.json."""
_MOST_FILES, _MOST_MODELS = 100_000, 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGES = ("mews", "onnx", "onnxruntime", "polars", "numpy", "nvtabular", "merlin-models", "tensorflow", "tf2onnx")


@dataclass(frozen=True)
class Manifest:
    """One version of one ensemble; `files` by path relative to the repository, `created` in UTC (ISO 8601)."""

    name: str
    version: int
    created: str
    models: tuple[str, ...]
    fingerprint: str
    shape: str
    request: RequestSchema
    response: Mapping[str, Any]
    about: Mapping[str, Any]
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
        if "fused" in fields:  # as versions before shapes were written
            fields["shape"] = "fused" if typed(fields.pop("fused"), bool, "fused") else "chained"
        fields.setdefault("about", {})
        for field, kind in _KINDS.items():
            typed(fields[field], kind, field)
        if len(fields["files"]) > _MOST_FILES or not 0 < len(fields["models"]) <= _MOST_MODELS:
            raise ValueError(f"{len(fields['files'])} files of {len(fields['models'])} models")
        for name in (fields["name"], *fields["models"]):
            if not _NAME.fullmatch(typed(name, str, "name")):
                raise ValueError(f"{name!r} is no name of a model")
        fields["models"] = tuple(fields["models"])
        fields["request"] = RequestSchema.from_json(fields["request"])
        fields["files"] = {path: _record(path, record) for path, record in fields["files"].items()}
        return cls(**fields)


# What a manifest's fields must be before anything is made of them.
_KINDS: dict[str, Any] = {
    "name": str,
    "version": int,
    "created": str,
    "models": list,
    "fingerprint": str,
    "shape": str,
    "request": list,
    "response": dict,
    "about": dict,
    "metrics": dict,
    "packages": dict,
    "files": dict,
}


def _record(path: str, values: Any) -> FileRecord:
    record = FileRecord(**typed(values, dict, path))
    if not _SHA256.fullmatch(typed(record.sha256, str, path)) or typed(record.size, int, path) < 0:
        raise ValueError(f"{path}: {values!r} is no SHA-256 and size")
    return record


def packages() -> dict[str, str]:
    """Return the installed versions of what shapes an export."""
    return installed(_PACKAGES)


def record(root: Path, folders: Sequence[str], files: Sequence[str] = ()) -> dict[str, FileRecord]:
    """Return a FileRecord for each of `files` and of all files below `folders`, all relative to `root`."""
    paths = sorted({*files, *(path for folder in folders for path in walk(root, folder))})
    return dict(zip(paths, hash_files([root / path for path in paths]), strict=True))


def walk(root: Path, folder: str) -> Iterator[str]:
    """Yield every file and symbolic link below root/folder, relative to `root`, without following links."""
    for path in sorted((root / folder).rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(root).as_posix()


def load(folder: Path) -> Manifest:
    """Read <folder>/manifest.json; ArtifactError when it is missing, too long, truncated or of another format."""
    return parse(folder, document(folder))


def document(folder: Path) -> dict[str, Any]:
    """Return the JSON values of <folder>/manifest.json, unchecked; ArtifactError when there are none."""
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise ArtifactError(f"{path} is missing", hint="This is not a version that Mews exported.")
    if path.is_symlink():
        raise ArtifactError(f"{path} is a symbolic link", hint="Export the version again.")
    return read_json(path, "Export the version again.", longest=_LONGEST)


def parse(folder: Path, values: Mapping[str, Any]) -> Manifest:
    """Return the manifest of `document`; ArtifactError when it is none."""
    try:
        return Manifest.from_json(values)
    except (ValueError, KeyError, TypeError, AttributeError, MewsError) as error:
        received = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{folder / MANIFEST} cannot be read", received=received) from error
