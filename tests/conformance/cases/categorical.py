"""Categorify."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from tests.conformance.case import FIT, LARGEST, SERVE, SMALLEST, Case

_BIG = pl.DataFrame({"i": [LARGEST, LARGEST, SMALLEST, 2**53 + 1, 2**53]})
_ALL_NULL = FIT.with_columns(s=pl.lit(None, pl.String), f=pl.lit(None, pl.Float64))
_WIDE = ["i", "n", "i32", "i8", "u8", "f", "f32", "c", "s", "t"]
_TIMES = pl.DataFrame({"d": [datetime(2020, 1, 1), datetime(2020, 1, 1), datetime(1969, 7, 20, 20, 17, 40, 1), None]})
_FLAGS = pl.DataFrame({"b": [True, True, False, True]})


def _vocabs() -> dict[str, Any]:
    import pandas as pd

    return {"s": pd.Series(["é", "a", "new"]), "i": pd.Series([99, 5, 3])}


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
    Case("categorify-buckets-float", lambda o: ["f"] >> o.Categorify(num_buckets=3, max_size=7), buckets={"f": 3}),
    Case(
        "categorify-buckets-joint",
        lambda o: [["s", "t"]] >> o.Categorify(num_buckets=3, max_size=8),
        buckets={"s": 3, "t": 3},
    ),
    Case(
        "categorify-buckets-combo",
        lambda o: [["s", "i"]] >> o.Categorify(encode_type="combo", num_buckets=5),
        buckets={"s_i": 5},
    ),
    Case("categorify-combo", lambda o: [["s", "t"]] >> o.Categorify(encode_type="combo")),
    Case("categorify-combo-types", lambda o: [["n", "s", "f"]] >> o.Categorify(encode_type="combo")),
    Case("categorify-combo-ints", lambda o: [["i", "i8", "u8"]] >> o.Categorify(encode_type="combo")),
    Case("categorify-combo-and-single", lambda o: ["i", ["s", "t"]] >> o.Categorify(encode_type="combo")),
    Case("categorify-combo-twice", lambda o: [["s", "t"], ["t", "i"]] >> o.Categorify(encode_type="combo")),
    Case("categorify-combo-size", lambda o: [["s", "i"]] >> o.Categorify(encode_type="combo", max_size=5)),
    Case("categorify-combo-freq", lambda o: [["s", "i"]] >> o.Categorify(encode_type="combo", freq_threshold=2)),
    Case("categorify-combo-dtype", lambda o: [["s", "i"]] >> o.Categorify(encode_type="combo", dtype="int32")),
    Case("categorify-combo-wide", lambda o: [_WIDE] >> o.Categorify(encode_type="combo")),
    Case("categorify-joint-lists", lambda o: [["l", "i"]] >> o.Categorify()),
    Case("categorify-joint-sep", lambda o: [["s", "t"]] >> o.Categorify(name_sep="_")),
    Case(
        "categorify-joint-freq-dict",
        lambda o: [["s", "t"]] >> o.Categorify(freq_threshold={"s_t": 2, "s": 2, "t": 2}),
    ),
    Case("categorify-datetime", lambda o: ["d"] >> o.Categorify(), fit=_TIMES, serve=_TIMES.reverse()),
    Case("categorify-bool", lambda o: ["b"] >> o.Categorify(), fit=_FLAGS, serve=_FLAGS.reverse()),
    Case(
        "categorify-combo-flags-times",
        lambda o: [["b", "d"]] >> o.Categorify(encode_type="combo"),
        fit=_FLAGS.hstack(_TIMES),
        serve=_FLAGS.reverse().hstack(_TIMES),
    ),
    Case("categorify-dtype-class", lambda o: ["s", "i"] >> o.Categorify(dtype=np.int32)),
    Case("categorify-dtype-uint8", lambda o: ["s"] >> o.Categorify(dtype="uint8")),
    Case("categorify-vocabs", lambda o: ["s", "i"] >> o.Categorify(vocabs=_vocabs())),
    Case("categorify-vocabs-some", lambda o: ["s", "t"] >> o.Categorify(vocabs={"s": _vocabs()["s"]})),
    Case("hash-bucket", lambda o: ["s", "i", "n"] >> o.HashBucket(7), hashed={"s": 7, "i": 7, "n": 7}),
    Case(
        "hash-bucket-types",
        lambda o: ["i32", "i8", "u8", "f", "f32"] >> o.HashBucket(50),
        hashed=dict.fromkeys(["i32", "i8", "u8", "f", "f32"], 50),
    ),
    Case("hash-bucket-dict", lambda o: ["s", "t"] >> o.HashBucket({"s": 3, "t": 10}), hashed={"s": 3, "t": 10}),
    Case("hash-bucket-one", lambda o: ["s"] >> o.HashBucket(1)),
    Case("hashed-cross", lambda o: [["s", "i"]] >> o.HashedCross(11), hashed={"s_X_i": 11}),
    Case("hashed-cross-dict", lambda o: [["s", "t"]] >> o.HashedCross({("s", "t"): 9}), hashed={"s_X_t": 9}),
    Case(
        "hashed-cross-three",
        lambda o: ["n", "f", "u8"] >> o.HashedCross(2**31 - 1),
        hashed={"n_X_f_X_u8": 2**31 - 1},
    ),
    Case("categorify-after-fill", lambda o: ["n"] >> o.FillMissing(3) >> o.Categorify()),
    Case("categorify-after-bucketize", lambda o: ["f"] >> o.Bucketize([0, 1]) >> o.Categorify()),
    Case("categorify-one-row", lambda o: ["s", "i"] >> o.Categorify(), fit=FIT.head(1), serve=SERVE),
]
