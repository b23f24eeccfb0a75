"""FillMissing."""

from __future__ import annotations

from tests.conformance.case import FIT, SERVE, Case

_NO_NULLS = ["i", "i32", "u8"]

CASES = [
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
