"""The one hash for operators inside an NVTabular workflow, in plain NumPy: HashCode (etl/compiler/tables.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SENTINELS = {"int8": -(2**7), "int16": -(2**15), "int32": -(2**31), "int64": -(2**63), "datetime": -(2**63)}
"""What a null of these types is hashed as (etl/dtypes.py)."""
_U32 = np.uint32


def hashed(values: Any, dtype: str) -> Any:
    """Return the hash of each value of a NumPy array or pandas Series, int64.

    `dtype` is the column's in the graph, for a column with nulls may have another one in pandas.
    """
    if dtype == "string":
        return _hash_strings(values)
    words = np.ascontiguousarray(_numbers_of(values, dtype)).view("<u4").reshape(-1, 2)
    state = np.zeros(len(words), _U32)
    for column in (0, 1):
        state = _add_block(state, words[:, column])
    return _finish(state, np.full(len(words), 8, _U32))


def crossed(columns: Sequence[Any], dtypes: Sequence[str]) -> Any:
    """Return one hash of several columns (etl/compiler/lowering/keys.py), int64."""
    found = None
    for values, dtype in zip(columns, dtypes, strict=True):
        own = hashed(values, dtype)
        found = own if found is None else (found * 1_000_003 + own) % 2**32
    return found


def _hash_strings(values: Any) -> Any:
    encoded = [b"" if _missing(value) else str(value).encode() for value in values]
    lengths = np.array([len(text) for text in encoded], _U32)
    width = (int(lengths.max(initial=0)) // 4 + 1) * 4
    padded = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in encoded), "<u4").reshape(-1, width // 4)
    state = np.zeros(len(encoded), _U32)
    for block in range(width // 4):
        words = padded[:, block]
        state = np.where(lengths >= 4 * (block + 1), _add_block(state, words), state)
        tail = (lengths // 4 == block) & (lengths % 4 > 0)
        state = np.where(tail, state ^ _scramble(words), state)
    return _finish(state, lengths)


def _numbers_of(values: Any, dtype: str) -> Any:
    """Return values other than strings as the 64 bits that are hashed."""
    if dtype.startswith("float"):
        floats = np.array([np.nan if _missing(value) else value for value in values], np.float64)
        return np.where(np.isnan(floats), np.nan, floats + 0.0)
    if dtype == "datetime":
        times = np.asarray(values, "datetime64[us]")
        return np.where(np.isnat(times), SENTINELS[dtype], times.astype(np.int64))
    null = SENTINELS.get(dtype, 0)
    whole = np.array([null if _missing(value) else int(value) for value in values], object)
    return whole.astype(np.uint64 if dtype == "uint64" else np.int64).view(np.int64)


def _missing(value: Any) -> bool:
    return value is None or value != value


def _rotate(words: Any, bits: int) -> Any:
    return (words << _U32(bits)) | (words >> _U32(32 - bits))


def _scramble(words: Any) -> Any:
    return _rotate(words * _U32(0xCC9E2D51), 15) * _U32(0x1B873593)


def _add_block(state: Any, words: Any) -> Any:
    return _rotate(state ^ _scramble(words), 13) * _U32(5) + _U32(0xE6546B64)


def _finish(state: Any, lengths: Any) -> Any:
    state = state ^ lengths
    state = (state ^ (state >> _U32(16))) * _U32(0x85EBCA6B)
    state = (state ^ (state >> _U32(13))) * _U32(0xC2B2AE35)
    return (state ^ (state >> _U32(16))).astype(np.int64)
