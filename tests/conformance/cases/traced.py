"""LambdaOp: functions over columns that are recorded. Functions of text are for batch only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from tests.conformance.case import FIT, SERVE, Case, Gap

_INTS, _SMALL, _FLOATS = ["i", "n", "i32"], ["i8", "u8"], ["f", "f32", "c"]
_TEXT = {"onnx": Gap("never", "ONNX has no functions of text at this opset.")}
_FLOAT16 = {target: Gap("never", "NumPy makes float16.") for target in ("polars", "onnx")}
_DATES = pl.DataFrame(
    {
        "d": pl.Series(
            [
                datetime(1700, 1, 1),
                datetime(1899, 12, 31, 23, 59, 59, 999_999),
                datetime(1969, 12, 31, 0, 0, 1),
                None,
                datetime(1970, 1, 1),
                datetime(2000, 2, 29, 12, 30, 15, 7),
                datetime(2024, 12, 31, 18),
                datetime(2200, 12, 31, 6, 59),
            ],
            dtype=pl.Datetime("us"),
        ),
        "e": pl.Series([datetime(2000, 1, 1, hour) for hour in range(7)] + [None], dtype=pl.Datetime("us")),
        "i": [5, 3, 99, 1, 2, 0, -7, 1],
    }
)
_WORDS = pl.DataFrame({"s": ["a", None, "  Straße ", "éÉ", "日本語テキスト", "A.b.c", "xx", " "], "i": [*range(8)]})


def _lambda(columns: list[str], function: Any, **options: Any) -> Any:
    return lambda o: columns >> o.LambdaOp(function, **options)


def _dated(name: str, function: Any, columns: tuple[str, ...] = ("d", "e"), **options: Any) -> Case:
    return Case(f"lambda-{name}", _lambda(list(columns), function, **options), fit=_DATES, serve=_DATES)


def _text(name: str, function: Any) -> Case:
    return Case(f"lambda-{name}", _lambda(["s"], function), fit=_WORDS, serve=_WORDS, gaps=_TEXT)


def _part(name: str) -> Any:
    return lambda col: getattr(col.dt, name)


def _applied(function: Any) -> Any:
    return lambda col: function(col)


def _ratio(column: Any, frame: Any) -> Any:
    total = frame["i32"].astype("float64") + frame.f
    return np.where(total > 0, column / total, 0)


_PARTS = [
    "year",
    "quarter",
    "month",
    "day",
    "dayofyear",
    "weekday",
    "hour",
    "minute",
    "second",
    "microsecond",
    "days_in_month",
]
_FLAGS = ["is_month_start", "is_month_end", "is_leap_year"]
_UFUNCS = [
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sqrt",
    "square",
    "tanh",
    "sign",
    "floor",
    "ceil",
    "rint",
    "abs",
]

CASES = [
    Case("lambda-arithmetic", _lambda([*_INTS, *_FLOATS], lambda col: (col * 3 - 1) / 2 + 0.5)),
    Case("lambda-integers", _lambda(_INTS[:1] + _SMALL, lambda col: 2 * col + 1)),
    Case("lambda-small-constants", _lambda(_SMALL, lambda col: col + 1000)),
    Case("lambda-small-floats", _lambda(_SMALL, lambda col: col * 0.5)),
    Case("lambda-float32", _lambda(["f32"], lambda col: (col + 0.1) * 3 - 2 / (col + 5))),
    Case("lambda-reversed", _lambda(["i32", "f"], lambda col: 10 - col)),
    Case("lambda-division", _lambda(["i", "u8", "f", "f32"], lambda col: 1 / col)),
    Case("lambda-whole-division", _lambda(["i", "i32", "i8", "u8"], lambda col: col // 3)),
    Case("lambda-remainder", _lambda(["i", "i32", "i8"], lambda col: col % 7)),
    Case("lambda-negative-divisor", _lambda(["i", "i32"], lambda col: col // -4 + col % -4)),
    Case("lambda-power", _lambda(["i32", "f", "f32"], lambda col: col**2)),
    Case("lambda-power-fraction", _lambda(["f", "c"], lambda col: abs(col) ** 0.5)),
    Case("lambda-negative", _lambda(["i32", "f", "f32"], lambda col: -col)),
    Case("lambda-compare", _lambda([*_INTS, *_SMALL, *_FLOATS], lambda col: col > 0)),
    Case("lambda-compare-fraction", _lambda([*_INTS, *_SMALL, *_FLOATS], lambda col: col <= 0.5)),
    Case("lambda-equal", _lambda([*_INTS, *_FLOATS], lambda col: col == 5)),
    Case("lambda-unequal", _lambda([*_INTS, *_FLOATS], lambda col: col != 0)),
    Case("lambda-equal-text", _lambda(["s", "t"], lambda col: (col == "a").astype("int32"))),
    Case("lambda-unequal-text", _lambda(["s"], lambda col: col != "a")),
    Case("lambda-boolean", _lambda(["i", "f"], lambda col: ((col > 0) & ~(col == 3)) | (col < -2))),
    Case("lambda-exclusive", _lambda(["i", "f"], lambda col: (col > 0) ^ (col > 3))),
    Case("lambda-boolean-sum", _lambda(["i", "f"], lambda col: (col > 0) + (col > 3))),
    Case("lambda-boolean-to-number", _lambda(["i", "f"], lambda col: (col > 0) * 2.5)),
    Case("lambda-between", _lambda(["i", "f"], lambda col: col.between(0, 3))),
    Case("lambda-isna", _lambda(["n", "f", "s"], lambda col: col.isna())),
    Case("lambda-notna", _lambda(["n", "f", "s"], lambda col: col.notna().astype(int))),
    Case("lambda-fillna", _lambda(["n", "f", "f32"], lambda col: col.fillna(7))),
    Case("lambda-fillna-text", _lambda(["s"], lambda col: col.fillna("nothing"))),
    Case(
        "lambda-fillna-column",
        lambda o: ["n", "c"] >> o.LambdaOp(lambda col, df: col.fillna(df["i"]), dependency=["i"]),
    ),
    Case("lambda-isin", _lambda(["i", "n", "f", "s", "i8"], lambda col: col.isin([5, 3, 0.5, "a", 1000]))),
    Case("lambda-where", _lambda(["i32", "f", "f32"], lambda col: col.where(col > 0, -1))),
    Case("lambda-where-null", _lambda(["i", "f", "f32"], lambda col: col.where(col > 0))),
    Case("lambda-mask", _lambda(["i32", "f"], lambda col: col.mask(col > 3, 3))),
    Case("lambda-where-text", _lambda(["s"], lambda col: col.where(col == "a", "other"))),
    Case("lambda-np-where", _lambda(["i32", "f"], lambda col: np.where(col > 0, col, 0))),
    Case("lambda-np-where-constants", _lambda(["i", "f"], lambda col: np.where(col > 0, 1, 0))),
    Case("lambda-np-where-text", _lambda(["i"], lambda col: np.where(col > 0, "yes", "no"))),
    Case("lambda-clip", _lambda(["i", "f", "f32"], lambda col: col.clip(0, 4))),
    Case("lambda-clip-one", _lambda(["n", "f"], lambda col: col.clip(upper=1))),
    Case("lambda-round", _lambda(["f32", "c"], lambda col: col.round(1))),
    Case("lambda-round-whole", _lambda(["i", "f", "f32"], lambda col: col.round())),
    Case("lambda-extremes", _lambda(["i32", "f", "f32"], lambda col: np.maximum(np.minimum(col, 3), -1))),
    *(
        Case(f"lambda-np-{name}", _lambda(["i", "f", "f32", "c"], _applied(getattr(np, name))))
        for name in _UFUNCS
        if name != "abs"
    ),
    Case("lambda-np-abs", _lambda(["i", "i32", "u8", "f"], lambda col: np.abs(col))),
    Case("lambda-np-sin", _lambda(["f32"], lambda col: np.sin(col.clip(-5, 5)))),
    Case("lambda-np-float16", _lambda(["i8"], lambda col: np.exp(col)), gaps=_FLOAT16),
    Case("lambda-isfinite", _lambda(["f", "i"], lambda col: np.isfinite(col))),
    Case("lambda-astype-float", _lambda(["i", "n", "u8", "f"], lambda col: col.astype(np.float32))),
    Case(
        "lambda-astype-int",
        _lambda(["i", "i8", "u8"], lambda col: col.astype("int32")),
        serve=SERVE.with_columns(i=pl.col("i") % 1000),
    ),
    Case(
        "lambda-astype-truncates",
        _lambda(["g"], lambda col: col.astype("int64")),
        fit=FIT.select(g=pl.lit(0.5)),
        serve=pl.DataFrame({"g": [0.9, -0.9, -2.5, 1e15, 0.0, -1.0]}),
    ),
    Case("lambda-astype-bool", _lambda(["i", "f"], lambda col: col.astype(bool))),
    Case("lambda-two-columns", lambda o: ["i", "c"] >> o.LambdaOp(_ratio, dependency=["i32", "f"])),
    Case(
        "lambda-dependency-float32", lambda o: ["f32"] >> o.LambdaOp(lambda col, df: col + df["i8"], dependency=["i8"])
    ),
    Case(
        "lambda-dependency-node",
        lambda o: ["i"] >> o.LambdaOp(lambda col, df: col * df["f"], dependency=[["f"] >> o.FillMissing()]),
    ),
    Case(
        "lambda-chain",
        lambda o: ["f"] >> o.FillMissing() >> o.LambdaOp(lambda col: col.clip(0, 50)) >> o.LogOp() >> o.Normalize(),
    ),
    Case("lambda-then-categorify", lambda o: ["i"] >> o.LambdaOp(lambda col: col % 3) >> o.Categorify()),
    Case("lambda-then-rename", lambda o: ["f"] >> o.LambdaOp(lambda col: col > 0) >> o.Rename(postfix="_positive")),
    Case("lambda-one-row", _lambda(["i", "f"], lambda col: col + 1), serve=SERVE.head(1)),
    Case("lambda-declared", _lambda(["f"], lambda col: col * 2, dtype="float64", tags=["continuous"])),
    *(_dated(f"date-{part}", _part(part), ("d",)) for part in (*_PARTS, *_FLAGS)),
    _dated("date-weekend", lambda col: (col.dt.dayofweek >= 5).astype("int8")),
    _dated("date-normalize", lambda col: col.dt.normalize()),
    _dated("date-floor", lambda col: col.dt.floor("h")),
    _dated("date-age", lambda col: (pd.Timestamp("2024-07-01 12:00") - col).dt.days),
    _dated("date-age-seconds", lambda col: (pd.Timestamp("2024-07-01") - col).dt.total_seconds()),
    _dated("date-age-years", lambda col: (pd.Timestamp("1960-07-01") - col) / pd.Timedelta(days=365)),
    _dated("date-difference", lambda col, df: (col - df["e"]).dt.days, ("d",), dependency=["e"]),
    _dated("date-seconds", lambda col, df: (col - df["e"]).dt.seconds, ("d",), dependency=["e"]),
    _dated("date-later", lambda col: col + pd.Timedelta(hours=36)),
    _dated("date-after", lambda col: col > pd.Timestamp("1999-01-01")),
    _dated("date-after-text", lambda col: col >= "1970-01-01"),
    _dated("date-isna", lambda col: col.isna()),
    _dated("date-cyclic", lambda col: np.sin(2 * np.pi * (col.dt.hour + 0.5) / 24)),
    _text("text-length", lambda col: col.str.len()),
    _text("text-lower", lambda col: col.str.lower()),
    _text("text-upper", lambda col: col.str.upper()),
    _text("text-slice", lambda col: col.str.slice(0, 2)),
    _text("text-slice-last", lambda col: col.str[-2:]),
    _text("text-join", lambda col: "<" + col + ">"),
    _text("text-replace", lambda col: col.str.replace(".", "-", regex=False)),
    _text("text-starts", lambda col: col.str.startswith("x", na=False).astype("int64")),
    _text("text-contains", lambda col: col.str.contains(".b", regex=False, na=False).astype("int64")),
]
