"""A column inside an ONNX graph, and what is done to it whatever the primitive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from etl.compiler.targets.onnx_builder import Builder
from etl.dtypes import dtype as dtype_named

_WIDE = ("int64", "int32", "float32", "float64", "string", "uint8")
"""Types that ONNX Runtime's Where takes; the others are worked on as int64."""


@dataclass(frozen=True)
class Value:
    """An Expr in the graph: its tensor, the tensor's type, and the lengths (int32 [batch, 1]) of a ragged list."""

    name: str
    dtype: str
    lengths: str | None = None

    def named(self, name: str) -> Value:
        """Return the same column in the tensor `name`."""
        return replace(self, name=name)


Rule = Callable[..., Value]
"""Called as (builder, expr, *values of its parts)."""


def cast(b: Builder, x: Value, dtype: str) -> Value:
    """Return `x` as a tensor of another type; a datetime is an int64."""
    dtype = "int64" if dtype == "datetime" else dtype
    if x.dtype == dtype:
        return x
    return Value(b.node("Cast", x.name, to=dtype_named(dtype).onnx), dtype, x.lengths)


def wide(b: Builder, x: Value) -> Value:
    """Return `x` in a type that every operator takes."""
    return x if x.dtype in _WIDE else cast(b, x, "int64")


def within(b: Builder, x: Value, low: int, high: int) -> str:
    """Return where an int64 lies between two numbers, both included."""
    above = b.node("GreaterOrEqual", x.name, b.constant(low, "int64"))
    return b.node("And", above, b.node("LessOrEqual", x.name, b.constant(high, "int64")))


def clamp(b: Builder, x: Value, low: int | float, high: int | float) -> str:
    """Return `x` raised to `low`, then lowered to `high`.

    ONNX Runtime's Clip of int64 compares the lower 32 bits only (x86 without AVX-512, 1.23), so that type gets Where.
    """
    least, most = b.constant(low, x.dtype), b.constant(high, x.dtype)
    if x.dtype != "int64":
        return b.node("Clip", x.name, least, most)
    raised = b.node("Where", b.node("Less", x.name, least), least, x.name)
    return b.node("Where", b.node("Greater", raised, most), most, raised)


def combine(b: Builder, op: str, x: Value, y: Value) -> Value:
    """Return the node `op` of two columns of the same type, one of which may be a constant."""
    return Value(b.node(op, x.name, y.name), x.dtype, x.lengths or y.lengths)
