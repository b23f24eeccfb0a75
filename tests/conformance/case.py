"""What a case is, what a gap is, and the frames that most cases use: every edge that a column can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

INF, NAN = float("inf"), float("nan")
LARGEST, SMALLEST = 2**63 - 1, -(2**63) + 1  # -(2**63) means null in a request


@dataclass(frozen=True)
class Gap:
    """Something a target does not do: `ours` to add, `upstream` to repair, or `never`, and why."""

    whose: Literal["ours", "upstream", "never"]
    why: str


def _schema() -> dict[str, Any]:
    lists = {"l": pl.List(pl.Int64), "lf": pl.List(pl.Float32), "ls": pl.List(pl.String)}
    ints = {"i": pl.Int64, "n": pl.Int64, "i32": pl.Int32, "i8": pl.Int8, "u8": pl.UInt8}
    return {**ints, "f": pl.Float64, "f32": pl.Float32, "c": pl.Float64, "s": pl.String, "t": pl.String, **lists}


FIT = pl.DataFrame(
    {
        "i": [5, 5, 3, 3, 3, -7, 0, 1],
        "n": [5, None, 3, 3, 3, None, 0, 1],
        "i32": [5, 5, 3, 3, 3, -7, 0, 1],
        "i8": [5, 5, 3, 3, 3, -7, 0, 1],
        "u8": [5, 5, 3, 3, 3, 7, 0, 255],
        "f": [0.5, 0.5, 2.5, None, -3.25, 100.0, 0.0, NAN],
        "f32": [0.1, 0.1, 2.5, None, -3.3, 100.7, 0.0, NAN],
        "c": [4.0] * 8,
        "s": ["a", "a", "a", None, "é", "é", "日本", "b c"],
        "t": ["a", "z", "z", "é", None, "日本", "z", "y"],
        "l": [[1, 2], [], [1], [3, 1, 2], [1, 7, 8, 9, 9, 4], [2], [], [5]],
        "lf": [[1.5, 2.1], [], [1.3], [3.0, 1.0, 2.0], [0.1], [2.0], [], [5.0]],
        "ls": [["a", "b"], [], ["a"], ["é", "a", "b"], ["a"], ["b"], [], ["日本"]],
    },
    schema=_schema(),
)
SERVE = pl.DataFrame(
    {
        "i": [5, 3, 99, LARGEST, SMALLEST, 0, -7, 1],
        "n": [None, 3, 99, 0, 5, None, -7, 1],
        "i32": [5, 3, 99, 2**31 - 1, -(2**31) + 1, 0, -7, 1],
        "i8": [5, 3, 99, 127, -127, 0, -7, 1],
        "u8": [5, 3, 99, 255, 0, 0, 7, 1],
        "f": [None, NAN, INF, -INF, -0.0, 0.5, -1.0, 1e300],
        "f32": [None, NAN, INF, -INF, -0.0, 0.1, -1.0, 3e38],
        "c": [4.0, None, 0.0, NAN, INF, 4.0, -4.0, 5.0],
        "s": ["a", None, "unknown", "é", "日本", "A", "b c", " "],
        "t": ["a", None, "unknown", "é", "日本", "A", "z", " "],
        "l": [[1, 2, 3], [], [99], [1], [LARGEST, SMALLEST], [9, 9, 9, 9, 9, 9, 9], [2], [1, 2]],
        "lf": [[1.5, 2.1, 3.3], [], [99.9], [-0.0], [-5.0, INF], [9.0] * 7, [2.0], [1.0, NAN]],
        "ls": [["a", "b", "q"], [], ["unknown"], ["é"], ["日本", "a"], ["b"] * 7, [" "], ["A", "a"]],
    },
    schema=_schema(),
)


@dataclass(frozen=True, eq=False)
class Case:
    """One graph and its rows: `build` gets nvtabular.ops and returns the graph as NVTabular users write it.

    `buckets` names columns whose unknown values NVTabular hashes otherwise: there known codes must be equal and the
    others lie in the range. `whole` says that rows depend on one another, so one alone may give something else;
    `hashed` names columns of nothing but hashes, below so many. `gaps` says, by target, what is not done; it must then
    be refused.
    """

    name: str
    build: Callable[[Any], Any]
    fit: pl.DataFrame = field(default_factory=lambda: FIT)
    serve: pl.DataFrame = field(default_factory=lambda: SERVE)
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    buckets: Mapping[str, int] = field(default_factory=dict)
    whole: bool = False
    hashed: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.name
