"""DifferenceLag, Dropna, Filter, Groupby: in batch only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from tests.conformance.case import INF, LARGEST, NAN, SMALLEST, Case, Gap

_GAPS = {"onnx": Gap("never", "A request's rows must all be answered, each by itself.")}
_ROWS = pl.DataFrame(
    {
        "k": [2, 1, 2, 1, 3, 2, 9, 9],
        "kn": [2, 1, 2, None, 3, 2, None, 9],
        "u": ["b", "a", "b", "a", "é", "b", None, "日本"],
        "g": [0.5, -0.0, 0.5, 0.0, NAN, 0.5, None, INF],
        "x": [3, 1, 2, 9, 5, 2, 7, -7],
        "n": [3, None, 2, 9, None, 2, 7, None],
        "i8": pl.Series([3, 1, 2, 9, 127, -128 + 1, 7, -7], dtype=pl.Int8),
        "big": [LARGEST, 1, 2, 9, SMALLEST, 4, 5, 6],
        "y": [1.5, NAN, 2.5, -3.5, 4.5, None, 0.1, 0.2],
        "z": pl.Series([1.5, NAN, 2.5, -3.5, 4.5, None, 0.1, 0.2], dtype=pl.Float32),
        "s": ["p", None, "q", "r", "s", "q", "é", "p"],
        "t": [datetime(2020, 1, day) for day in (3, 1, 2, 9, 8, 7, 6, 5)],
        "l": [[1], [2, 3], [], [4], [5], [6], [7], [8]],
    },
    schema_overrides={"t": pl.Datetime("us")},
)
_ALL = ["list", "first", "last", "count", "nunique", "sum", "mean", "std", "var", "min", "max", "median"]


def _case(name: str, build: Any, rows: pl.DataFrame = _ROWS) -> Case:
    return Case(name, build, fit=rows, serve=rows, gaps=_GAPS, whole=True)


CASES = [
    _case("dropna", lambda o: ["n", "y", "k"] >> o.Dropna()),
    _case("dropna-text", lambda o: ["s", "u", "z"] >> o.Dropna()),
    _case("dropna-list", lambda o: ["l", "n"] >> o.Dropna()),
    _case("dropna-then-normalize", lambda o: ["n", "y"] >> o.Dropna() >> o.Normalize()),
    _case("dropna-after-categorify", lambda o: (["u"] >> o.Categorify()) + ["y"] >> o.Dropna()),
    _case("filter", lambda o: ["x", "y", "s"] >> o.Filter(lambda df: df["x"] > 2)),
    _case("filter-frame", lambda o: ["x", "y", "s"] >> o.Filter(lambda df: df[(df["y"] > 0) & (df["s"] != "q")])),
    _case("filter-missing", lambda o: ["n", "y"] >> o.Filter(lambda df: df[df["n"].notna()])),
    _case("filter-dates", lambda o: ["t", "x"] >> o.Filter(lambda df: df["t"].dt.day > 5)),
    _case("filter-all", lambda o: ["x", "y"] >> o.Filter(lambda df: df["x"] > 1000)),
    _case("filter-then-categorify", lambda o: ["u", "x"] >> o.Filter(lambda df: df["x"] < 6) >> o.Categorify()),
    _case("filter-twice", lambda o: ["x", "n"] >> o.Filter(lambda df: df["x"] > 1) >> o.Dropna()),
    _case("groupby", lambda o: ["k", "x", "y"] >> o.Groupby("k", aggs=_ALL)),
    _case("groupby-nulls", lambda o: ["k", "n", "z"] >> o.Groupby("k", aggs=_ALL)),
    _case("groupby-null-keys", lambda o: ["kn", "x"] >> o.Groupby("kn", aggs=["list", "sum"])),
    _case("groupby-text-keys", lambda o: ["u", "x"] >> o.Groupby("u", aggs=["list", "max"])),
    _case("groupby-float-keys", lambda o: ["g", "x"] >> o.Groupby("g", aggs=["list", "count"])),
    _case("groupby-two-keys", lambda o: ["k", "u", "x"] >> o.Groupby(["k", "u"], aggs="sum")),
    _case("groupby-small", lambda o: ["k", "i8"] >> o.Groupby("k", aggs=["sum", "min", "max", "mean", "first"])),
    _case("groupby-large", lambda o: ["k", "big"] >> o.Groupby("k", aggs=["list", "min", "max"])),
    _case("groupby-text", lambda o: ["k", "s"] >> o.Groupby("k", aggs=["list", "first", "last", "count", "nunique"])),
    _case("groupby-times", lambda o: ["k", "t"] >> o.Groupby("k", aggs=["min", "max", "count"])),
    _case("groupby-one-row-each", lambda o: ["t", "x"] >> o.Groupby("t", aggs=_ALL)),
    _case(
        "groupby-sorted", lambda o: ["k", "x", "s"] >> o.Groupby("k", sort_cols=["x"], aggs=["list", "first", "last"])
    ),
    _case(
        "groupby-descending",
        lambda o: ["k", "t", "s"] >> o.Groupby("k", sort_cols="t", aggs=["list", "first", "last"], ascending=False),
    ),
    _case(
        "groupby-sorted-nulls", lambda o: ["k", "y", "x"] >> o.Groupby("k", sort_cols=["y", "x"], aggs={"x": "list"})
    ),
    _case(
        "groupby-by-column",
        lambda o: (
            ["k", "x", "y", "t"]
            >> o.Groupby(["k"], sort_cols=["t"], aggs={"x": ["list", "mean"], "y": "max", "t": ["first"]}, name_sep="-")
        ),
    ),
    _case("groupby-without-keys", lambda o: ["x"] >> o.Groupby("k", aggs=["sum", "list"])),
    _case("groupby-then-slice", lambda o: ["k", "x"] >> o.Groupby("k", aggs="list")),
    _case(
        "groupby-short-names",
        lambda o: ["x", "k"] >> o.Rename(f=lambda n: {"x": "a"}.get(n, n)) >> o.Groupby("k", aggs="mean"),
    ),
    _case("lag", lambda o: ["x", "y"] >> o.DifferenceLag("k")),
    _case("lag-several", lambda o: ["x", "n", "z"] >> o.DifferenceLag(["k"], shift=[1, -1, 2])),
    _case("lag-two-keys", lambda o: ["x", "i8"] >> o.DifferenceLag(["k", "kn"], shift=1)),
    _case("lag-text-key", lambda o: ["x"] >> o.DifferenceLag("u")),
    _case("lag-then-fill", lambda o: ["x"] >> o.DifferenceLag("k") >> o.FillMissing() >> o.Normalize()),
    _case("lag-of-its-key", lambda o: ["k", "x"] >> o.DifferenceLag("k")),
]
