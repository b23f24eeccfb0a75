"""Memory of a server over a soak as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mews.report.svg import Axis, element, figure, line, polyline, text

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640.0, 260.0, 56.0, 60.0, 46.0, 36.0
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; } .label { font-weight: 600; } .note { fill: #59636e; }
.grid { stroke: #d1d9e0; } path { fill: none; stroke-width: 2; }
.total { stroke: #1f4e79; } .server { stroke: #5a97cf; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .note { fill: #9198a1; } .grid { stroke: #3d444d; }
  .total { stroke: #9ecae9; } .server { stroke: #4c78a8; } }
"""


def draw(report: Mapping[str, Any]) -> str:
    """Return memory over requests, of the server and of it with its backends' processes, as an SVG file."""
    samples = report["samples"]
    done = [float(sample["requests"]) for sample in samples]
    server = [sample["server_mb"] for sample in samples]
    total = [sample["server_mb"] + sample["stubs_mb"] for sample in samples]
    x_axis, y_axis = Axis(low=0.0), Axis(low=0.0)
    x = x_axis.scale(done, _LEFT, _WIDTH - _RIGHT)
    y = y_axis.scale([*server, *total], _HEIGHT - _BOTTOM, _TOP)
    slope = report["slope_mb_per_100k"]
    told = "" if slope is None else f", {slope:+g} MiB for each 100,000 after the warm-up"
    title = f"{report['requests']:,} requests, {report['failed']} failed, {report['wrong']} wrong{told}"
    parts = [element("style", _STYLE), text(0, 16, title, css="label"), text(0, 34, "MiB in memory", css="note")]
    for value, mark in y_axis.marks(y, 5):
        parts.append(line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "grid"))
        parts.append(text(_LEFT - 8, y(value) + 4, mark, anchor="end", css="note"))
    for value, _ in x_axis.marks(x, 5):
        parts.append(text(x(value), _HEIGHT - 14, f"{value:,.0f}", anchor="middle", css="note"))
    for name, values in (("server", server), ("total", total)):
        parts.append(polyline([(x(a), y(b)) for a, b in zip(done, values, strict=True)], name))
        parts.append(text(x(done[-1]) + 6, y(values[-1]) + 4, name, css="note"))
    drawn = figure(_WIDTH, _HEIGHT, title, *parts)
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"
