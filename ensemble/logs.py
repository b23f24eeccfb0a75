"""Logs as JSON lines: one object a line, with `time`, `level`, `message`, and the request's id where there is one.

`JsonFormatter` is for Python's logging, `from_triton` for what tritonserver prints. Both use the same keys, so a
request is found in both by `request_id`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

REQUESTS = "mews.requests"
"""Logger of calls: `TracedClient` tells it of each, with its fields as attributes of the record."""
FIELDS = ("request_id", "model", "version", "rows", "milliseconds", "error", "trace_id", "span_id")
"""Attributes of a record that become keys."""

_LEVELS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}
_GLOG = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d+) \d+ ([\w.]+:\d+)\] (.*)", re.DOTALL)
_ISO = re.compile(r"(\d{4}-\d\d-\d\dT[\d:]+Z) ([IWEF]) \d+ ([\w.]+:\d+)\] (.*)", re.DOTALL)
_ONNX_RUNTIME = re.compile(r"(\d{4}-\d\d-\d\d [\d:]+\.\d{6})\d* \[([IWEF]):onnxruntime:[^\]]*\] (.*)", re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_REQUEST = re.compile(r"\[request id: ([^\]]+)\] ?")
_UNKNOWN = "<id_unknown>"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; times are UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception becomes `exception`."""
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {"time": _text(when), "level": record.levelname, "logger": record.name}
        line["message"] = record.getMessage()
        line |= {key: record.__dict__[key] for key in FIELDS if record.__dict__.get(key) not in (None, "")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def from_triton(lines: Iterable[str], year: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield one object for each line of tritonserver's log; a line of another form keeps only its `message`.

    The default format says no year: `year`, or this one. `--log-format=ISO8601` says it.
    """
    for line in lines:
        text = _COLOUR.sub("", line).rstrip("\n")
        if text.strip():
            yield _parsed(text, year or datetime.now(UTC).year)


def _parsed(text: str, year: int) -> dict[str, Any]:
    if found := _GLOG.fullmatch(text):
        level, month, day, time, where, said = found.groups()
        return _line(datetime.fromisoformat(f"{year}-{month}-{day}T{time}"), level, where, said)
    if found := _ISO.fullmatch(text):
        when, level, where, said = found.groups()
        return _line(datetime.fromisoformat(when.removesuffix("Z")), level, where, said)
    if found := _ONNX_RUNTIME.fullmatch(text):
        when, level, said = found.groups()
        return _line(datetime.fromisoformat(when), level, "onnxruntime", said)
    return {"logger": "triton", "message": text}


def _line(when: datetime, level: str, where: str, said: str) -> dict[str, Any]:
    message = _unquoted(said)
    line: dict[str, Any] = {"time": _text(when.replace(tzinfo=UTC)), "level": _LEVELS[level], "logger": "triton"}
    if found := _REQUEST.search(message):
        message = _REQUEST.sub("", message, count=1)
        if found[1] != _UNKNOWN:
            line["request_id"] = found[1]
    return line | {"message": message, "source": where}


def _unquoted(said: str) -> str:
    try:
        found = json.loads(said) if said.startswith('"') else said
    except ValueError:
        found = said
    return str(found)


def _text(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
