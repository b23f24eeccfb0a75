"""ListSlice."""

from __future__ import annotations

import numpy as np

from etl.compiler.expr import Expr, Pad, Refusal, Scalar, Slice
from etl.compiler.lowering import RULES, per_column
from etl.dtypes import is_float, is_integer
from etl.graph import OpNode
from etl.operators.kinds import LONGEST_LIST

_ENDLESS = 2**63 - 1
"""What NVTabular keeps for an `end` that was not given."""


@RULES.register("ListSlice")
@per_column
def list_slice(node: OpNode, column: str, x: Expr) -> Expr:
    """`x[start:end]` (`x[:start]` with a positive start alone); `pad` fills up to the longest possible result."""
    if not x.type.is_list:
        raise Refusal("it takes lists, not scalars.", "Take the column out of the selection.")
    start, end = bounds(node)
    if not node.params.get("pad") or node.params.get("strict_nvtabular"):  # on the CPU NVTabular does not pad
        return Slice(x, start, end)
    longest = _longest(start, end)
    if longest > LONGEST_LIST:
        raise Refusal(f"it pads to {longest} elements.", f"Pad to {LONGEST_LIST} at most.")
    value = _value(x, node.params.get("pad_value", 0.0))
    if start == 0 and end == longest:  # Pad cuts by itself
        return Pad(x, longest, value)
    return Pad(Slice(x, start, end), longest, value)


def bounds(node: OpNode) -> tuple[int, int | None]:
    """Return (start, end) as Python's slice takes them, from the constructor's arguments."""
    start, end = int(node.params["start"]), node.params.get("end")
    if start > 0 and end is None:
        return 0, start
    return start, None if end is None or end >= _ENDLESS else int(end)


def _longest(start: int, end: int | None) -> int:
    """Return the longest result of a slice; Refusal if it has no limit."""
    if start < 0:
        return max(0, -start if end is None or end >= 0 else end - start)
    if end is None or end < 0:
        raise Refusal("with pad the slice needs a longest result.", "Give a positive end, or a negative start.")
    return max(0, end - start)


def _value(x: Expr, value: Scalar) -> Scalar:
    dtype = x.type.dtype
    if is_float(dtype) and isinstance(value, int | float):
        return float(value)
    whole = isinstance(value, int | float) and float(value).is_integer()
    if is_integer(dtype) and whole and np.iinfo(dtype).min <= int(value) <= np.iinfo(dtype).max:
        return int(value)
    if dtype == "string" and isinstance(value, str):
        return value
    raise Refusal(f"pad_value {value!r} is not a value of type {dtype}.", "Encode the list before it is padded.")
