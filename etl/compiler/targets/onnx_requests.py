"""The door of an ONNX graph: what arrives in a request becomes the column that the primitives know.

Behind the door a column is what targets/onnx.py says: its own type, [batch, 1] or padded [batch, L] with lengths, null
by the value in etl/dtypes.py. A column of a type without null is there as the type in `NULL_AS`. A value that the
column cannot hold is an error of the request: ONNX has no exceptions, so an index of 1 into a table of one value is
made, by a node whose name says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from etl.compiler.targets.onnx_builder import Builder, tensor
from etl.compiler.targets.onnx_iso import microseconds
from etl.compiler.targets.onnx_value import Value, cast, wide, within
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float, is_integer
from etl.graph import Column
from etl.names import LENGTH, NULL, OFFSETS, VALUES
from etl.requests import NULL_AS, PER_SECOND, USUAL, RequestForm, holds_null

_MICROSECONDS = 10**6
_INT64 = np.iinfo("int64")


@dataclass(frozen=True)
class Door:
    """One raw column at the door: the graph's inputs for it, and its value behind the door, made when it is needed."""

    inputs: tuple[onnx.ValueInfoProto, ...]
    open: Callable[[], Value]


def doors(b: Builder, columns: tuple[Column, ...], forms: Mapping[str, RequestForm]) -> dict[str, Door]:
    """Return the door of every raw column; `forms` passed `check_forms`."""
    first = next((c for c in columns if not forms.get(c.name, USUAL).optional), None)
    rows = _Rows(b, first, forms.get(first.name, USUAL) if first else USUAL)
    return {column.name: _door(b, column, forms.get(column.name, USUAL), rows) for column in columns}


def _door(b: Builder, column: Column, form: RequestForm, rows: _Rows) -> Door:
    inputs = _infos(column, form)
    if form == USUAL:
        name = "int64" if column.dtype == "datetime" else column.dtype
        lengths = column.name + LENGTH if column.is_list and column.length is None else None
        return Door(inputs, lambda: Value(column.name, name, lengths))
    if form.optional:
        for name, array in _defaults(column, form).items():
            b.default(tensor(array, name))
    return Door(inputs, lambda: _Entry(b, column, form, rows).value())


def _infos(column: Column, form: RequestForm) -> tuple[onnx.ValueInfoProto, ...]:
    """Return the declared inputs, in the order of `RequestForm.tensor_names`."""
    make = helper.make_tensor_value_info
    kind = dtype_named(form.arrives_as(column.dtype)).onnx
    int32, boolean = onnx.TensorProto.INT32, onnx.TensorProto.BOOL
    shape: list[Any] = ["batch", column.length if column.length is not None else 1]
    if form.offsets:
        shape = [f"{column.name}__total"]
    elif column.is_list and column.length is None:
        shape = ["batch", f"{column.name}__width"]
    elif _absent_by_rows(column, form):
        shape[0] = f"{column.name}__rows"
    infos = [make(column.name + (VALUES if form.offsets else ""), kind, shape)]
    if form.offsets:
        infos.append(make(column.name + OFFSETS, int32, [f"{column.name}__ends"]))
    elif column.is_list and column.length is None:
        infos.append(make(column.name + LENGTH, int32, ["batch", 1]))
    if form.mask:
        infos.append(make(column.name + NULL, boolean, shape))
    return tuple(infos)


def _absent_by_rows(column: Column, form: RequestForm) -> bool:
    """True when only having no rows can say that an optional column was left out, for no value can."""
    ragged = column.is_list and column.length is None
    return form.optional and not ragged and form.null is None and not holds_null(form.arrives_as(column.dtype))


def _defaults(column: Column, form: RequestForm) -> dict[str, Any]:
    """Return what an optional column is when it is left out: one row of null, or of an empty list; by input."""
    kind = dtype_named(form.arrives_as(column.dtype))
    numpy_type = "object" if kind.name == "string" else "int64" if kind.name == "datetime" else kind.numpy
    null = form.null if form.null is not None else kind.null
    width = 1 if column.length is None else column.length
    if form.offsets:
        found = {column.name + VALUES: np.empty(0, numpy_type), column.name + OFFSETS: np.zeros(2, np.int32)}
        return {**found, **({column.name + NULL: np.empty(0, np.bool_)} if form.mask else {})}
    if column.is_list and column.length is None:
        values = np.empty((1, 0), numpy_type)
    elif _absent_by_rows(column, form):
        values = np.empty((0, width), numpy_type)
    else:
        values = np.full((1, width), null, numpy_type)
    found = {column.name: values}
    if column.is_list and column.length is None:
        found[column.name + LENGTH] = np.zeros((1, 1), np.int32)
    return {**found, **({column.name + NULL: np.zeros(values.shape, np.bool_)} if form.mask else {})}


