"""ISO 8601 text to microseconds since 1970-01-01 UTC, inside an ONNX graph.

ONNX has no operator that takes text apart; ONNX Runtime's Tokenizer (com.microsoft) gives its characters. Taken are
2024-01-02, 2024-01-02T03:04:05 and that with one to nine digits of a second after a point, of which six count; with a
time, a Z may follow, and a space may stand for the T. Anything else, a day that no month has among it, is not valid.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from etl.compiler.targets.onnx_arithmetic import _days, _Whole
from etl.compiler.targets.onnx_builder import Builder, tensor
from etl.compiler.targets.onnx_value import Value, cast, within

_OTHER, _DASH, _COLON, _T, _POINT, _Z, _NOTHING = range(10, 17)  # _NOTHING is the largest: see _characters
_CODES = {**{str(digit): digit for digit in range(10)}, "-": _DASH, ":": _COLON, "T": _T, " ": _T, ".": _POINT, "Z": _Z}
_DATE = [0, 0, 0, 0, _DASH, 0, 0, _DASH, 0, 0]
_TIME = [_T, 0, 0, _COLON, 0, 0, _COLON, 0, 0]
_HEAD = len(_DATE) + len(_TIME)
_TAIL = 12
"""The point, nine digits, Z, and a place that must be empty."""
_DIGITS = 9
_WIDTH = _HEAD + _TAIL
_DAY = 86_400 * 10**6

# What each place counts in year, month, day, hour, minute, second, and in the microseconds of the day.
_WEIGHTS = np.zeros((_WIDTH, 7), np.int64)
for _part, _first, _places in ((0, 0, 4), (1, 5, 2), (2, 8, 2), (3, 11, 2), (4, 14, 2), (5, 17, 2)):
    _WEIGHTS[_first : _first + _places, _part] = [10**power for power in reversed(range(_places))]
_WEIGHTS[20:26, 6] = [10**power for power in reversed(range(6))]
_WEIGHTS[:, 6] += _WEIGHTS[:, 3:6] @ np.array([3600 * 10**6, 60 * 10**6, 10**6])


def microseconds(b: Builder, x: Value) -> tuple[Value, str]:
    """Return the int64 [batch, 1] of a string [batch, 1], and the bool [batch, 1] of where it is valid."""
    codes = _characters(b, x)
    is_digit = b.node("Less", codes, b.constant(10, "int64"))
    zero = b.constant(0, "int64")
    parts = b.node("MatMul", b.node("Where", is_digit, codes, zero), b.constant(_WEIGHTS, "int64"))
    year, month, day, hour, minute, second, of_day = (_Whole(b, _column(b, parts, place)) for place in range(7))
    first = _days(year, month, 1)
    following = _days(year + (month >= 12), month % 12 + 1, 1)
    made = (first + day - 1) * _DAY + of_day
    ranges = ((year, 1, 9999), (month, 1, 12), (hour, 0, 23), (minute, 0, 59), (second, 0, 59), (day, 1, 31))
    valid = [_shaped(b, codes, is_digit)]
    for part, low, high in ranges:
        valid.append(within(b, Value(part.name, "int64"), low, high))
    valid.append(b.node("LessOrEqual", day.name, (following - first).name))
    together = valid[0]
    for one in valid[1:]:
        together = b.node("And", together, one)
    return Value(_without_last(b, made.name), "int64"), _without_last(b, together)


def _characters(b: Builder, x: Value) -> str:
    """Return the codes of the characters, int64 [batch + 1, _WIDTH]; the last row is there so that one always is."""
    rows = b.node("Concat", x.name, b.constant([["1970-01-01"]], "string"), axis=0)
    tokens = b.node("Tokenizer", rows, domain="com.microsoft", mark=0, pad_value="", separators=[""], mincharnum=1)
    b.declare(
        helper.make_tensor_value_info(tokens, onnx.TensorProto.STRING, [f"{tokens}__rows", 1, f"{tokens}__width"])
    )
    keys = np.array(["", *_CODES], object)
    codes = b.node(
        "LabelEncoder",
        b.node("Squeeze", tokens, b.constant([1], "int64")),
        domain="ai.onnx.ml",
        keys_tensor=tensor(keys, "keys"),
        values_tensor=tensor(np.array([_NOTHING, *_CODES.values()], np.int64), "values"),
        default_tensor=tensor(np.array([_OTHER], np.int64), "default"),
    )
    pads = b.constant([0, 0, 0, _WIDTH], "int64")
    padded = b.node("Pad", codes, pads, b.constant(_NOTHING, "int64"))
    # What lies behind makes the text too long: the place that must be empty says so.
    behind = b.node("Slice", padded, *(b.constant([n], "int64") for n in (_WIDTH - 1, 2**63 - 1, 1)))
    last = b.node("ReduceMin", behind, axes=[1], keepdims=1)
    head = b.node("Slice", padded, *(b.constant([n], "int64") for n in (0, _WIDTH - 1, 1)))
    return b.node("Concat", head, last, axis=1)


def _shaped(b: Builder, codes: str, is_digit: str) -> str:
    """Return where the characters stand as they must, bool [batch + 1, 1]."""
    kinds = b.node("Where", is_digit, b.constant(0, "int64"), codes)
    nothing = b.constant(_NOTHING, "int64")
    has_time = b.node("Not", b.node("Equal", _column(b, codes, len(_DATE)), nothing))
    dated, timed = [*_DATE, *[_NOTHING] * len(_TIME)], [*_DATE, *_TIME]
    head = b.node("Where", has_time, b.constant([timed], "int64"), b.constant([dated], "int64"))
    tail = b.node("Slice", kinds, *(b.constant([n], "int64") for n in (_HEAD, _WIDTH, 1)))
    points, digits, zs = (_count(b, tail, kind) for kind in (_POINT, 0, _Z))
    places = b.constant([range(_TAIL)], "int64")
    upto_digits = b.node("Add", points, digits)
    wanted = nothing
    for end, kind in ((b.node("Add", upto_digits, zs), _Z), (upto_digits, 0), (points, _POINT)):
        wanted = b.node("Where", b.node("Less", places, end), b.constant(kind, "int64"), wanted)
    same = b.node("Equal", kinds, b.node("Concat", head, wanted, axis=1))
    every = b.node("ReduceMin", cast(b, Value(same, "bool"), "int32").name, axes=[1], keepdims=1)
    few = [b.node("LessOrEqual", count, b.constant(most, "int64")) for count, most in ((points, 1), (digits, _DIGITS))]
    some = b.node("Equal", b.node("Greater", digits, b.constant(0, "int64")), b.node("Cast", points, to=9))
    found = cast(b, Value(every, "int32"), "bool").name
    for one in (*few, some, b.node("LessOrEqual", zs, b.constant(1, "int64"))):
        found = b.node("And", found, one)
    return found


def _count(b: Builder, kinds: str, kind: int) -> str:
    same = b.node("Equal", kinds, b.constant(kind, "int64"))
    return b.node("ReduceSum", cast(b, Value(same, "bool"), "int64").name, b.constant([1], "int64"), keepdims=1)


def _column(b: Builder, x: str, place: int) -> str:
    return b.node("Slice", x, *(b.constant([n], "int64") for n in (place, place + 1, 1)))


def _without_last(b: Builder, x: str) -> str:
    return b.node("Slice", x, *(b.constant([n], "int64") for n in (0, -1, 0)))
