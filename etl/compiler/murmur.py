"""MurmurHash3_x86_32 with seed 0 over whole columns, bit for bit as ONNX Runtime's com.microsoft.MurmurHash3.

Algorithm: Austin Appleby, public domain (github.com/aappleby/smhasher).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Words = NDArray[np.uint32]


def hash_series(values: pl.Series) -> Words:
    """Return the hash of each value; a null hashes like an empty string or a zero.

    Strings are hashed as UTF-8; floats as 8 bytes of float64; all others as 8 bytes of int64, little-endian.
    """
    if values.dtype == pl.String:
        unique = values.fill_null("").unique()
        hashes = pl.Series(_hash_strings(unique), dtype=pl.UInt32)
        return values.fill_null("").replace_strict(unique, hashes, return_dtype=pl.UInt32).to_numpy()
    wide = np.float64 if values.dtype.is_float() else np.int64
    numbers = values.fill_null(0).to_physical().to_numpy() if values.dtype != pl.Boolean else values.to_numpy()
    words = np.ascontiguousarray(numbers.astype(wide)).view("<u4").reshape(-1, 2)
    state = np.zeros(len(words), np.uint32)
    for column in (0, 1):
        state = _add_block(state, words[:, column])
    return _finish(state, np.full(len(words), 8, np.uint32))


def _hash_strings(values: pl.Series) -> Words:
    encoded = [text.encode() for text in values]
    lengths = np.array([len(text) for text in encoded], np.uint32)
    width = (int(lengths.max(initial=0)) // 4 + 1) * 4
    padded = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in encoded), "<u4").reshape(-1, width // 4)
    state = np.zeros(len(encoded), np.uint32)
    for block in range(width // 4):
        words = padded[:, block]
        state = np.where(lengths >= 4 * (block + 1), _add_block(state, words), state)
        tail = (lengths // 4 == block) & (lengths % 4 > 0)
        state = np.where(tail, state ^ _scramble(words), state)
    return _finish(state, lengths)


def _rotate(words: Words, bits: int) -> Words:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))


def _scramble(words: Words) -> Words:
    return _rotate(words * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)


def _add_block(state: Words, words: Words) -> Words:
    return _rotate(state ^ _scramble(words), 13) * np.uint32(5) + np.uint32(0xE6546B64)


def _finish(state: Words, lengths: Words) -> Words:
    state = state ^ lengths
    state = (state ^ (state >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    state = (state ^ (state >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return state ^ (state >> np.uint32(16))
