"""FillMissing and FillMedian."""

from __future__ import annotations

from tests.conformance.case import FIT, SERVE, Case

_NO_NULLS = ["i", "i32", "u8"]

CASES = [
    Case("fill-list", lambda o: ["l", "lf", "ls"] >> o.FillMissing()),
    Case("fill-by-column", lambda o: ["n", "f", "s", "i"] >> o.FillMissing(fill_val={"n": 3, "f": 0.5, "s": "none"})),
    Case("median", lambda o: ["i", "n", "u8", "f", "f32", "c"] >> o.FillMedian()),
    Case("median-binary", lambda o: ["n", "f", "i"] >> o.FillMedian(add_binary_cols=True)),
    Case("median-fraction", lambda o: ["i", "f"] >> o.FillMedian(), fit=FIT.select("i", "f").head(3)),
    Case("median-one-row", lambda o: ["f", "i"] >> o.FillMedian(), fit=FIT.head(1)),
    Case("median-then-clip", lambda o: ["n", "f"] >> o.FillMedian() >> o.Clip(min_value=0) >> o.LogOp()),
    Case("fill", lambda o: ["i", "n", "f", "f32"] >> o.FillMissing()),
    Case("fill-value", lambda o: ["n", "f", "f32"] >> o.FillMissing(fill_val=7)),
    Case("fill-fraction", lambda o: ["f", "f32"] >> o.FillMissing(fill_val=0.1)),
    Case("fill-string", lambda o: ["s"] >> o.FillMissing(fill_val="nothing")),
    Case("fill-binary", lambda o: ["n", "f", "i", "f32"] >> o.FillMissing(fill_val=3, add_binary_cols=True)),
    Case("fill-binary-string", lambda o: ["s", "t"] >> o.FillMissing(fill_val="x", add_binary_cols=True)),
    Case("fill-no-nulls", lambda o: _NO_NULLS >> o.FillMissing(add_binary_cols=True)),
    Case("fill-then-log", lambda o: ["n", "f"] >> o.FillMissing() >> o.LogOp()),
    Case("fill-after-log", lambda o: ["f", "f32"] >> o.LogOp() >> o.FillMissing(-1), fit=FIT, serve=SERVE),
    Case("fill-one-row", lambda o: ["n", "f"] >> o.FillMissing(), serve=SERVE.head(1)),
]
