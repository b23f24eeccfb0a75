"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl.versions import installed

_PACKAGES = ("mews", "nvidia-pytriton", "tritonclient", "onnxruntime", "numpy", "polars", "nvtabular", "merlin-systems")


def describe(more: Sequence[str] = ()) -> dict[str, Any]:
    """Return the CPU's model, usable cores, memory (MiB), load (1 minute), kernel, Python and package versions.

    `more` are further packages; those that are not installed are left out.
    """
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) // 1024,
        "load_1m": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": installed((*_PACKAGES, *more)),
    }


def _field(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")
