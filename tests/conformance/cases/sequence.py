"""ListSlice.

Padding NVTabular does on the GPU only, so it is in the table of differences; a slice without a longest result, such as
[0:-1], it refuses itself, so those are compared with Python's slices in test_random.py.
"""

from __future__ import annotations

from tests.conformance.case import Case

CASES = [
    Case("slice-between-ends", lambda o: ["l", "ls"] >> o.ListSlice(-5, -2)),
    Case("slice-after-fill", lambda o: ["l"] >> o.FillMissing() >> o.ListSlice(1, 4)),
    Case("slice-first", lambda o: ["l", "lf", "ls"] >> o.ListSlice(2)),
    Case("slice-range", lambda o: ["l", "ls"] >> o.ListSlice(1, 3)),
    Case("slice-last", lambda o: ["l", "lf", "ls"] >> o.ListSlice(-2)),
    Case("slice-last-without-last", lambda o: ["l"] >> o.ListSlice(-3, -1)),
    Case("slice-last-up-to", lambda o: ["l"] >> o.ListSlice(-3, 2)),
    Case("slice-long", lambda o: ["l"] >> o.ListSlice(100)),
    Case("slice-then-categorify", lambda o: ["l", "ls"] >> o.ListSlice(3) >> o.Categorify()),
    Case("categorify-then-slice", lambda o: ["l", "ls"] >> o.Categorify() >> o.ListSlice(-2)),
    Case("slice-twice", lambda o: ["l"] >> o.ListSlice(1, 5) >> o.ListSlice(-2)),
    Case("slice-then-log", lambda o: ["lf"] >> o.ListSlice(2) >> o.LogOp()),
]
