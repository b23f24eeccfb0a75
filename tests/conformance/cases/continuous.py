"""Clip, LogOp, Normalize, NormalizeMinMax, Bucketize."""

from __future__ import annotations

from tests.conformance.case import FIT, Case

NUMBERS = ["i", "n", "i32", "i8", "u8", "f", "f32", "c"]

CASES = [
    Case("clip-both", lambda o: ["i", "n", "i32", "u8", "f", "f32", "c"] >> o.Clip(min_value=0, max_value=4)),
    Case("clip-min", lambda o: NUMBERS >> o.Clip(min_value=1)),
    Case("clip-max", lambda o: NUMBERS >> o.Clip(max_value=1)),
    Case("clip-fraction", lambda o: ["f", "f32"] >> o.Clip(min_value=-0.1, max_value=0.1)),
    Case("clip-crossed", lambda o: ["f", "f32", "i"] >> o.Clip(min_value=3, max_value=1)),
    Case("clip-then-log", lambda o: ["n", "f"] >> o.Clip(min_value=0) >> o.LogOp()),
    Case("log", lambda o: NUMBERS >> o.LogOp()),
    Case("log-list", lambda o: ["l", "lf"] >> o.LogOp()),
    Case("normalize", lambda o: NUMBERS >> o.Normalize()),
    Case("normalize-float32", lambda o: NUMBERS >> o.Normalize(out_dtype="float32")),
    Case("normalize-list", lambda o: ["l"] >> o.Normalize()),
    Case("normalize-one-row", lambda o: ["i", "f", "f32"] >> o.Normalize(), fit=FIT.head(1)),
    Case("min-max", lambda o: ["i", "n", "i32", "u8", "f", "f32"] >> o.NormalizeMinMax()),
    Case("min-max-float32", lambda o: ["i32", "n", "f", "f32"] >> o.NormalizeMinMax(out_dtype="float32")),
    Case("min-max-floats-only", lambda o: ["f32"] >> o.NormalizeMinMax()),
    Case("bucketize", lambda o: NUMBERS >> o.Bucketize([-3.25, 0, 0.1, 2.5])),
    Case("bucketize-one", lambda o: NUMBERS >> o.Bucketize([0.5])),
    Case("bucketize-integers", lambda o: ["i", "n", "i8"] >> o.Bucketize([-7, 0, 5])),
    Case("bucketize-descending", lambda o: ["i", "f", "f32"] >> o.Bucketize([5, 0.5, -1])),
    Case("bucketize-dict", lambda o: ["f", "i"] >> o.Bucketize({"f": [0.0], "i": [1, 2, 3]})),
    Case("bucketize-none", lambda o: ["f"] >> o.Bucketize([])),
    Case("chain", lambda o: ["n", "f", "c"] >> o.FillMissing() >> o.Clip(min_value=0) >> o.LogOp() >> o.Normalize()),
    Case(
        "normalize-twice",
        lambda o: ["f"] >> o.FillMissing(1) >> o.Normalize() >> o.NormalizeMinMax(),
        fit=FIT.with_columns(f=FIT["i"].cast(float)),
    ),
]
