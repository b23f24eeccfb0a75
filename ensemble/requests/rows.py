"""Rows from JSON, JSON lines, CSV and Parquet files, with the types that a request schema asks for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ensemble.requests.moments import in_unit, iso_microseconds
from ensemble.spec import RequestColumn, RequestSchema
from etl.dtypes import dtype, is_float, is_integer
from etl.errors import RequestError
from etl.names import OFFSETS, VALUES

_SHOWN = 8
"""Offsets that an error shows."""


def read_rows(path: Path, schema: RequestSchema, *, drop_unknown: bool = False) -> pl.DataFrame:
    """Read raw rows from .json (a list of objects, or one object a line), .jsonl, .csv or .parquet.

    Columns of `schema` get its types, a key that a JSON object lacks is a null. In CSV an empty cell is null and a
    list is JSON (`["a", "b"]`) or `a|b`; a datetime is ISO 8601 text, or a number in the unit of its request. JSON may
    also be one object of columns, with a list as `x__values` and `x__offsets` (see `from_arrays`). Other columns stay
    as they are, for `encode` to refuse, or go with `drop_unknown`. RequestError names the file and the column.
    """
    readers: dict[str, Callable[[Path, RequestSchema], pl.DataFrame]] = {
        ".json": _read_json,
        ".jsonl": _read_json,
        ".ndjson": _read_json,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise RequestError(f"{path}", expected=f"a file ending in {', '.join(readers)}", received=path.suffix or "none")
    if not path.is_file():
        raise RequestError(f"{path} is not a file", hint="Give a file with raw rows.")
    try:
        rows = readers[path.suffix.lower()](path, schema)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise RequestError(f"{path} cannot be read", received=str(error).splitlines()[0]) from error
    return rows.select([name for name in rows.columns if name in schema.names]) if drop_unknown else rows


def from_arrays(arrays: Mapping[str, Any], schema: RequestSchema) -> pl.DataFrame:
    """Return columns given as arrays as rows: `x__values` and `x__offsets` (one more than rows) are the list `x`.

    Other arrays are one value a row, [rows] or [rows, 1], or [rows, N] for a list of fixed length. RequestError for
    offsets that do not lie on the values, and for arrays of different length.
    """
    columns = {}
    for name, values in arrays.items():
        if name.endswith(OFFSETS) and name.removesuffix(OFFSETS) + VALUES in arrays:
            continue
        stem = name.removesuffix(VALUES)
        if name.endswith(VALUES) and stem + OFFSETS in arrays:
            columns[stem] = _lists(stem, values, arrays[stem + OFFSETS], schema)
        else:
            array = np.asarray(values)
            columns[name] = pl.Series(name, array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else values)
    heights = {name: len(series) for name, series in columns.items()}
    if len(set(heights.values())) > 1:
        raise RequestError("the columns", expected="the same number of rows", received=str(heights))
    return pl.DataFrame(columns)


def _lists(name: str, values: Any, offsets: Any, schema: RequestSchema) -> pl.Series:
    column = next((column for column in schema.columns if column.name == name), None)
    inner = _polars_type(column).inner if column is not None and column.is_list else None  # type: ignore[attr-defined]
    flat = pl.Series(np.asarray(values).reshape(-1).tolist(), dtype=inner)
    ends = np.asarray(offsets).reshape(-1)
    if not (len(ends) and ends.dtype.kind in "iu" and ends[0] == 0 and ends[-1] == len(flat) and _rises(ends)):
        raise RequestError(
            f"{name}{OFFSETS}",
            expected=f"whole numbers that rise from 0 to {len(flat)}, one more than there are rows",
            received=str(ends.tolist()[:_SHOWN]),
        )
    rows = [flat[int(start) : int(end)].to_list() for start, end in itertools.pairwise(ends)]
    return pl.Series(name, rows, dtype=pl.List(flat.dtype))


def _rises(numbers: npt.NDArray[Any]) -> bool:
    return bool((np.diff(numbers.astype(np.int64)) >= 0).all())


def _read_parquet(path: Path, schema: RequestSchema) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def from_objects(
    objects: Sequence[Mapping[str, Any]], schema: RequestSchema, source: str | Path = "rows"
) -> pl.DataFrame:
    """Return objects, one a row, as rows with the types that `schema` asks for; a key that one lacks is a null.

    RequestError names `source`, the column and the row of a value that is of another type.
    """
    names = list(dict.fromkeys(name for row in objects for name in row))
    if not objects:
        return pl.DataFrame(schema={column.name: _polars_type(column) for column in schema.columns})
    known = {column.name: column for column in schema.columns}
    columns = []
    for name in names:
        values = [row.get(name) for row in objects]
        columns.append(_typed(source, known[name], values) if name in known else pl.Series(name, map(str, values)))
    return pl.DataFrame(columns)


def _read_json(path: Path, schema: RequestSchema) -> pl.DataFrame:
    rows = _json_objects(path)
    if len(rows) == 1 and any(column.name + OFFSETS in rows[0] for column in schema.columns):
        return from_arrays(rows[0], schema)
    return from_objects(rows, schema, path)


def _json_objects(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{path} is not JSON", expected="a list of objects, or one a line", received=str(error)
        ) from None
    wrong = next((number for number, row in enumerate(rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise RequestError(f"{path}: row {wrong}", expected="an object", received=type(rows[wrong]).__name__)
    return list(rows)


def _read_csv(path: Path, schema: RequestSchema) -> pl.DataFrame:
    rows = pl.read_csv(path, infer_schema=False)
    columns = []
    known = {column.name: column for column in schema.columns}
    for series in rows.get_columns():
        column = known.get(series.name)
        if column is None:
            columns.append(series)
        else:
            values = [None if cell is None else _cell(path, column, cell) for cell in series.to_list()]
            columns.append(_typed(path, column, values))
    return pl.DataFrame(columns)


def _cell(path: Path, column: RequestColumn, cell: str) -> Any:
    """One CSV cell as the value that JSON would have held."""
    if not column.is_list:
        return _scalar(column, cell)
    if cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except json.JSONDecodeError as error:
            raise RequestError(
                f"{path}: column {column.name!r}", expected="a JSON list", received=f"{cell!r}: {error}"
            ) from None
    return [_scalar(column, part.strip()) for part in cell.split("|")]


def _scalar(column: RequestColumn, text: str) -> Any:
    """Text as the column's type, or still as text when it is none; `_typed` then names the row."""
    try:
        if is_float(column.dtype):
            return float(text)
        if is_integer(column.dtype) or (column.dtype == "datetime" and text.lstrip("-").isdigit()):
            return int(text)
    except ValueError:
        return text
    return (
        {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
        if column.dtype == "bool"
        else text
    )


def _typed(path: str | Path, column: RequestColumn, values: list[Any]) -> pl.Series:
    """A Series of the column's type; RequestError names the first row whose value is of another."""
    checked = [_checked(path, column, row, value) for row, value in enumerate(values)]
    try:
        return pl.Series(column.name, checked, dtype=_polars_type(column), strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        received = str(error).splitlines()[0]
        raise RequestError(f"{path}: column {column.name!r}", expected=column.dtype, received=received) from error


def _checked(path: str | Path, column: RequestColumn, row: int, value: Any) -> Any:
    if value is None:
        return None
    if column.is_list != isinstance(value, list):
        expected = f"a list of {column.dtype}" if column.is_list else column.dtype
        raise RequestError(f"{path}: column {column.name!r}, row {row}", expected=expected, received=repr(value))
    parts = value if column.is_list else [value]
    converted = [None if part is None else _one(path, column, row, part) for part in parts]
    return converted if column.is_list else converted[0]


def _one(path: str | Path, column: RequestColumn, row: int, value: Any) -> Any:
    kind = column.dtype
    if kind == "datetime" and isinstance(value, str):
        found = iso_microseconds(value)
        value = value if found is None else in_unit(found, column.form.datetime)
        wanted: tuple[type, ...] = (int,)
    elif is_float(kind):
        wanted = (int, float)
    else:
        wanted = {"string": (str,), "bool": (bool,)}.get(kind, (int,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
        raise RequestError(f"{path}: column {column.name!r}, row {row}", expected=kind, received=repr(value))
    return float(value) if isinstance(value, int) and is_float(kind) else value


def _polars_type(column: RequestColumn) -> pl.DataType:
    inner = dtype(column.dtype).polars
    # A number since 1970 is what is sent; Polars would read a time zone's local time otherwise.
    inner = pl.Int64() if column.dtype == "datetime" else inner
    return pl.List(inner) if column.is_list else inner
