"""SHA-256 of files: each read once, several at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_BUFFER = 2**20
_MOST_THREADS = 8


@dataclass(frozen=True)
class FileRecord:
    """One file: hex SHA-256 and size in bytes."""

    sha256: str
    size: int


def hash_files(paths: Sequence[Path]) -> list[FileRecord]:
    """Return the records of files, in order; OSError for one that cannot be read."""
    with ThreadPoolExecutor(threads()) as pool:
        return list(pool.map(_hash_file, paths))


def threads() -> int:
    """Return how many files are worth reading at a time: hashing one keeps one core busy."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def hash_descriptor(descriptor: int) -> FileRecord:
    """Return the record of an open file, read from where it stands to its end."""
    digest, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(_BUFFER))
    while count := os.readv(descriptor, [buffer]):
        digest.update(buffer[:count])
        size += count
    return FileRecord(digest.hexdigest(), size)


def _hash_file(path: Path) -> FileRecord:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return hash_descriptor(descriptor)
    finally:
        os.close(descriptor)