class _Rows:
    """How many rows the request has, as a required column `of` tells; int64 [1]."""

    def __init__(self, b: Builder, of: Column | None, form: RequestForm) -> None:
        self._b, self._of, self._form = b, of, form

    def count(self) -> str:
        """Return the tensor of one number."""
        assert self._of is not None  # check_forms refuses a request in which everything is optional
        name = self._of.name
        if not self._form.offsets:
            return self._b.node("Shape", name, start=0, end=1)
        ends = self._b.node("Shape", name + OFFSETS, start=0, end=1)
        return self._b.node("Sub", ends, self._b.constant([1], "int64"))

    def shape(self) -> str:
        """Return [rows, 1], to which a column that was left out expands."""
        return self._b.node("Concat", self.count(), self._b.constant([1], "int64"), axis=0)


class _Entry:
    """The way of one column through the door."""

    def __init__(self, b: Builder, column: Column, form: RequestForm, rows: _Rows) -> None:
        self.b, self.column, self.form, self.rows = b, column, form, rows
        self.arrives = form.arrives_as(column.dtype)
        plain = "int64" if column.dtype == "datetime" else column.dtype
        self.target = NULL_AS.get(plain, plain) if form.says_null else plain

    def value(self) -> Value:
        """Return the column behind the door."""
        name = self.column.name + (VALUES if self.form.offsets else "")
        x = Value(name, "int64" if self.arrives == "datetime" else self.arrives)
        mask = Value(self.column.name + NULL, "bool") if self.form.mask else None
        absent = None
        if _absent_by_rows(self.column, self.form):
            absent = self._is_absent(x)
            x, mask = self._given_or_zero(x), mask and self._given_or_zero(mask)
        elif self.form.optional and not self.form.offsets:
            x, mask = self._all_rows(x), mask and self._all_rows(mask)
        x = self._converted(x, self._nulls(x, mask, absent))
        if self.form.offsets:
            return self._padded(x)
        if self.column.is_list and self.column.length is None:
            lengths = Value(self.column.name + LENGTH, "int32")
            return Value(x.name, x.dtype, (self._all_rows(lengths) if self.form.optional else lengths).name)
        return x

    def _all_rows(self, x: Value) -> Value:
        return x.named(self.b.node("Expand", x.name, self.rows.shape()))

    def _is_absent(self, x: Value) -> str:
        return self.b.node("Equal", self.b.node("Shape", x.name, start=0, end=1), self.b.constant([0], "int64"))

    def _given_or_zero(self, x: Value) -> Value:
        """Return `x`, or a row of zeros for each row of the request when `x` has none."""
        width = self.column.length if self.column.length is not None else 1
        more = self.b.node("Concat", x.name, self.b.constant(np.zeros((1, width)), x.dtype), axis=0)
        count = self.b.node("Squeeze", self.rows.count())
        steps = self.b.node("Range", self.b.constant(0, "int64"), count, self.b.constant(1, "int64"))
        last = self.b.node("Shape", x.name, start=0, end=1)
        return x.named(self.b.node("Gather", more, self.b.node("Min", steps, last), axis=0))

    def _nulls(self, x: Value, mask: Value | None, absent: str | None) -> str | None:
        """Return where `x` is null by what the request says, but for NaN; None where it cannot be."""
        found = [part for part in (mask and mask.name, absent) if part]
        signs = [] if self.form.null is None else [self.form.null]
        own = dtype_named(self.arrives).null
        if own is not None and not is_float(self.arrives) and holds_null(self.target):
            signs.append(own)
        found += [self._equal(x, sign) for sign in signs if self._needs_where(sign)]
        while len(found) > 1:
            found = [self.b.node("Or", found[0], found[1]), *found[2:]]
        return found[0] if found else None

    def _needs_where(self, sign: int | float | str) -> bool:
        """The sign that the column has behind the door anyway needs nothing done."""
        unchanged = self.arrives == self.target and self.form.datetime == USUAL.datetime
        return not (unchanged and sign == dtype_named(self.target).null)

    def _equal(self, x: Value, sign: int | float | str) -> str:
        if x.dtype == "string":  # Equal takes strings from opset 19 on
            table = {"keys_tensor": tensor(np.array([sign], object), "keys")}
            table["values_tensor"] = tensor(np.array([1], np.int64), "values")
            table["default_tensor"] = tensor(np.array([0], np.int64), "default")
            found = self.b.node("LabelEncoder", x.name, domain="ai.onnx.ml", **table)
            return self.b.node("Cast", found, to=onnx.TensorProto.BOOL)
        computed = cast(self.b, x, "float32") if x.dtype == "float16" else x
        computed = cast(self.b, x, "int64") if x.dtype in ("uint8", "uint16", "uint32", "int8", "int16") else computed
        if x.dtype == "uint64":  # ONNX Runtime compares signed numbers; the bits are the same
            computed, sign = cast(self.b, x, "int64"), int(np.uint64(sign).astype(np.int64))
        return self.b.node("Equal", computed.name, self.b.constant(sign, computed.dtype))

    def _converted(self, x: Value, null: str | None) -> Value:
        """Return `x` as the column's own type, null by its own sign."""
        if self.column.dtype == "datetime":
            x = self._instant(x, null)
        elif is_integer(self.arrives) and self.arrives != self.target:
            x = self._held(x, null)
        else:
            x = cast(self.b, x, self.target)
        if null is None:
            return x
        x = wide(self.b, x)
        sign = self.b.constant(dtype_named(self.target).null, x.dtype)
        return x.named(self.b.node("Where", null, sign, x.name))

    def _held(self, x: Value, null: str | None) -> Value:
        """Return an integer as another integer type; the request fails where that cannot hold it."""
        limits = np.iinfo(self.target)
        low = 0 if x.dtype == "uint64" else max(int(limits.min), int(_INT64.min))
        high = min(int(limits.max), int(_INT64.max))
        signed = cast(self.b, x, "int64")  # of a uint64 too large the sign changes
        arriving = np.iinfo(x.dtype)
        if low > arriving.min or high < arriving.max:
            what = f"a value out of the range of {self.column.dtype}"
            signed = self._guarded(signed, within(self.b, signed, low, high), null, what)
        return cast(self.b, signed, self.target)

    def _instant(self, x: Value, null: str | None) -> Value:
        if self.form.datetime == "iso":
            made, valid = microseconds(self.b, x)
            return self._guarded(made, valid, null, "not an ISO 8601 datetime such as 2024-01-02T03:04:05")
        x = cast(self.b, x, "int64")
        units = PER_SECOND[self.form.datetime]
        if units > _MICROSECONDS:  # rounded down, as Polars does; Div goes towards zero
            size = self.b.constant(units // _MICROSECONDS, "int64")
            rest = self.b.node("Mod", x.name, size)
            return x.named(self.b.node("Div", self.b.node("Sub", x.name, rest), size))
        if units == _MICROSECONDS:
            return x
        factor = _MICROSECONDS // units
        limit = int(_INT64.max) // factor
        x = self._guarded(x, within(self.b, x, -limit, limit), null, "a datetime that microseconds cannot hold")
        return x.named(self.b.node("Mul", x.name, self.b.constant(factor, "int64")))

    def _guarded(self, x: Value, valid: str, null: str | None, what: str) -> Value:
        """Return `x`, an int64; running the graph fails where it is neither valid nor null."""
        valid = self.b.node("Or", valid, null) if null else valid
        wrong = cast(self.b, Value(self.b.node("Not", valid), "bool"), "int64")
        label = f"{self.column.name}: {what}"
        nothing = self.b.node("Gather", self.b.constant([0], "int64"), wrong.name, axis=0, label=label)
        return x.named(self.b.node("Add", x.name, nothing))

    def _padded(self, x: Value) -> Value:
        """Return values and offsets as a padded list with its lengths."""
        b, offsets = self.b, cast(self.b, Value(self.column.name + OFFSETS, "int32"), "int64").name
        one, end, zero = (b.constant([number], "int64") for number in (1, 2**63 - 1, 0))
        starts = b.node("Slice", offsets, zero, b.constant([-1], "int64"), zero)
        lengths = b.node("Sub", b.node("Slice", offsets, one, end, zero), starts)
        starts, lengths = (b.node("Unsqueeze", name, one) for name in (starts, lengths))
        if self.form.optional:
            starts, lengths = (b.node("Expand", name, self.rows.shape()) for name in (starts, lengths))
        widest = b.node("ReduceMax", b.node("Concat", lengths, b.constant([[0]], "int64"), axis=0), keepdims=0)
        steps = b.node("Range", b.constant(0, "int64"), widest, b.constant(1, "int64"))
        places = b.node("Add", starts, b.node("Unsqueeze", steps, zero))
        # Padding may point behind the last value; whatever lies there is never read.
        nothing = b.constant([""] if x.dtype == "string" else [0], x.dtype)
        total = b.node("Shape", x.name, start=0, end=1)
        inside = b.node("Where", b.node("Less", b.node("Unsqueeze", steps, zero), lengths), places, total)
        padded = b.node("Gather", b.node("Concat", x.name, nothing, axis=0), inside, axis=0)
        return Value(padded, x.dtype, cast(b, Value(lengths, "int64"), "int32").name)
