"""What a server costs: processor time, memory and bytes on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; nothing if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """Return the user and system seconds of a process, its descendants, and those of them that have ended."""
    total = 0.0
    for process in tree(pid):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return total


def memory_mb(pid: int) -> float:
    """Return MiB of memory of a process tree, what is shared among processes counted once (PSS)."""
    total = 0
    for process in tree(pid):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


def disk_mb(paths: Iterable[Path]) -> float:
    """Return MiB of files and folders, links followed."""
    total = 0
    for path in paths:
        if path.is_file():
            total += path.stat().st_size
        for folder, _, names in os.walk(path, followlinks=True):
            total += sum((Path(folder) / name).stat().st_size for name in names)
    return total / 2**20
