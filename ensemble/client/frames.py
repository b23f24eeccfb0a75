"""Whatever rows a caller has, as a Polars frame."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import polars as pl

from ensemble.requests.rows import from_arrays, from_objects
from ensemble.spec import RequestSchema
from etl.dtypes import EXACT, is_integer
from etl.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = Union[pl.DataFrame, "pd.DataFrame", Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""Polars or pandas rows, columns as arrays, or one mapping a row."""


def to_frame(rows: Rows, schema: RequestSchema) -> pl.DataFrame:
    """Return rows as Polars; RequestError for values that no column holds, and for anything that is not rows."""
    if isinstance(rows, pl.DataFrame):
        return rows
    if isinstance(rows, Mapping):
        return from_arrays(rows, schema)
    if (pandas := sys.modules.get("pandas")) is not None and isinstance(rows, pandas.DataFrame):
        return _from_pandas(rows, schema)
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return from_objects([_object(number, row) for number, row in enumerate(rows)], schema)
    expected = "a Polars or pandas DataFrame, a mapping of columns, or a list of mappings"
    raise RequestError("the rows", expected=expected, received=type(rows).__name__)


def _object(number: int, row: Any) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise RequestError(f"rows: row {number}", expected="a mapping", received=type(row).__name__)
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """NumPy's values and arrays as Python's, a datetime as text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if isinstance(value, datetime.date) else value


def _from_pandas(frame: pd.DataFrame, schema: RequestSchema) -> pl.DataFrame:
    """NaN is null, as everywhere in pandas; whole numbers that pandas keeps as floats are whole numbers again."""
    try:
        rows = pl.from_pandas(frame, nan_to_null=True)
    except Exception as error:  # whatever Arrow and Polars raise for columns of mixed types
        received = str(error).splitlines()[0]
        raise RequestError("the pandas frame", expected="columns of one type each", received=received) from error
    integers = {column.name for column in schema.columns if is_integer(column.dtype) and not column.is_list}
    return rows.with_columns(
        series.cast(pl.Int64) for series in rows.get_columns() if series.name in integers and _is_whole(series)
    )


def _is_whole(series: pl.Series) -> bool:
    if not series.dtype.is_float():
        return False
    known = series.drop_nulls()
    return bool((known.abs() <= EXACT).all() and (known == known.floor()).all())
