"""A vocabulary's table finds what a dictionary finds, for every type."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from etl.compiler.targets.lookup_table import Dense, Hashed, LookupTable, Packed, rows_of

EXTREME = [-(2**63) + 1, -1, 0, 1, 2**62, 2**63 - 1]
CASES = {
    "int64 extremes": (EXTREME, pl.Int64),
    "uint64": ([0, 1, 2**63, 2**64 - 1], pl.UInt64),
    "int8": (list(range(-100, 100)), pl.Int8),
    "float64": ([-1.5, 0.0, 2.0, float("inf"), float("-inf")], pl.Float64),
    "float32": ([-1.5, 0.1, 3e38], pl.Float32),
    "bool": ([True], pl.Boolean),
    "string": (["a", "ø", "日本", "a" * 40, " "], pl.String),
    "datetime": ([0, 1, -5, 10**15], pl.Datetime("us")),
    "nothing": ([], pl.Int64),
    "spread": ((np.random.default_rng(0).permutation(10**6)[:70_000] * 7919).tolist(), pl.Int64),
}


@pytest.mark.parametrize("case", CASES)
def test_codes_are_those_of_a_dictionary(case: str) -> None:
    values, dtype = CASES[case]
    keys = pl.Series("k", values).cast(dtype) if values else pl.Series("k", [], dtype)
    known = keys[: len(keys) // 2 + 1]
    codes = np.arange(7, 7 + len(known), dtype=np.int64)[::-1].copy()
    asked = pl.concat([keys, pl.Series("k", [None], dtype=keys.dtype), keys.reverse()])
    expected = dict(zip(known.to_list(), codes.tolist(), strict=True)) | {None: 1}
    found = LookupTable(known, codes, 1, 2)(asked)
    assert found.to_list() == [expected.get(value, 2) for value in asked.to_list()]
    other = LookupTable(known, codes, 1, None)(asked)
    assert other.to_list() == [expected.get(value) for value in asked.to_list()]
    assert LookupTable(known, codes, 1, 2)(asked.clear()).to_list() == []


def test_nan_is_null_and_zero_has_no_sign() -> None:
    found = LookupTable(pl.Series([0.0, 1.0]), np.array([3, 4]), 1, 2)(pl.Series([-0.0, float("nan"), None, 1.0, 5.0]))
    assert found.to_list() == [3, 1, 1, 4, 2]


def test_both_tables_find_the_same() -> None:
    keys = np.random.default_rng(1).permutation(50_000)[:20_000] - 25_000
    asked = np.arange(-30_000, 30_000)
    assert isinstance(rows_of(keys), Dense)
    np.testing.assert_array_equal(Dense(keys).find(asked), Hashed(keys).find(asked))


def test_a_table_of_32_bits_gives_what_the_others_give() -> None:
    rng = np.random.default_rng(3)
    ends = np.array([-(2**31), 2**31 - 1, 0, -1])
    keys = np.unique(np.concatenate([rng.integers(-(2**31), 2**31, 40_000), ends]))
    asked = np.concatenate([keys[::3], rng.integers(-(2**31), 2**31, 40_000), keys[:100] + 2**32, [2**62, -(2**62)]])
    assert isinstance(rows_of(keys), Packed)
    np.testing.assert_array_equal(Packed(keys).find(asked), Hashed(keys).find(asked))
