"""Datetimes of rows as what a request's column wants: a number in its unit, or ISO 8601 text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ensemble.spec import RequestColumn
from etl.requests import PER_SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = PER_SECOND["us"]
_ROWS_NAMED = 5


class BadRows(Exception):  # noqa: N818 - a problem of one column; encode raises the error
    """Rows of one column that cannot be sent."""

    def __init__(self, text: str, places: npt.NDArray[Any]) -> None:
        super().__init__(text)
        self._text, self._places = text, places

    def say(self, first_row: int) -> str:
        """Return the problem with the numbers of the first rows that have it."""
        named = ", ".join(str(place + first_row) for place in self._places[:_ROWS_NAMED])
        more = f" and {len(self._places) - _ROWS_NAMED} more" if len(self._places) > _ROWS_NAMED else ""
        return f"{self._text} (row {named}{more})"


def at_rows(mask: npt.NDArray[Any], lengths: npt.NDArray[Any] | None, text: str) -> BadRows:
    """Return the problem of the values in `mask`; `lengths` of a list column turns their numbers into rows'."""
    places = np.flatnonzero(mask)
    if lengths is not None:
        places = np.unique(np.repeat(np.arange(len(lengths)), lengths)[places])
    return BadRows(text, places)


def iso_microseconds(text: str) -> int | None:
    """Return ISO 8601 text as microseconds since 1970, in UTC unless it says otherwise; None for other text."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def in_unit(microseconds: int, unit: str) -> int | None:
    """Return a number of `unit` ("iso" counts microseconds), None where it would lose part of a second."""
    whole, rest = divmod(microseconds * PER_SECOND.get(unit, _MICRO), _MICRO)
    return None if rest else whole


def moments(series: pl.Series, column: RequestColumn, lengths: npt.NDArray[Any] | None) -> pl.Series:
    """Return a column of datetimes, dates, ISO 8601 text or numbers (already in the unit) as what is sent.

    BadRows for text that is no datetime, for what the unit would cut, and for what ISO 8601 has no year for.
    """
    unit = column.form.datetime
    if isinstance(series.dtype, pl.String):
        found = [iso_microseconds(text) if text else None for text in series.to_list()]
        wrong = np.array([value is None and bool(text) for value, text in zip(found, series.to_list(), strict=True)])
        if wrong.any():
            raise at_rows(wrong, lengths, f"column {column.name!r} is not an ISO 8601 datetime")
        series = _counted(pl.Series(found, dtype=pl.Int64()), column, lengths)
    elif isinstance(series.dtype, pl.Date | pl.Datetime):
        zone = getattr(series.dtype, "time_zone", None)
        series = _counted(series.cast(pl.Datetime("us", zone)).to_physical(), column, lengths)
    return _as_text(series, column, lengths) if unit == "iso" else series


def _counted(series: pl.Series, column: RequestColumn, lengths: npt.NDArray[Any] | None) -> pl.Series:
    """Return microseconds in the column's unit."""
    if column.form.datetime in ("us", "iso"):
        return series
    found = [None if value is None else in_unit(value, column.form.datetime) for value in series.to_list()]
    limit = 2**63
    wrong = [
        value is not None and (made is None or not -limit < made < limit)
        for value, made in zip(series.to_list(), found, strict=True)
    ]
    if any(wrong):
        text = f"column {column.name!r} is not a whole number of {column.form.datetime}"
        raise at_rows(np.array(wrong), lengths, text)
    return pl.Series(found, dtype=pl.Int64())


def _as_text(series: pl.Series, column: RequestColumn, lengths: npt.NDArray[Any] | None) -> pl.Series:
    values = series.to_list()
    found = [None if value is None else _text(value) for value in values]
    wrong = np.array([text is None and value is not None for text, value in zip(found, values, strict=True)])
    if wrong.any():
        raise at_rows(wrong, lengths, f"column {column.name!r} is not in the years 1 to 9999")
    return pl.Series(found, dtype=pl.String())


def _text(microseconds: int) -> str | None:
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat()
    except OverflowError:
        return None
