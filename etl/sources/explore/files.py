"""Which files are tables, and of which format: by their first bytes, for names lie."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

from etl.errors import DataError

SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".data", ".data.gz", ".arrow", ".ipc", ".feather")
_MAGIC = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"))
_SEPARATORS = (",", "\t", ";", "|")
_HEAD = 1 << 16
_ANY = "Parquet, CSV (also .tsv and .gz) or Arrow IPC"


def found(paths: Sequence[Path]) -> tuple[list[Path], str]:
    """Return the files that `paths` (files, or folders searched to any depth) stand for, and their one format.

    The format is parquet, csv or arrow. DataError for a missing path, a folder without tables, a file that is no table,
    or several formats at once.
    """
    files = [file for path in paths for file in _files(path)]
    formats = {file: kind(file) for file in files}
    kinds = sorted(set(formats.values()))
    if len(kinds) > 1:
        named = ", ".join(f"{next(f.name for f in files if formats[f] == one)} ({one})" for one in kinds)
        raise DataError("the files to describe", expected="one format", received=named)
    return files, kinds[0]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}", expected="a file or a folder", received="nothing there")
    inside = sorted(file for file in path.rglob("*") if file.is_file() and _listed(file.relative_to(path)))
    if not inside:
        raise DataError(f"{path}", expected=f"a folder with {_ANY} files", received="none", hint=_endings())
    return inside


def _listed(inside: Path) -> bool:
    """Files that a writer left for itself (_SUCCESS, .crc, hidden folders) are no tables."""
    return inside.name.lower().endswith(SUFFIXES) and not any(part.startswith((".", "_")) for part in inside.parts)


def _endings() -> str:
    return f"In folders, files are known by their names: {', '.join(SUFFIXES)}."


def kind(path: Path) -> str:
    """Return parquet, arrow or csv; DataError for a file that is none of them."""
    head = _head(path)
    if not head:
        raise DataError(f"{path}", expected="a table", received="an empty file")
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    named = path.name.lower().endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz"))
    if b"\0" in head or (separator(path) is None and not named):
        raise DataError(f"{path}", expected=f"a table: {_ANY}", received="a file of another kind")
    return "csv"


def separator(path: Path) -> str | None:
    """The character between the cells: the commonest in the header that is as often in the next line."""
    lines = _head(path).decode("utf-8", errors="replace").splitlines()[:2]
    counts = {one: [line.count(one) for line in lines] for one in _SEPARATORS}
    fitting = {one: seen[0] for one, seen in counts.items() if seen and seen[0] and seen[-1] >= seen[0]}
    return max(fitting, key=lambda one: fitting[one]) if fitting else None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as unpacked:
                head = unpacked.read(_HEAD)
    except (OSError, EOFError) as error:
        raise DataError(
            f"{path}",
            expected="a readable file",
            received=os.strerror(error.errno or 0) if isinstance(error, OSError) and error.errno else str(error),
        ) from error
    return head
