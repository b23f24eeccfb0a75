"""The scan for pickles in files finds every kind that we know, and nothing in what Mews writes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.pickles import pickles_below, pickles_in

_VALUE = {"a": [1, 2.5, "text"], "b": complex}


def _array(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def _archive(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_found(protocol: int) -> None:
    assert list(pickles_in(pickle.dumps(_VALUE, protocol))) == ["a pickle"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_a_packed_pickle_is_found(pack) -> None:
    assert list(pickles_in(pack(pickle.dumps(_VALUE)))) == ["packed: a pickle"]


def test_pickles_in_arrays_and_archives_are_found() -> None:
    objects = _array(np.array([_VALUE], dtype=object))
    assert list(pickles_in(objects)) == ["an array of objects"]
    assert list(pickles_in(_archive(data=pickle.dumps(_VALUE, 2)))) == ["data: a pickle"]
    assert list(pickles_in(_archive(data=objects))) == ["data: an array of objects"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# a text\n",
        b".",
        json.dumps(_VALUE, default=str).encode(),
        b'name: "mews"\nplatform: "ensemble"\n',
        _array(np.arange(3.0)),
        _array(np.array(["a", "b"])),
        _archive(text=b"hello"),
        gzip.compress(b"hello", mtime=0),
        b"\x78\x9c no stream",
    ],
)
def test_nothing_else_is_found(content: bytes) -> None:
    assert list(pickles_in(content)) == []


def test_names_and_contents_of_a_folder_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    pl.DataFrame({"x": ["a", None]}).write_parquet(tmp_path / "a" / "table.parquet")
    assert list(pickles_below(tmp_path)) == []
    (tmp_path / "a" / "b" / "weights").write_bytes(pickle.dumps(_VALUE))
    (tmp_path / "model.pkl").write_bytes(b"")
    assert list(pickles_below(tmp_path)) == [
        f"{tmp_path}/a/b/weights: a pickle",
        f"{tmp_path}/model.pkl: called .pkl",
    ]
