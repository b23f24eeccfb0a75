"""Integers equal, floats within one unit of float32 rounding, row order kept."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np

_EPOCH = datetime.datetime(1970, 1, 1)


def assert_same(name: str, expected: list[Any], received: list[Any]) -> None:
    """Raise AssertionError that names the first rows that differ."""
    assert len(expected) == len(received), f"{name}: expected {len(expected)} rows, received {len(received)}"
    wrong = [
        (row, a, b) for row, (a, b) in enumerate(zip(expected, received, strict=True)) if not same(plain(a), plain(b))
    ]
    assert not wrong, f"{name}: (row, expected, received) {wrong[:5]}"


def plain(value: Any) -> Any:
    """Return a value as plain Python: lists for arrays, None for null and NaN alike, microseconds for datetimes."""
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return None if value != value else (value - _EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def same(a: Any, b: Any) -> bool:
    """True if two plain values are the same to within one unit of float32 rounding."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if (isinstance(a, float) and isinstance(b, int | float)) or (isinstance(b, float) and isinstance(a, int | float)):
        return ulps(float(a), float(b)) <= 1
    return type(a) is type(b) and a == b


def ulps(a: float, b: float) -> int:
    """Return how many float32 values lie between a and b."""
    with np.errstate(over="ignore"):
        bits = np.array([a, b], np.float32).view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return int(abs(ordered[0] - ordered[1]))
