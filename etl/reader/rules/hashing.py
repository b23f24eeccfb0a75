"""The one hash for operators inside an NVTabular workflow: plain NumPy that a saved workflow carries with it."""

from __future__ import annotations

from typing import Any

SENTINELS = {"int8": -(2**7), "int16": -(2**15), "int32": -(2**31), "int64": -(2**63), "datetime": -(2**63)}
"""What a null of these types is hashed as (etl/dtypes.py)."""


def make_hash() -> Any:
    """Return `hashed(values, dtype)`: HashCode (etl/compiler/tables.py) of a NumPy array or pandas Series, int64.

    `dtype` is the column's in the graph, for a column with nulls may have another one in pandas. The function is made
    here and not at the top, so that cloudpickle writes it into a workflow, which then needs no Mews.
    """
    import numpy as np

    u32 = np.uint32
    sentinels = dict(SENTINELS)

    def rotate(words: Any, bits: int) -> Any:
        return (words << u32(bits)) | (words >> u32(32 - bits))

    def scramble(words: Any) -> Any:
        return rotate(words * u32(0xCC9E2D51), 15) * u32(0x1B873593)

    def add_block(state: Any, words: Any) -> Any:
        return rotate(state ^ scramble(words), 13) * u32(5) + u32(0xE6546B64)

    def finish(state: Any, lengths: Any) -> Any:
        state = state ^ lengths
        state = (state ^ (state >> u32(16))) * u32(0x85EBCA6B)
        state = (state ^ (state >> u32(13))) * u32(0xC2B2AE35)
        return (state ^ (state >> u32(16))).astype(np.int64)

    def missing(value: Any) -> bool:
        return value is None or value != value

    def hash_strings(values: Any) -> Any:
        encoded = [b"" if missing(value) else str(value).encode() for value in values]
        lengths = np.array([len(text) for text in encoded], u32)
        width = (int(lengths.max(initial=0)) // 4 + 1) * 4
        padded = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in encoded), "<u4").reshape(-1, width // 4)
        state = np.zeros(len(encoded), u32)
        for block in range(width // 4):
            words = padded[:, block]
            state = np.where(lengths >= 4 * (block + 1), add_block(state, words), state)
            tail = (lengths // 4 == block) & (lengths % 4 > 0)
            state = np.where(tail, state ^ scramble(words), state)
        return finish(state, lengths)

    def numbers_of(values: Any, dtype: str) -> Any:
        if dtype.startswith("float"):
            floats = np.array([np.nan if missing(value) else value for value in values], np.float64)
            return np.where(np.isnan(floats), np.nan, floats + 0.0)
        if dtype == "datetime":
            times = np.asarray(values, "datetime64[us]")
            return np.where(np.isnat(times), sentinels[dtype], times.astype(np.int64))
        null = sentinels.get(dtype, 0)
        whole = np.array([null if missing(value) else int(value) for value in values], object)
        return whole.astype(np.uint64 if dtype == "uint64" else np.int64).view(np.int64)

    def hashed(values: Any, dtype: str) -> Any:
        if dtype == "string":
            return hash_strings(values)
        words = np.ascontiguousarray(numbers_of(values, dtype)).view("<u4").reshape(-1, 2)
        state = np.zeros(len(words), u32)
        for column in (0, 1):
            state = add_block(state, words[:, column])
        return finish(state, np.full(len(words), 8, u32))

    return hashed


def make_crossed() -> Any:
    """Return `crossed(columns, dtypes)`: one hash of several columns (etl/compiler/lowering/keys.py), int64."""
    hashed = make_hash()

    def crossed(columns: Any, dtypes: Any) -> Any:
        found = None
        for values, dtype in zip(columns, dtypes, strict=True):
            own = hashed(values, dtype)
            found = own if found is None else (found * 1_000_003 + own) % 2**32
        return found

    return crossed
