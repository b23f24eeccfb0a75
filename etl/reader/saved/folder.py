"""A folder that is not trusted: its JSON is bounded, and what it points to must lie inside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etl.errors import ConfigError

LIVE = (
    "If you trust the code in it, load the workflow live: give file.py:function, a function that returns "
    "nvtabular.Workflow.load(folder)."
)
"""What to do about Python code in a folder: the one way that runs it, chosen by the user."""

LARGEST_JSON = 64 * 2**20
_DAMAGED = "Save the workflow again, or copy the whole folder again."


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; ConfigError if it is missing, damaged, not an object, or above 64 MiB."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ConfigError(
                str(path), expected=f"at most {LARGEST_JSON:,} bytes", received=f"{path.stat().st_size:,}"
            )
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint=_DAMAGED) from error
    if not isinstance(document, dict):
        raise ConfigError(str(path), expected="a JSON object", received=type(document).__name__)
    return document


def inside(folder: Path, relative: Any) -> Path:
    """Return the file or folder `relative` of `folder`; ConfigError if it is absent, or it or a link leads outside.

    NVTabular writes large tables as a folder of parts, so every part is checked too.
    """
    if not isinstance(relative, str) or not relative or "\0" in relative:
        raise ConfigError("a saved statistic", expected="a path in the folder", received=repr(relative)[:200])
    path = folder / relative
    for part in (path, *(path.rglob("*") if path.is_dir() else ())):
        if not part.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"saved statistic {relative!r}", expected=f"a file in {folder}", received="one outside")
    if not path.exists():
        raise ConfigError(
            f"saved statistic {relative!r}", expected=f"a file in {folder}", received="none", hint=_DAMAGED
        )
    return path
