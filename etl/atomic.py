"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the file or folder `path` is on the disk; of a folder, only its list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on a clean exit it is synced and renamed onto `target`, else removed."""
    temporary = _temporary(target)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target`; on a clean exit it takes `target`'s place, else it is removed.

    An existing `target` is moved aside first and deleted last, so that a crash in between leaves one whole folder.
    """
    temporary = _temporary(target)
    temporary.mkdir()
    old: Path | None = None
    try:
        yield temporary
        for path in temporary.rglob("*"):
            sync(path)
        if target.exists():
            old = _temporary(target)
            target.rename(old)
        temporary.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old is not None:
            if not target.exists():
                old.rename(target)
            shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: Path) -> int:
    """Delete temporary files and folders that a killed process left in `folder`; returns how many."""
    leftovers = [path for path in folder.glob(".*.tmp") if path.is_dir() or path.is_file()]
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return len(leftovers)


def write_text(target: Path, text: str) -> None:
    """Write `text` (UTF-8) to `target` atomically."""
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
