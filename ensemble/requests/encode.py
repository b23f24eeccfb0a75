"""Raw rows as request tensors.

The door checks everything that Triton would take without a word or refuse without a reason: names, types, nulls,
ranges. All problems of a frame are told in one RequestError. How a null travels is said in etl/dtypes.py and by the
column's form (etl/requests.py). A null list is an empty list; an empty string is a null.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ensemble.requests.moments import BadRows, at_rows, moments
from ensemble.requests.packed import packed_tensors
from ensemble.spec import RequestColumn, RequestSchema
from etl.dtypes import dtype, from_polars, is_float, is_integer
from etl.errors import RequestError, SchemaError

Array = npt.NDArray[Any]

# Padded widths are multiples of this, so that requests with lists of nearly the same length share a dynamic batch.
_WIDTH_STEP = 4


def encode(rows: pl.DataFrame, schema: RequestSchema, first_row: int = 0) -> dict[str, Array]:
    """Return the tensors of a request, by input name.

    A scalar column is [rows, 1]; a list column is `x` [rows, L], padded with zeros or empty strings, and `x__length`
    int32 [rows, 1], or if its form says so `x__values` [elements] and `x__offsets` int32 [rows + 1]; a mask `x__null`
    is bool, of the shape of the values. Strings are bytes in object arrays. A datetime may be text in ISO 8601; a
    number is in the unit of the column's form. Packed columns are side by side, [rows, columns]. RequestError lists
    all missing, unknown and mistyped columns, nulls where there can be none, and values out of range.
    """
    problems = _name_problems(rows.columns, schema)
    tensors: dict[str, Array] = {}
    for column in schema.columns:
        if column.name in rows.columns:
            try:
                tensors.update(_encode_column(rows.get_column(column.name), column))
            except BadRows as error:
                problems.append(error.say(first_row))
            except RequestError as error:
                problems.append(str(error).removesuffix("."))
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise RequestError(f"the rows do not fit the model's request:{listed}")
    return packed_tensors(tensors, schema.columns) if schema.is_packed else tensors


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
    wanted = [column.name for column in schema.columns if not column.form.optional]
    problems = [f"missing column {name!r}" for name in wanted if name not in names]
    return problems + [f"unknown column {name!r}{did_you_mean(name, schema.names)}" for name in unknown]


def _encode_column(series: pl.Series, column: RequestColumn) -> dict[str, Array]:
    arrays = _list_arrays(series, column) if column.is_list else _scalar_arrays(series, column)
    return dict(zip(column.form.tensor_names(column), arrays, strict=True))


def _scalar_arrays(series: pl.Series, column: RequestColumn) -> list[Array]:
    if isinstance(series.dtype, pl.List | pl.Array):
        raise _mistyped(series, column)
    return [array.reshape(-1, 1) for array in _with_mask(series, column)]


def _list_arrays(series: pl.Series, column: RequestColumn) -> list[Array]:
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
        raise at_rows(lengths != column.length, None, text)
    values, *mask = _with_mask(pl.Series(values=lists.flatten(), dtype=series.dtype.inner), column, lengths)
    if column.length is not None:
        return [array.reshape(len(series), column.length) for array in (values, *mask)]
    if column.form.offsets:
        return [values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), *mask]
    values, *mask = (_padded(array, lengths) for array in (values, *mask))
    return [values, lengths.reshape(-1, 1), *mask]


def _padded(flat: Array, lengths: Array) -> Array:
    width = -(-max(int(lengths.max(initial=0)), 1) // _WIDTH_STEP) * _WIDTH_STEP
    padded = np.full((len(lengths), width), b"" if flat.dtype == object else 0, dtype=flat.dtype)
    padded[np.arange(width) < lengths[:, None]] = flat
    return padded


def _with_mask(series: pl.Series, column: RequestColumn, lengths: Array | None = None) -> list[Array]:
    """Return the values as the type that travels, and the mask if there is one.

    `lengths` of a list column turns element numbers into row numbers.
    """
    series = series.cast(pl.Float32()) if str(series.dtype) == "Float16" else series
    _check_type(series, column)
    form, null = column.form, _sign(column)
    if series.null_count() and (null is None or not column.nullable):
        raise at_rows(series.is_null().to_numpy(), lengths, f"column {column.name!r} holds null, which {_why(column)}")
    mask = [series.is_null().to_numpy()] if form.mask else []
    if column.dtype == "datetime" or isinstance(series.dtype, pl.Date | pl.Datetime):
        series = moments(series, column, lengths)
    if column.arrives == "string":
        text = ((str(null) if value is None else value).encode() for value in series.to_list())
        return [np.fromiter(text, dtype=object, count=len(series)), *mask]
    if column.arrives != column.dtype and is_integer(column.dtype):
        _in_range(series, column, lengths, column.dtype, None)
    if form.says_null and column.dtype == "uint64":  # it is an int64 behind the door
        _in_range(series, column, lengths, "int64", None)
    return [_in_range(series, column, lengths, column.arrives, null), *mask]


def _sign(column: RequestColumn) -> Any:
    """Return the value that is sent for null; None if none can be."""
    if column.form.mask:
        return "" if column.arrives == "string" else False if column.arrives == "bool" else 0
    return column.form.null if column.form.null is not None else dtype(column.arrives).null


def _in_range(series: pl.Series, column: RequestColumn, lengths: Array | None, kind: str, sign: Any) -> Array:
    """Cast to the type `kind`, null to `sign`; RequestError for rows that it cannot hold, or holds as another null."""
    target = pl.Int64() if kind == "datetime" else dtype(kind).polars
    null = dtype(kind).null
    fill = sign if sign is not None else 0
    out = f"column {column.name!r} is out of the range of {kind}"
    cast = series if series.dtype == target else series.cast(target, strict=False)
    nulls = cast.is_null().to_numpy() if cast.null_count() else np.zeros(len(cast), dtype=np.bool_)
    values = _filled(cast, fill)
    if cast.null_count() > series.null_count():
        raise at_rows(nulls & series.is_not_null().to_numpy(), lengths, out)
    if kind == "float16":
        with np.errstate(over="ignore"):
            values = values.astype(np.float16)
    if target.is_float() and np.isinf(values).any() and (series.dtype != target or kind == "float16"):
        lost = np.isinf(values) & np.isfinite(_filled(series.cast(pl.Float64), fill))
        if lost.any():
            raise at_rows(lost, lengths, out)
    if target.is_integer() and null is not None and (taken := (values == null) & ~nulls).any():
        raise at_rows(taken, lengths, f"column {column.name!r} holds {null}, the value that stands for null")
    return values


def _filled(series: pl.Series, null: Any) -> Array:
    """Return the values with `null` for null; through Arrow: a Polars expression costs more than a small frame."""
    if not series.null_count():
        return np.ascontiguousarray(series.to_numpy())
    return np.ascontiguousarray(series.to_arrow().fill_null(null).to_numpy(zero_copy_only=False))


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
        or (wanted == "datetime" and (is_integer(found) or found == "string"))
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
    if dtype(column.arrives).null is not None:
        return "it may not"
    if column.form.optional:
        return f"{column.arrives} cannot say for one row; leave the column out, or export it with null: mask"
    return f"{column.arrives} cannot say; fill it before"
