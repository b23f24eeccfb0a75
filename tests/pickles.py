"""Looks for pickles in files by what is in them, not by what they are called."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

_NAMES = (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth")
_LARGEST = 64 * 2**20
_UNPACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"\x5d\x00\x00": lzma.decompress,
    b"\x78": zlib.decompress,
}


def pickles_below(folder: Path) -> Iterator[str]:
    """Yield every file below `folder` that is a pickle or has one in it, with what it is."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            if path.suffix in _NAMES:
                yield f"{path}: called {path.suffix}"
            with path.open("rb") as file:
                yield from (f"{path}: {found}" for found in pickles_in(file.read(_LARGEST)))


def pickles_in(content: bytes) -> Iterator[str]:
    """Yield what is a pickle in the bytes of a file: itself, in an archive, packed, or as objects of an array."""
    if _is_pickle(content):
        yield "a pickle"
    elif content.startswith(b"\x93NUMPY"):
        if b"|O" in content[:256] or b"'O'" in content[:256]:
            yield "an array of objects"
    elif content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from (f"{name}: {found}" for found in pickles_in(archive.read(name)))
    else:
        for magic, unpack in _UNPACKERS.items():
            if content.startswith(magic):
                try:
                    yield from (f"packed: {found}" for found in pickles_in(unpack(content)))
                except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError):
                    return


def _is_pickle(content: bytes) -> bool:
    """Whether the bytes start with a pickle's instructions, up to its STOP; nothing of them is run."""
    if content[:1] == b"\x80" and content[1:2] in b"\2\3\4\5":
        return True
    operations, end = 0, 0
    try:
        with warnings.catch_warnings(action="error"):  # a strange escape: it was no text of a pickle
            for _, _, at in pickletools.genops(content):
                operations, end = operations + 1, at or 0
    except (ValueError, Warning):
        return False
    return operations > 2 and not content[end + 1 :].strip()
