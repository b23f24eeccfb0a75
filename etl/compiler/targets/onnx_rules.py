"""What each primitive becomes in ONNX, in as few nodes as it takes: one row must be fast."""

from __future__ import annotations

import numpy as np
import onnx

from etl.compiler import expr as e
from etl.compiler.registry import Registry
from etl.compiler.targets.onnx_builder import Builder, tensor
from etl.compiler.targets.onnx_value import Rule, Value, cast, clamp, combine, wide
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float
from etl.names import LENGTH

RULES: Registry[Rule] = Registry("primitive")

_END = 2**63 - 1
_INT32_MAX = 2**31 - 1
_UNPADDABLE = ("string", "int16", "uint16")
"""Types that ONNX Runtime's Pad does not take."""


@RULES.register(e.Col)
def _col(b: Builder, expr: e.Col) -> Value:
    ragged = expr.of.is_list and expr.of.length is None
    dtype = "int64" if expr.of.dtype == "datetime" else expr.of.dtype
    return Value(expr.name, dtype, expr.name + LENGTH if ragged else None)


@RULES.register(e.Const)
def _const(b: Builder, expr: e.Const) -> Value:
    return Value(b.constant(expr.value, expr.dtype), expr.dtype)


@RULES.register(e.Cast)
def _cast(b: Builder, expr: e.Cast, x: Value) -> Value:
    made = cast(b, x, expr.dtype)
    null = _null_of(expr.x)
    if not is_float(expr.dtype) or null is None:
        return made
    nan = b.constant(np.nan, expr.dtype)
    return made.named(b.node("Where", b.node("Equal", x.name, b.constant(null, x.dtype)), nan, made.name))


@RULES.register(e.Sub)
def _sub(b: Builder, expr: e.Sub, x: Value, y: Value) -> Value:
    return combine(b, "Sub", x, y)


@RULES.register(e.Div)
def _div(b: Builder, expr: e.Div, x: Value, y: Value) -> Value:
    return combine(b, "Div", x, y)


@RULES.register(e.Log1p)
def _log1p(b: Builder, expr: e.Log1p, x: Value) -> Value:
    return x.named(b.node("Log", b.node("Add", x.name, b.constant(1, x.dtype))))


@RULES.register(e.Clip)
def _clip(b: Builder, expr: e.Clip, x: Value) -> Value:
    if x.dtype in ("int16", "uint16"):
        x = wide(b, x)
    # Without a bound ONNX Runtime would make infinity the largest finite number.
    limits = (-np.inf, np.inf) if is_float(x.dtype) else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    bounds = (limit if bound is None else bound for bound, limit in zip((expr.low, expr.high), limits, strict=True))
    clipped = clamp(b, x, *bounds)
    null = _null_of(expr.x)
    if null is None:
        return x.named(clipped)
    kept, is_null = wide(b, x), b.node("Equal", x.name, b.constant(null, x.dtype))
    return kept.named(b.node("Where", is_null, kept.name, wide(b, x.named(clipped)).name))


@RULES.register(e.IsNull)
def _is_null(b: Builder, expr: e.IsNull, x: Value) -> Value:
    null = _null_of(expr.x)
    if is_float(x.dtype):
        name = b.node("IsNaN", x.name)
    elif x.dtype == "bool":
        name = b.node("Xor", x.name, x.name)
    elif null is None:  # never: False in every row
        name = b.node("Not", b.node("Equal", x.name, x.name))
    elif x.dtype == "string":  # Equal takes strings from opset 19 on
        name = b.node("Cast", _labels(b, x, [""], [1], 0), to=onnx.TensorProto.BOOL)
    else:
        name = b.node("Equal", x.name, b.constant(null, x.dtype))
    return Value(name, "bool", x.lengths)


@RULES.register(e.FillNull)
def _fill_null(b: Builder, expr: e.FillNull, x: Value) -> Value:
    if not is_float(x.dtype) and _null_of(expr.x) is None:
        return x
    is_null = _is_null(b, e.IsNull(expr.x), x).name
    x = wide(b, x)
    return x.named(b.node("Where", is_null, b.constant(expr.value, x.dtype), x.name))


@RULES.register(e.Hash)
def _hash(b: Builder, expr: e.Hash, x: Value) -> Value:
    x = x if x.dtype == "string" else cast(b, x, "float64" if is_float(x.dtype) else "int64")
    hashed = b.node("MurmurHash3", x.name, domain="com.microsoft", positive=1, seed=0)
    bucket = cast(b, Value(b.node("Mod", hashed, b.constant(expr.buckets, "uint32")), "uint32"), "int64")
    return Value(b.node("Add", bucket.name, b.constant(expr.first, "int64")), "int64", x.lengths)


@RULES.register(e.Lookup)
def _lookup(b: Builder, expr: e.Lookup, x: Value, unknown: Value) -> Value:
    kind = dtype_named(expr.x.type.dtype)
    if not (is_float(x.dtype) or x.dtype == "string"):
        x = cast(b, x, "int64")
    keys, codes = expr.keys.to_physical().to_list(), expr.codes.tolist()
    if kind.null is not None:
        keys, codes = [*keys, kind.null], [*codes, expr.null]
    default = expr.unknown.value if isinstance(expr.unknown, e.Const) else -1
    if not keys:  # a table must not be empty
        keys, codes = [0], [default]
    code = _labels(b, x, keys, codes, default)
    if not isinstance(expr.unknown, e.Const):
        code = b.node("Where", b.node("Less", code, b.constant(0, "int64")), unknown.name, code)
    return Value(code, "int64", x.lengths)


