"""Raw rows as request tensors.

The door checks everything that Triton would take without a word or refuse without a reason: names, types, nulls,
ranges. All problems of a frame are told in one RequestError. How a null travels is said in etl/dtypes.py. A null list
is an empty list; an empty string is a null.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ensemble.spec import RequestColumn, RequestSchema
from etl.dtypes import dtype, from_polars, is_float, is_integer
from etl.errors import RequestError, SchemaError
from etl.names import LENGTH

Array = npt.NDArray[Any]

# Padded widths are multiples of this, so that requests with lists of nearly the same length share a dynamic batch.
_WIDTH_STEP = 4
_ROWS_NAMED = 5


def encode(rows: pl.DataFrame, schema: RequestSchema, first_row: int = 0) -> dict[str, Array]:
    """Return the tensors of a request, by input name.

    A scalar column is [rows, 1]; a list column is `x` [rows, L], padded with zeros or empty strings, and `x__length`
    int32 [rows, 1]. Strings are bytes in object arrays. RequestError lists all missing, unknown and mistyped columns,
    nulls where there can be none, and values out of range.
    """
    problems = _name_problems(rows.columns, schema)
    tensors: dict[str, Array] = {}
    for column in schema.columns:
        if column.name in rows.columns:
            try:
                tensors.update(_encode_column(rows.get_column(column.name), column))
            except _BadRows as error:
                problems.append(error.say(first_row))
            except RequestError as error:
                problems.append(str(error).removesuffix("."))
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise RequestError(f"the rows do not fit the model's request:{listed}")
    return tensors


def to_json(tensors: Mapping[str, Array], schema: RequestSchema, output: str) -> dict[str, Any]:
    """Return the body of a KServe v2 request over HTTP, for curl; missing floats are NaN, which Triton reads."""
    specs = {spec.name: spec for spec in schema.tensors}
    inputs = [
        {"name": name, "shape": list(values.shape), "datatype": specs[name].dtype, "data": _json_values(values)}
        for name, values in tensors.items()
    ]
    return {"inputs": inputs, "outputs": [{"name": output}]}


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return " (did you mean 'x'?)" for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _json_values(values: Array) -> list[Any]:
    flat = values.reshape(-1).tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in flat]


def _name_problems(names: Sequence[str], schema: RequestSchema) -> list[str]:
    unknown = [name for name in names if name not in schema.names]
    problems = [f"missing column {name!r}" for name in schema.names if name not in names]
    return problems + [f"unknown column {name!r}{did_you_mean(name, schema.names)}" for name in unknown]


def _encode_column(series: pl.Series, column: RequestColumn) -> dict[str, Array]:
    if not column.is_list:
        if isinstance(series.dtype, pl.List | pl.Array):
            raise _mistyped(series, column)
        return {column.name: _values(series, column).reshape(-1, 1)}
    if isinstance(series.dtype, pl.Null):
        series = series.cast(pl.List(dtype(column.dtype).polars))
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if not isinstance(series.dtype, pl.List):
        raise _mistyped(series, column)
    lists = series.to_arrow()
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    if column.length is not None and (lengths != column.length).any():
        text = f"column {column.name!r} is not a list of {column.length} values"
        raise _at_rows(lengths != column.length, None, text)
    flat = _values(pl.Series(values=lists.flatten(), dtype=series.dtype.inner), column, lengths)
    if column.length is not None:
        return {column.name: flat.reshape(len(series), column.length)}
    width = -(-max(int(lengths.max(initial=0)), 1) // _WIDTH_STEP) * _WIDTH_STEP
    padded = np.full((len(series), width), b"" if flat.dtype == object else 0, dtype=flat.dtype)
    padded[np.arange(width) < lengths[:, None]] = flat
    return {column.name: padded, column.name + LENGTH: lengths.reshape(-1, 1)}


def _values(series: pl.Series, column: RequestColumn, lengths: Array | None = None) -> Array:
    """Return the values as the type that travels; `lengths` of a list column turns element numbers into row numbers."""
    _check_type(series, column)
    kind = dtype(column.dtype)
    if series.null_count() and not column.nullable:
        raise _at_rows(series.is_null().to_numpy(), lengths, f"column {column.name!r} holds null, which {_why(column)}")
    if kind.name == "string":
        text = ((value or "").encode() for value in series.to_list())
        return np.fromiter(text, dtype=object, count=len(series))
    target = pl.Int64() if kind.name == "datetime" else kind.polars
    return _in_range(_microseconds(series), column, lengths, target)


def _in_range(series: pl.Series, column: RequestColumn, lengths: Array | None, target: pl.DataType) -> Array:
    """Cast to `target`; RequestError names rows whose value it cannot hold, or holds as the sign for null."""
    null = dtype(column.dtype).null
    cast = series if series.dtype == target else series.cast(target, strict=False)
    nulls = cast.is_null().to_numpy() if cast.null_count() else np.zeros(len(cast), dtype=np.bool_)
    values = _filled(cast, null)
    if cast.null_count() > series.null_count():
        lost = nulls & series.is_not_null().to_numpy()
        raise _at_rows(lost, lengths, f"column {column.name!r} is out of the range of {column.dtype}")
    if target.is_float() and np.isinf(values).any() and series.dtype != target:
        lost = np.isinf(values) & np.isfinite(_filled(series.cast(pl.Float64), null))
        if lost.any():
            raise _at_rows(lost, lengths, f"column {column.name!r} is out of the range of {column.dtype}")
    if target.is_integer() and null is not None and (taken := (values == null) & ~nulls).any():
        raise _at_rows(taken, lengths, f"column {column.name!r} holds {null}, the value that stands for null")
    return values


def _filled(series: pl.Series, null: Any) -> Array:
    """Return the values with `null` for null; through Arrow: a Polars expression costs more than a small frame."""
    if not series.null_count():
        return np.ascontiguousarray(series.to_numpy())
    return np.ascontiguousarray(series.to_arrow().fill_null(null).to_numpy(zero_copy_only=False))


def _microseconds(series: pl.Series) -> pl.Series:
    if isinstance(series.dtype, pl.Date | pl.Datetime):
        return series.cast(pl.Datetime("us", getattr(series.dtype, "time_zone", None))).to_physical()
    return series


def _check_type(series: pl.Series, column: RequestColumn) -> None:
    """RequestError unless the type of `series` makes sense as the column's; ranges are checked later."""
    if isinstance(series.dtype, pl.Null):
        return
    try:
        found, is_list = _name_of(series.dtype)
    except SchemaError:
        raise _mistyped(series, column) from None
    wanted = column.dtype
    fits = (
        found == wanted
        or (is_integer(wanted) and is_integer(found))
        or (is_float(wanted) and (is_float(found) or is_integer(found)))
        or (wanted == "datetime" and is_integer(found))
        # A server's metadata says INT64 where the graph says datetime.
        or (wanted == "int64" and found == "datetime")
    )
    if is_list or not fits:
        raise _mistyped(series, column)


