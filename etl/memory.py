"""How much memory may be used, and how much is: limits as people write them, and what this process has."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from etl.errors import ConfigError

_SHARE = 0.5
"""The part of the machine's memory that fit may use unless told otherwise."""

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}


def parse_bytes(text: str) -> int:
    """Return the bytes that `text` ("4GB", "512 MiB", "1000000") says; ConfigError for anything else."""
    upper = text.strip().upper()
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if upper.endswith(unit)), "")
    try:
        found = int(float(upper.removesuffix(unit)) * _UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        found = 0
    if found <= 0:
        raise ConfigError("memory limit", expected="bytes, such as 4GB or 512MiB", received=repr(text))
    return found


def default_limit() -> int:
    """Return half of the memory of this machine, or of the container's share of it."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # no such kind of container, or "max": no limit
    return int(min(found) * _SHARE)


def resident() -> int:
    """Return the bytes of memory that this process has now; where the system does not say, the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def peak() -> int:
    """Return the most bytes of memory that this process has had.

    Not getrusage's, where there is another: that begins with the peak of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10
    except (OSError, ValueError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
