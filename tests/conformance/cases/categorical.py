"""Categorify."""

from __future__ import annotations

import polars as pl

from tests.conformance.case import FIT, LARGEST, SERVE, SMALLEST, Case, Gap

_BIG = pl.DataFrame({"i": [LARGEST, LARGEST, SMALLEST, 2**53 + 1, 2**53]})
_ALL_NULL = FIT.with_columns(s=pl.lit(None, pl.String), f=pl.lit(None, pl.Float64))
_LATER = Gap("ours", "combined columns come with the operators of the next issue")

CASES = [
    Case("categorify-string", lambda o: ["s"] >> o.Categorify()),
    Case("categorify-int64", lambda o: ["i"] >> o.Categorify()),
    Case("categorify-int64-null", lambda o: ["n"] >> o.Categorify()),
    Case("categorify-int64-extremes", lambda o: ["i"] >> o.Categorify(), fit=_BIG, serve=_BIG.reverse()),
    Case("categorify-small-ints", lambda o: ["i32", "i8", "u8"] >> o.Categorify()),
    Case("categorify-float", lambda o: ["f", "f32"] >> o.Categorify()),
    Case("categorify-constant", lambda o: ["c"] >> o.Categorify()),
    Case("categorify-several", lambda o: ["s", "t", "i", "n"] >> o.Categorify()),
    Case("categorify-list-int", lambda o: ["l"] >> o.Categorify()),
    Case("categorify-list-string", lambda o: ["ls"] >> o.Categorify()),
    Case("categorify-joint", lambda o: [["s", "t"]] >> o.Categorify(encode_type="joint")),
    Case("categorify-joint-and-single", lambda o: ["i", ["s", "t"]] >> o.Categorify()),
    Case("categorify-joint-int", lambda o: [["i", "i32"]] >> o.Categorify()),
    Case("categorify-max-size", lambda o: ["s", "i"] >> o.Categorify(max_size=5)),
    Case("categorify-max-size-dict", lambda o: ["s", "i"] >> o.Categorify(max_size={"s": 4, "i": 5})),
    Case("categorify-max-size-joint", lambda o: [["s", "t"]] >> o.Categorify(max_size=5)),
    Case("categorify-max-size-smallest", lambda o: ["s"] >> o.Categorify(max_size=3)),
    Case("categorify-freq-threshold", lambda o: ["s", "i", "l"] >> o.Categorify(freq_threshold=2)),
    Case("categorify-freq-dict", lambda o: ["s", "i"] >> o.Categorify(freq_threshold={"s": 3, "i": 2})),
    Case("categorify-freq-none-left", lambda o: ["i"] >> o.Categorify(freq_threshold=100)),
    Case("categorify-dtype-int32", lambda o: ["s", "l"] >> o.Categorify(dtype="int32")),
    Case("categorify-dtype-float32", lambda o: ["s"] >> o.Categorify(dtype="float32")),
    Case(
        "categorify-buckets",
        lambda o: ["s", "i"] >> o.Categorify(num_buckets=4, max_size=8),
        buckets={"s": 4, "i": 4},
    ),
    Case(
        "categorify-buckets-dict",
        lambda o: ["s", "i32"] >> o.Categorify(num_buckets={"s": 3, "i32": 5}, freq_threshold=2),
        buckets={"s": 3, "i32": 5},
    ),
    Case(
        "categorify-combo",
        lambda o: [["s", "t"]] >> o.Categorify(encode_type="combo"),
        gaps={"polars": _LATER, "onnx": _LATER},
    ),
    Case("categorify-after-fill", lambda o: ["n"] >> o.FillMissing(3) >> o.Categorify()),
    Case("categorify-after-bucketize", lambda o: ["f"] >> o.Bucketize([0, 1]) >> o.Categorify()),
    Case("categorify-one-row", lambda o: ["s", "i"] >> o.Categorify(), fit=FIT.head(1), serve=SERVE),
]
