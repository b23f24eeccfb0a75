"""The accessors .dt and .str of a stand-in for a column, and the constants that a recorded function holds."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from etl.operators.traced import Tree

if TYPE_CHECKING:
    from etl.reader.trace_column import Column

_EPOCH = datetime.datetime(1970, 1, 1)
_PLAIN_TEXT = frozenset(".^$*+?{}[]\\|()")


class Untraceable(AttributeError):  # noqa: N818 - it is not an error of the program; reading makes a Problem of it
    """Why a function cannot be recorded. An AttributeError, so that libraries may ask a stand-in what it can."""


def time_of(value: Any) -> Tree | None:
    """Return a point in time or a duration as microseconds; None for anything else."""
    if type(value).__name__ == "NaTType":
        return ["value", None]
    if isinstance(value, np.datetime64):
        return ["moment", int(value.astype("datetime64[us]").astype(np.int64))]
    if isinstance(value, np.timedelta64):
        return ["span", int(value.astype("timedelta64[us]").astype(np.int64))]
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            raise Untraceable("a time with a time zone: columns have none")
        return ["moment", (value - _EPOCH) // datetime.timedelta(microseconds=1)]
    if isinstance(value, datetime.timedelta):
        return ["span", value // datetime.timedelta(microseconds=1)]
    return None


def literal_of(value: Any, kind: Any, what: str) -> Any:
    """Return a constant of a kind; Untraceable for anything else."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, kind):
        raise Untraceable(f"{what} must be a constant, not {type(value).__name__}")
    return value


_DATE_NAMES = {"weekday": "weekday", "dayofweek": "weekday", "day_of_week": "weekday", "day_of_year": "dayofyear"}
_DATE_NAMES |= {"daysinmonth": "days_in_month"}
_DATE_NAMES |= {
    name: name for name in ["year", "quarter", "month", "day", "dayofyear", "hour", "minute", "second", "microsecond"]
}
_DATE_NAMES |= {name: name for name in ["days_in_month", "is_month_start", "is_month_end", "is_leap_year"]}
_DATE_NAMES |= {name: name for name in ["days", "seconds"]}


class Dates:
    """Stands for `.dt`."""

    def __init__(self, column: Column) -> None:
        self._column = column

    def __getattr__(self, name: str) -> Column:
        if name not in _DATE_NAMES:
            raise Untraceable(f".dt.{name} is not recorded")
        return self._part(_DATE_NAMES[name])

    def total_seconds(self) -> Column:
        """A time between two, in seconds."""
        return self._part("total_seconds")

    def normalize(self) -> Column:
        """The beginning of the day."""
        return self._part("normalize")

    def floor(self, freq: str) -> Column:
        """The beginning of the day (hour, minute, second)."""
        parts = {"D": "normalize", "h": "floor_hour", "H": "floor_hour", "min": "floor_minute", "s": "floor_second"}
        if freq not in parts:
            raise Untraceable(f".dt.floor({freq!r}) is not recorded")
        return self._part(parts[freq])

    def _part(self, name: str) -> Column:
        return self._column._call("date", self._column, literals=(name,))


class Text:
    """Stands for `.str`."""

    def __init__(self, column: Column) -> None:
        self._column = column

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(f".str.{name} is not recorded")

    def __getitem__(self, key: Any) -> Column:
        if not isinstance(key, slice) or key.step not in (None, 1):
            raise Untraceable("only slices of a text are recorded")
        return self.slice(key.start, key.stop)

    def len(self) -> Column:
        """The number of characters."""
        return self._text("len")

    def lower(self) -> Column:
        """In lower case."""
        return self._text("lower")

    def upper(self) -> Column:
        """In upper case."""
        return self._text("upper")

    def strip(self, to_strip: str | None = None) -> Column:
        """Without white space, or these characters, at the ends."""
        return self._text("strip", to_strip)

    def lstrip(self, to_strip: str | None = None) -> Column:
        """Without white space, or these characters, at the beginning."""
        return self._text("lstrip", to_strip)

    def rstrip(self, to_strip: str | None = None) -> Column:
        """Without white space, or these characters, at the end."""
        return self._text("rstrip", to_strip)

    def slice(self, start: int | None = None, stop: int | None = None, step: int | None = None) -> Column:
        """The characters from one place to another."""
        if step not in (None, 1):
            raise Untraceable("only slices without a step are recorded")
        return self._text("slice", start, stop)

    def startswith(self, pat: str, na: Any = None) -> Column:
        """Where it begins with a text."""
        return self._text("startswith", pat)

    def endswith(self, pat: str, na: Any = None) -> Column:
        """Where it ends with a text."""
        return self._text("endswith", pat)

    def contains(self, pat: str, case: bool = True, flags: int = 0, na: Any = None, regex: bool = True) -> Column:
        """Where it contains a text."""
        if not case or flags or (regex and _PLAIN_TEXT & set(pat)):
            raise Untraceable(
                ".str.contains with a regular expression is not recorded; regex=False takes the text as it is"
            )
        return self._text("contains", pat)

    def replace(
        self, pat: str, repl: str, n: int = -1, case: Any = None, flags: int = 0, regex: bool = False
    ) -> Column:
        """With one text for another."""
        if regex or n != -1 or case is not None or flags or not isinstance(repl, str):
            raise Untraceable(".str.replace with a regular expression or a count is not recorded")
        return self._text("replace", pat, repl)

    def _text(self, name: str, *arguments: Any) -> Column:
        found = [literal_of(argument, str | int | None, f"an argument of .str.{name}") for argument in arguments]
        return self._column._call("text", self._column, literals=(name, found))
