"""What the raw columns look like when they arrive in a request.

A column arrives as etl/dtypes.py says unless a RequestForm says otherwise: another width, a null mask or a value that
stands for null, a list as values and offsets, a datetime in another unit or as ISO 8601 text, or nothing at all. The
features do not change by it: what arrives becomes the column's own type at the door of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float, is_integer
from etl.errors import ConfigError
from etl.names import LENGTH, NULL, OFFSETS, VALUES

Moment = Literal["s", "ms", "us", "ns", "iso"]

PER_SECOND: Mapping[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of a datetime since 1970-01-01 UTC."""

NULL_AS: Mapping[str, str] = {"bool": "int8", "uint8": "int16", "uint16": "int32", "uint32": "int64", "uint64": "int64"}
"""The type that holds every value of one that has no null, and a null beside them. Of uint64 the lower half fits."""

_FLOATS = ("float16", "float32", "float64")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class RawColumn(Protocol):
    """What a request needs to know of a raw column; etl.graph.Column is one."""

    @property
    def name(self) -> str:
        """The column's name."""

    @property
    def dtype(self) -> str:
        """The name of its type in etl/dtypes.py; of a list: its values'."""

    @property
    def is_list(self) -> bool:
        """True for a list."""

    @property
    def length(self) -> int | None:
        """That of a list of fixed length, else None."""


@dataclass(frozen=True)
class RequestForm:
    """How one raw column arrives; the default is how every column does that says nothing.

    `dtype` is the type that arrives, None for the column's own. `mask` adds the input `x__null`; `null` is a value that
    means null beside what means it anyway. `offsets` makes a ragged list the inputs `x__values` and `x__offsets`.
    `datetime` is the unit of an int64 since 1970-01-01 UTC, or "iso" for text. An `optional` column may be left out,
    and is then null.
    """

    dtype: str | None = None
    mask: bool = False
    null: int | float | str | None = None
    offsets: bool = False
    datetime: Moment = "us"
    optional: bool = False

    def arrives_as(self, dtype: str) -> str:
        """Return the type of the tensor for a column of type `dtype`, by its name in etl/dtypes.py."""
        if dtype == "datetime":
            return "string" if self.datetime == "iso" else "int64"
        return self.dtype or dtype

    @property
    def says_null(self) -> bool:
        """True when a column of any type can be null in the request."""
        return self.mask or self.null is not None or self.optional

    @property
    def needs_whole_requests(self) -> bool:
        """True when Triton cannot make a batch of several requests; see docs/requests.md."""
        return self.offsets or self.optional

    def tensor_names(self, column: RawColumn) -> tuple[str, ...]:
        """Return the inputs: values first, then lengths or offsets, then the mask."""
        ragged = column.is_list and column.length is None
        names = [column.name + VALUES if self.offsets else column.name]
        if ragged:
            names.append(column.name + (OFFSETS if self.offsets else LENGTH))
        return (*names, column.name + NULL) if self.mask else tuple(names)

    def to_json(self) -> dict[str, Any]:
        """Return what is not as usual; `RequestForm(**form)` reads it."""
        usual = asdict(USUAL)
        return {key: value for key, value in asdict(self).items() if value != usual[key]}


USUAL = RequestForm()


def check_forms(columns: Iterable[RawColumn], forms: Mapping[str, RequestForm]) -> None:
    """ConfigError with every form that its column cannot have, and every form of no column."""
    known = {column.name: column for column in columns}
    problems = [f"{name}: no such raw column; known are {', '.join(known) or 'none'}" for name in forms - known.keys()]
    for name, form in forms.items():
        if name in known:
            problems += [f"{name}: {problem}" for problem in _problems(known[name], form)]
    if not problems and known and all(forms.get(name, USUAL).optional for name in known):
        problems.append("every column is optional; one must say how many rows there are")
    inputs = [name for column in known.values() for name in forms.get(column.name, USUAL).tensor_names(column)]
    problems += [f"{name}: two inputs have this name" for name in sorted({n for n in inputs if inputs.count(n) > 1})]
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"export.requests: {len(problems)} problem(s){listed}\n")


def _problems(column: RawColumn, form: RequestForm) -> list[str]:
    problems = [_type_problem(column.dtype, form), _null_problem(column.dtype, form)]
    if form.offsets and (not column.is_list or column.length is not None):
        problems.append("list: offsets is for lists of any length, and this is none")
    if form.datetime != "us" and column.dtype != "datetime":
        problems.append(f"datetime: {form.datetime} is for datetimes, and this is {column.dtype}")
    if form.datetime == "iso" and column.is_list:
        problems.append("datetime: iso is for one datetime a row; send a list as int64")
    return [problem for problem in problems if problem]


def _type_problem(dtype: str, form: RequestForm) -> str:
    allowed = _FLOATS if is_float(dtype) else _INTEGERS if is_integer(dtype) else ()
    if form.dtype is None or form.dtype == dtype or form.dtype in allowed:
        return ""
    return f"dtype: expected {' or '.join(allowed or (dtype,))} for a column of type {dtype}, received {form.dtype}"


def _null_problem(dtype: str, form: RequestForm) -> str:
    null, arrives = form.null, form.arrives_as(dtype)
    if null is None:
        return ""
    if form.mask:
        return "null: a mask and a value are two ways to say null; choose one"
    wanted = {"string": str, "bool": None}.get(arrives, (int, float) if is_float(arrives) else int)
    if wanted is None:
        return "null: every value of a bool means something; use null: mask"
    if isinstance(null, bool) or not isinstance(null, wanted):
        return f"null: expected a value of type {arrives}, received {null!r}"
    if is_float(arrives) and not (math.isfinite(null) and np.dtype(arrives).type(null) == null):  # type: ignore[arg-type]
        return f"null: {arrives} cannot hold {null!r} exactly"
    if is_integer(arrives) and not np.iinfo(arrives).min <= int(null) <= np.iinfo(arrives).max:
        return f"null: {null} is out of the range of {arrives}"
    return ""


def holds_null(dtype: str) -> bool:
    """True when a request of this type can say null by a value, as etl/dtypes.py says."""
    return dtype_named(dtype).null is not None