@RULES.register(e.Bucket)
def _bucket(b: Builder, expr: e.Bucket, x: Value) -> Value:
    edges = b.constant([expr.boundaries], "float64")
    below = b.node("Less", x.name, edges)  # false for NaN
    reached = b.node("Where", below, b.constant(0, "int32"), b.constant(1, "int32"))
    if len(expr.boundaries) != 1:
        reached = b.node("ReduceSum", reached, b.constant([1], "int64"), keepdims=1)
    return Value(reached, "int32")


@RULES.register(e.RowNumber, e.Shift)
def _other_rows(b: Builder, expr: e.Expr, *parts: Value) -> Value:
    raise e.Refusal("it looks at other rows than the request's.", "Compute it in batch, and send it as a raw column.")


@RULES.register(e.Slice)
def _slice(b: Builder, expr: e.Slice, x: Value) -> Value:
    end = None if expr.end is None or expr.end >= _INT32_MAX else expr.end
    if x.lengths is None:
        return x.named(_columns(b, x, expr.start, _END if end is None else end))
    stop = _place(b, x.lengths, end)
    if expr.start >= 0:
        name = _columns(b, x, expr.start, _END if end is None or end < 0 else end)
        lengths = _minus(b, stop, expr.start) if expr.start else stop
        return Value(name, x.dtype, lengths)
    begin = _place(b, x.lengths, expr.start)
    count = -expr.start
    padded = _pad_right(b, x, count, "" if x.dtype == "string" else 0)
    steps = b.constant([range(count)], "int64")
    places = b.node("Add", cast(b, Value(begin, "int32"), "int64").name, steps)
    lengths = b.node("Max", b.node("Sub", stop, begin), b.constant(0, "int32"))
    return Value(b.node("GatherElements", padded.name, places, axis=1), padded.dtype, lengths)


@RULES.register(e.Pad)
def _pad(b: Builder, expr: e.Pad, x: Value) -> Value:
    if x.lengths is None:
        missing = expr.length - (expr.x.type.length or 0)
        padded = _pad_right(b, x, missing, expr.value) if missing > 0 else x
        return padded if missing >= 0 else padded.named(_columns(b, padded, 0, expr.length))
    padded = _pad_right(b, wide(b, x), expr.length, expr.value)
    cut = _columns(b, padded, 0, expr.length)
    inside = b.node("Less", b.constant([range(expr.length)], "int32"), x.lengths)
    value = b.constant(expr.value, padded.dtype)
    return Value(b.node("Where", inside, cut, value), padded.dtype)


def _null_of(x: e.Expr) -> bool | int | float | str | None:
    """Return the value that stands for null in `x`, None if it has no nulls or is a float."""
    return dtype_named(x.type.dtype).null if x.type.nullable else None


def _labels(b: Builder, x: Value, keys: list[object], codes: list[int], default: int | float | str | bool) -> str:
    """Look `x` up in a table. As tensors: lists of attributes are several times slower to load."""
    return b.node(
        "LabelEncoder",
        x.name,
        domain="ai.onnx.ml",
        keys_tensor=tensor(np.array(keys, dtype=object if x.dtype == "string" else x.dtype), "keys"),
        values_tensor=tensor(np.array(codes, np.int64), "values"),
        default_tensor=tensor(np.array([default], np.int64), "default"),
    )


def _columns(b: Builder, x: Value, start: int, end: int) -> str:
    """Return x[:, start:end]."""
    return b.node("Slice", x.name, *(b.constant([place], "int64") for place in (start, end, 1)))


def _place(b: Builder, lengths: str, place: int | None) -> str:
    """Return where a Python slice's `place` falls in lists of `lengths`, from 0 to the length."""
    if place is None:
        return lengths
    if place >= 0:
        return b.node("Min", lengths, b.constant(place, "int32"))
    return _minus(b, lengths, -place)


def _minus(b: Builder, lengths: str, number: int) -> str:
    """Return max(lengths - number, 0)."""
    less = b.node("Sub", lengths, b.constant(number, "int32"))
    return b.node("Max", less, b.constant(0, "int32"))


def _pad_right(b: Builder, x: Value, count: int, value: object) -> Value:
    """Return [batch, L] as [batch, L + count] with `value` at the end."""
    if x.dtype == "string":
        rows = b.node("Shape", x.name, start=0, end=1)
        shape = b.node("Concat", rows, b.constant([count], "int64"), axis=0)
        padding = b.node("Expand", b.constant(value, "string"), shape)
        return x.named(b.node("Concat", x.name, padding, axis=1))
    x = wide(b, x) if x.dtype in _UNPADDABLE else x
    return x.named(b.node("Pad", x.name, b.constant([0, 0, 0, count], "int64"), b.constant(value, x.dtype)))