_name_of = functools.lru_cache(maxsize=64)(from_polars)


def _mistyped(series: pl.Series, column: RequestColumn) -> RequestError:
    wanted = f"list[{column.dtype}]" if column.is_list else column.dtype
    return RequestError(f"column {column.name!r}", expected=wanted, received=str(series.dtype))


def _why(column: RequestColumn) -> str:
    return "it may not" if dtype(column.dtype).null is not None else f"{column.dtype} cannot say; fill it before"


def _at_rows(mask: Array, lengths: Array | None, text: str) -> _BadRows:
    places = np.flatnonzero(mask)
    if lengths is not None:
        places = np.unique(np.repeat(np.arange(len(lengths)), lengths)[places])
    return _BadRows(text, places)


class _BadRows(Exception):  # noqa: N818 - a problem of one column; encode raises the error
    def __init__(self, text: str, places: Array) -> None:
        super().__init__(text)
        self._text, self._places = text, places

    def say(self, first_row: int) -> str:
        """Return the problem with the numbers of the first rows that have it."""
        named = ", ".join(str(place + first_row) for place in self._places[:_ROWS_NAMED])
        more = f" and {len(self._places) - _ROWS_NAMED} more" if len(self._places) > _ROWS_NAMED else ""
        return f"{self._text} (row {named}{more})"
