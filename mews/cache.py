"""Which stages are done: a stage is skipped when its configuration, its code and its inputs are what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from etl.atomic import write_text

_ROOT = Path(__file__).resolve().parent.parent
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Record:
    """What a finished stage left: its key, the digest of its outputs, its JSON result and its seconds."""

    key: str
    digest: str
    outputs: dict[str, list[int]]
    result: dict[str, Any]
    seconds: float


def digest_of(value: object) -> str:
    """Return the sha256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """Return the sha256 over the names and contents of `paths`; folders are walked in order."""
    total = hashlib.sha256()
    for path in _files(paths):
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                total.update(block)
    return total.hexdigest()


@cache
def digest_code(*packages: str) -> str:
    """Return the sha256 over the Python sources of `packages`, so that changed code runs again."""
    return digest_files(sorted(path for name in packages for path in (_ROOT / name).rglob("*.py")))


def read(folder: Path, stage: str, root: Path) -> Record | None:
    """Return the record of `stage`, or None if there is none or if an output under `root` has gone or changed."""
    try:
        record = Record(**json.loads((folder / f"{stage}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    present = all(_stat(root / name) == stat for name, stat in record.outputs.items())
    return record if present else None


def write(
    folder: Path, stage: str, key: str, outputs: Iterable[Path], root: Path, result: Mapping[str, Any], seconds: float
) -> Record:
    """Remember that `stage` finished with `outputs` (all below `root`) and return its record."""
    files = list(_files(outputs))
    stats = {str(path.relative_to(root)): _stat(path) for path in files}
    record = Record(key, digest_files(files), stats, dict(result), seconds)
    write_text(folder / f"{stage}.json", json.dumps(asdict(record), indent=1, default=str))
    return record


def forget(folder: Path, stage: str) -> None:
    """Remove the record of `stage`, before its outputs are written again."""
    (folder / f"{stage}.json").unlink(missing_ok=True)


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(inner for inner in path.rglob("*") if inner.is_file())
        elif path.exists():
            yield path


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]
