"""Cells as they were read, turned into the declared types without ever stopping at a bad one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from etl import dtypes

if TYPE_CHECKING:
    from etl.sources.dataset import DataColumn

SEPARATOR = "|"
"""Between the values of a list that is kept as a string, as MovieLens writes genres."""
_TIMES = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_TRUTH = {"true": "1", "false": "0", "yes": "1", "no": "0"}


def typed(cell: pl.Expr, stored: pl.DataType, column: DataColumn) -> pl.Expr:
    """`cell`, kept as `stored`, in the type of `column`; null where it cannot be that."""
    if not column.is_list:
        return _scalar(cell, stored, column.dtype)
    if isinstance(stored, pl.List | pl.Array):
        as_list = cell.arr.to_list() if isinstance(stored, pl.Array) else cell
        return as_list.list.eval(_scalar(pl.element(), stored.inner, column.dtype))  # type: ignore[arg-type]
    texts = pl.when(cell.str.strip_chars() == "").then(None).otherwise(cell).str.split(SEPARATOR)
    return texts.list.eval(_scalar(pl.element(), pl.String(), column.dtype))


def comparable(stored: pl.DataType, column: DataColumn) -> bool:
    """False when no cell of `stored` can ever be a value of `column`, such as a list where a number is declared."""
    nested = isinstance(stored, pl.List | pl.Array)
    if isinstance(stored, pl.Struct | pl.Binary | pl.Object):
        return False
    return nested == column.is_list or (column.is_list and stored == pl.String())


def _scalar(cell: pl.Expr, stored: pl.DataType, name: str) -> pl.Expr:
    wanted = dtypes.dtype(name).polars
    if stored == wanted:
        return cell
    if stored == pl.String():
        return _parsed(cell, name, wanted)
    if stored.is_float() and dtypes.is_integer(name):  # 1.5 is not an integer, and a cast would make it 1
        return pl.when(cell == cell.floor()).then(cell.cast(wanted, strict=False))
    return cell.cast(wanted, strict=False)


def _parsed(text: pl.Expr, name: str, wanted: pl.DataType) -> pl.Expr:
    trimmed = text.str.strip_chars()
    if name == "datetime":
        plain = trimmed.str.strip_suffix("Z")
        return pl.coalesce([plain.str.to_datetime(pattern, time_unit="us", strict=False) for pattern in _TIMES])
    if name == "bool":
        number = _number_text(trimmed).cast(pl.Float64, strict=False)
        return pl.when(number.is_in([0.0, 1.0])).then(number == 1.0)
    if dtypes.is_integer(name):
        number = trimmed.cast(pl.Float64, strict=False)
        whole = pl.when(number == number.floor()).then(number.cast(wanted, strict=False))
        return pl.coalesce(_number_text(trimmed).cast(wanted, strict=False), whole)
    return trimmed.cast(wanted, strict=False)


def _number_text(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().replace(_TRUTH)
