"""DataStats, DropLowCardinality, ReduceDtypeSize, ValueCount."""

from __future__ import annotations

from typing import Any

import polars as pl

from tests.conformance.case import FIT, Case

_WHOLE = FIT.select("i", "i32", "u8", "f", "f32", big=pl.col("i") * 10**10, wide=pl.col("i") * 1000)


def _many(o: Any, least: int) -> Any:
    return ["s", "t", "i8"] >> o.Categorify() >> o.DropLowCardinality(least)


CASES = [
    Case("stats", lambda o: ["i", "i32", "u8", "f", "f32", "c", "s", "t"] >> o.DataStats()),
    Case("stats-then-log", lambda o: ["i", "f"] >> o.DataStats() >> o.LogOp()),
    Case("drop-low", lambda o: _many(o, 7)),
    Case("drop-low-none", lambda o: _many(o, 1)),
    Case("drop-low-default", lambda o: ["s", "t"] >> o.Categorify() >> o.DropLowCardinality()),
    Case("drop-low-beside", lambda o: _many(o, 7) + (["f"] >> o.FillMissing())),
    Case("reduce", lambda o: list(_WHOLE.columns) >> o.ReduceDtypeSize(), fit=_WHOLE, serve=_WHOLE),
    Case(
        "reduce-float64", lambda o: ["i", "f32"] >> o.ReduceDtypeSize(float_dtype="float64"), fit=_WHOLE, serve=_WHOLE
    ),
    Case("reduce-then-fill", lambda o: ["i", "f"] >> o.ReduceDtypeSize() >> o.FillMissing(), fit=_WHOLE, serve=_WHOLE),
    Case("reduce-then-log", lambda o: ["i", "f"] >> o.ReduceDtypeSize() >> o.LogOp(), fit=_WHOLE, serve=_WHOLE),
    Case("reduce-then-rename", lambda o: ["i", "f"] >> o.ReduceDtypeSize() >> o.Rename(postfix="_s"), fit=_WHOLE),
    Case("reduce-wraps", lambda o: ["i"] >> o.ReduceDtypeSize(), serve=FIT.with_columns(pl.col("i") * 1000)),
    Case("value-count", lambda o: ["l", "lf", "ls"] >> o.ValueCount()),
    Case("value-count-then-slice", lambda o: ["l"] >> o.ValueCount() >> o.ListSlice(2)),
    Case("categorify-then-value-count", lambda o: ["l", "ls"] >> o.Categorify() >> o.ValueCount()),
]
