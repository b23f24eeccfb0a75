"""Latency over time while versions are swapped, as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from etl.atomic import write_text
from mews.report.svg import Axis, Scale, element, figure, line, polyline, text

_HEIGHT, _TOP, _BOTTOM, _LEFT = 320.0, 64.0, 44.0, 58.0
_KEY = 42.0
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; } .label { font-weight: 600; } .note { fill: #59636e; }
.grid { stroke: #d1d9e0; } .axis { stroke: #59636e; } .line { fill: none; stroke-width: 1.5; }
.p50 { stroke: #1f4e79; } .p99 { stroke: #c4622d; } .before { stroke: #c4622d; stroke-dasharray: 4 4; }
.swap { fill: #5a97cf; opacity: 0.25; } .rollback { fill: #8a8f98; opacity: 0.25; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .note { fill: #9198a1; } .grid { stroke: #3d444d; } .axis { stroke: #9198a1; }
  .p50 { stroke: #9ecae9; } .p99 { stroke: #f0a37f; } .before { stroke: #f0a37f; } }
"""


def write(report: Mapping[str, Any], file: Path) -> Path:
    """Write the plot of a report of benchmarks/swap.py; returns `file`."""
    write_text(file, draw(report))
    return file


def draw(report: Mapping[str, Any], width: float = 860.0) -> str:
    """Return p50 and p99 over time with every change as a band, as an SVG file."""
    points, changes = report["timeline"]["points"], report["timeline"]["changes"]
    y_axis, x_axis = Axis(log=True), Axis(low=0)
    y = y_axis.scale([value / 1000 for point in points for value in point[1:]], _HEIGHT - _BOTTOM, _TOP)
    x = x_axis.scale([point[0] for point in points], _LEFT, width - 12)
    asked = f"{report['swaps']} swaps and {report['rollbacks']} rollbacks under {report['requests']:,} requests"
    says = f"{asked}: {report['failed']} failed, {report['wrong_version']} of the wrong version"
    parts = [element("style", _STYLE), text(0, 16, says, css="label"), *_keys()]
    parts += [_band(change, x, y) for change in changes]
    for value, mark in y_axis.marks(y, 8):
        parts.append(line(x.start, y(value), x.stop, y(value), "grid"))
        parts.append(text(x.start - 8, y(value) + 4, mark, anchor="end", css="note"))
    for value, mark in x_axis.marks(x, 10):
        parts.append(text(x(value), y.start + 18, mark, anchor="middle", css="note"))
    parts.append(line(x.start, y.start, x.stop, y.start, "axis"))
    parts.append(text(0, _TOP - 8, "ms", css="note"))
    parts.append(text(x.stop, y.start + 36, "seconds", anchor="end", css="note"))
    before = y(report["p99_before_us"] / 1000)
    parts.append(line(x.start, before, x.stop, before, "line before"))
    for column, css in ((2, "line p99"), (1, "line p50")):
        parts.append(polyline(((x(point[0]), y(point[column] / 1000)) for point in points), css))
    ratio = report["p99_during_over_before"]
    drawn = figure(width, _HEIGHT, f"{says}; p99 during is {ratio:.2f} times p99 before", *parts)
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _band(change: tuple[str, float, float], x: Scale, y: Scale) -> Markup:
    kind, started, ended = change
    wide = max(x(ended) - x(started), 0.5)
    return element("rect", x=x(started), y=y.stop, width=wide, height=y.start - y.stop, class_=kind)


def _keys() -> list[Markup]:
    parts, at = [], _LEFT
    for name, css in (("p50", "line p50"), ("p99", "line p99"), ("p99 before", "line before")):
        parts += [line(at, _KEY - 4, at + 18, _KEY - 4, css), text(at + 24, _KEY, name, css="note")]
        at += 34 + 8.0 * len(name)
    for name in ("swap", "rollback"):
        parts.append(element("rect", x=at, y=_KEY - 10, width=18.0, height=10.0, class_=name))
        parts.append(text(at + 24, _KEY, name, css="note"))
        at += 34 + 8.0 * len(name)
    return parts
