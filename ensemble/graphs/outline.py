"""What an ONNX file says of itself, read without its weights: metadata, opsets, and which other files it reads.

It walks protobuf's wire format and seeks over what it does not need, so a file of gigabytes takes no memory. The file
is not trusted: every length is checked against the message around it, and depth is limited.
Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from etl.errors import ArtifactError

_DEEPEST = 32
_LONGEST_TEXT = 2**20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Outline:
    """`metadata` by key, `opsets` by domain ("" is ONNX's own), `files` that hold tensors kept outside."""

    metadata: dict[str, str] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    files: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Field:
    """One field of a message: a number, or the place of its bytes in the file."""

    number: int
    value: int
    start: int
    end: int


def outline(path: Path) -> Outline:
    """Read the outline of the ONNX file `path`; ArtifactError when it is no protobuf message."""
    metadata: dict[str, str] = {}
    opsets: dict[str, int] = {}
    files: set[str] = set()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            keeps_outside = _holds(file, size, b"location")
            for found in _fields(file, 0, size):
                if found.number == 14:  # metadata_props
                    metadata.update([_entry(file, found)])
                elif found.number == 8:  # opset_import
                    opsets.update([_opset(file, found)])
                elif keeps_outside and (kind := _INSIDE["model"].get(found.number)):
                    files.update(_outside(file, found, kind, 0))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a valid ONNX graph", received=str(error)) from error
    return Outline(metadata, opsets, frozenset(files))


# Of each kind of message: the fields in which tensors may be, by their kind.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
}


def _holds(file: BinaryIO, size: int, word: bytes) -> bool:
    """Whether `word` is anywhere in the file: a vocabulary of millions of strings is not walked for nothing."""
    if not size:
        return False
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as whole:
        return whole.find(word) >= 0


def _outside(file: BinaryIO, message: _Field, kind: str, depth: int) -> Iterator[str]:
    """Yield the files that tensors in `message` name."""
    if depth > _DEEPEST:
        raise ValueError(f"messages nested deeper than {_DEEPEST}")
    for found in _fields(file, message.start, message.end):
        if kind == "tensor":
            if found.number == 13:  # external_data
                key, value = _entry(file, found)
                if key == "location":
                    yield value
        elif inner := _INSIDE[kind].get(found.number):
            yield from _outside(file, found, inner, depth + 1)


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message at start..end; ValueError when it is none."""
    at = start
    while at < end:
        file.seek(at)
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        value = _varint(file) if kind in (_VARINT, _BYTES) else 0
        here = file.tell()
        size = {_VARINT: 0, _FIXED64: 8, _FIXED32: 4, _BYTES: value}.get(kind)
        if size is None or number == 0 or here + size > end:
            raise ValueError(f"no protobuf message at byte {at}")
        yield _Field(number, value, here, here + size)
        at = here + size


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends in the middle")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number of more than 64 bits")


def _entry(file: BinaryIO, message: _Field) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    texts = {found.number: _text(file, found) for found in _fields(file, message.start, message.end)}
    return texts.get(1, ""), texts.get(2, "")


def _opset(file: BinaryIO, message: _Field) -> tuple[str, int]:
    fields = {found.number: found for found in _fields(file, message.start, message.end)}
    return _text(file, fields[1]) if 1 in fields else "", fields[2].value if 2 in fields else 0


def _text(file: BinaryIO, message: _Field) -> str:
    if message.end - message.start > _LONGEST_TEXT:
        raise ValueError(f"a text of more than {_LONGEST_TEXT} bytes")
    file.seek(message.start)
    return file.read(message.end - message.start).decode("utf-8")
