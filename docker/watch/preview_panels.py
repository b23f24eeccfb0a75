"""The panels of preview.py: time series, bar gauges, stats and tables as SVG and HTML, in Grafana's colours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

from markupsafe import Markup
from preview_values import color_of, defaults, mapped, named, written

from mews.report.svg import Axis, Scale, element, figure, line, path, shorten, text, text_width

Drawn = Callable[[], Markup]

WIDTH, GAP, ROW = 1408.0, 8.0, 30.0
_HEAD, _LEGEND_ROW, _LEGEND_ROWS = 30.0, 18.0, 3
_BOTTOM, _RIGHT = 22.0, 14.0
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)


@dataclass(frozen=True)
class Window:
    """What the graphs show: seconds since 1970, and the seconds between two points."""

    start: float
    end: float
    step: float


@dataclass(frozen=True)
class Series:
    """One series of an answer: its name in the legend, (time, value) in order, and its labels."""

    name: str
    points: tuple[tuple[float, float], ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


def panel_body(panel: Mapping[str, Any], series: Sequence[Series], window: Window) -> Drawn:
    """Return what draws a panel of this type; ValueError for a type that the dashboards do not use."""
    drawers: dict[str, Drawn] = {
        "timeseries": partial(_timeseries, panel, series, window),
        "bargauge": partial(_bargauge, panel, series),
        "stat": partial(_stat, panel, series),
        "table": partial(_table, panel, series),
    }
    if panel["type"] not in drawers:
        raise ValueError(f"panel {panel['title']!r}: expected one of {', '.join(drawers)}, received {panel['type']}")
    return drawers[panel["type"]]


def _overridden(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The properties that the overrides give to the series of this name."""
    return {
        prop["id"]: prop["value"]
        for override in panel["fieldConfig"].get("overrides", ())
        if _matches(override["matcher"], name)
        for prop in override["properties"]
    }


def _matches(matcher: Mapping[str, str], name: str) -> bool:
    if matcher["id"] == "byRegexp":
        return re.search(matcher["options"].strip("/"), name) is not None
    return matcher["id"] == "byName" and matcher["options"] == name


def _size(panel: Mapping[str, Any]) -> tuple[float, float]:
    """The pixels of a panel without its title."""
    place = panel["gridPos"]
    wide = place["w"] * (WIDTH + GAP) / 24 - GAP - 2
    return wide, place["h"] * (ROW + GAP) - GAP - 2 - _HEAD


def _timeseries(panel: Mapping[str, Any], series: Sequence[Series], window: Window) -> Markup:
    wide, tall = _size(panel)
    unit, custom = defaults(panel).get("unit", "short"), defaults(panel).get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    rows = _legend_rows([each.name for each in series], wide)
    tall -= rows * _LEGEND_ROW + 8
    levels = _stacked(series) if stacked else [each.points for each in series]
    values = [value for points in levels for _, value in points]
    low, high = defaults(panel).get("min"), defaults(panel).get("max")
    if low is not None and high is None and max(values) <= low:
        high = low + 1  # nothing but zeros
    axis = Axis(low=low, high=high, format=lambda value: written(value, unit))
    if unit == "bytes":
        axis = _in_bytes(axis, max(values))
    y = axis.scale(values, tall - _BOTTOM, 8.0)
    marks = axis.marks(y, 5 if tall > 150 else 3)
    x = Scale(window.start, window.end, max(text_width(mark) for _, mark in marks) + 16, wide - _RIGHT)
    parts = [_grid_line(x, y(value), mark) for value, mark in marks]
    parts += [text(x(at), tall - 4, mark, anchor="middle") for at, mark in _times(x)]
    fill = custom.get("fillOpacity", 0) / 100
    colors = []
    for number, (each, points) in reversed(list(enumerate(zip(series, levels, strict=True)))):
        own = _overridden(panel, each.name)
        color = named(own["color"]["fixedColor"]) if "color" in own else color_of(panel, each.last, number)
        colors.append(color)
        dashed = "6 4" if own.get("custom.lineStyle", {}).get("fill") == "dash" else None
        opacity = own.get("custom.fillOpacity", fill * 100) / 100
        look = _Look(color, opacity, dashed, covers=stacked)
        parts.append(_line_of(each.name, _unbroken(points, window.step), x, y, look))
    keys = [
        element("span", element("i", style=f"background: {color}"), each.name)
        for each, color in zip(series, reversed(colors), strict=True)
        if each.name
    ]
    said = f"{panel['title']}: {', '.join(f'{each.name} {written(each.last, unit)}'.strip() for each in series)}"
    return figure(wide, tall, said, *parts) + element("div", *keys, class_="legend", style=f"height: {rows * 18}px")


def _in_bytes(axis: Axis, most: float) -> Axis:
    """The axis with ticks at powers of two."""
    step = 2.0 ** math.ceil(math.log2(max(most, 1.0) / 4))
    count = math.ceil(max(most, 1.0) / step)
    ticks = tuple((number * step, written(number * step, "bytes")) for number in range(count + 1))
    return replace(axis, high=count * step, ticks=ticks)


def _grid_line(x: Scale, y: float, mark: str) -> Markup:
    return line(x.start, y, x.stop, y, "grid") + text(x.start - 8, y + 4, mark, anchor="end")


@dataclass(frozen=True)
class _Look:
    """How a line is drawn; one that covers hides what lies below it, as in a stack."""

    color: str
    fill: float
    dashed: str | None
    covers: bool


def _line_of(name: str, runs: Sequence[Sequence[tuple[float, float]]], x: Scale, y: Scale, look: _Look) -> Markup:
    parts = [element("title", name)]
    for run in runs:
        pixels = [(x(at), min(max(y(value), y.stop), y.start)) for at, value in run]
        if len(pixels) == 1:
            parts.append(element("circle", cx=pixels[0][0], cy=pixels[0][1], r=2.5, fill=look.color))
            continue
        closed = path([(pixels[0][0], y.start), *pixels, (pixels[-1][0], y.start)]) + "Z"
        if look.covers:
            parts.append(element("path", d=closed, class_="under"))
        if look.fill:
            parts.append(element("path", d=closed, fill=look.color, fill_opacity=look.fill))
        parts.append(
            element(
                "path", d=path(pixels), fill="none", stroke=look.color, stroke_width=1.5, stroke_dasharray=look.dashed
            )
        )
    return element("g", *parts)


def _unbroken(points: Sequence[tuple[float, float]], step: float) -> list[list[tuple[float, float]]]:
    """Divide points where one is missing between two."""
    runs = [[points[0]]]
    for before, point in pairwise(points):
        if point[0] - before[0] > 1.5 * step:
            runs.append([])
        runs[-1].append(point)
    return runs


def _stacked(series: Sequence[Series]) -> list[tuple[tuple[float, float], ...]]:
    """Each series' points on top of those before it."""
    total: dict[float, float] = {}
    levels = []
    for each in series:
        for at, value in each.points:
            total[at] = total.get(at, 0.0) + value
        levels.append(tuple((at, total[at]) for at, _ in each.points))
    return levels


def _times(x: Scale) -> list[tuple[float, str]]:
    wanted = max(2, int((x.stop - x.start) / 56))
    step = next((each for each in _STEPS if (x.high - x.low) / each <= wanted), _STEPS[-1])
    form = "%m-%d" if step >= 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
    first = int(-(-x.low // step))
    found = [float(number * step) for number in range(first, int(x.high // step) + 1)]
    return [(at, datetime.fromtimestamp(at, UTC).strftime(form)) for at in found if x(at) < x.stop - 4]


def _legend_rows(names: Sequence[str], wide: float) -> int:
    rows, used = 0, wide
    for name in filter(None, names):
        need = text_width(name) + 36
        if used + need > wide - 24:
            rows, used = rows + 1, 0.0
        used += need
    return min(rows, _LEGEND_ROWS)


def _bargauge(panel: Mapping[str, Any], series: Sequence[Series]) -> Markup:
    wide, tall = _size(panel)
    unit = defaults(panel).get("unit", "short")
    texts = [mapped(panel, each.last).get("text") or written(each.last, unit) for each in series]
    left = min(max(text_width(each.name) for each in series) + 20, wide * 0.4)
    right = max(text_width(said, 14) for said in texts) + 22
    # Without a minimum the shortest bar is the least value, as in Grafana.
    least, most = defaults(panel).get("min", min(each.last for each in series)), max(each.last for each in series)
    x = Scale(least, most if most > least else least + 1, left, wide - right)
    pitch = (tall - 10) / len(series)
    thick = min(pitch - 4, 26.0)
    parts = []
    for number, (each, said) in enumerate(zip(series, texts, strict=True)):
        y, color = 2 + pitch * number + (pitch - thick) / 2, color_of(panel, each.last, number)
        parts += [
            text(left - 8, y + thick / 2 + 4, shorten(each.name, left - 14), anchor="end", css="bar-name"),
            element("rect", x=left, y=y, width=x.stop - left, height=thick, rx=2.0, fill="#22252b"),
            element("rect", x=left, y=y, width=max(1.5, x(each.last) - left), height=thick, rx=2.0, fill=color),
            element("text", said, x=x.stop + 10, y=y + thick / 2 + 5, style=f"font-size: 14px; fill: {color}"),
        ]
    said = ", ".join(f"{each.name} {found}" for each, found in zip(series, texts, strict=True))
    return figure(wide, tall, f"{panel['title']}: {said}", *parts)


def _stat(panel: Mapping[str, Any], series: Sequence[Series]) -> Markup:
    unit, options = defaults(panel).get("unit", "short"), panel.get("options", {})
    room = _size(panel)[0] / len(series) - 30
    tiles = []
    for number, each in enumerate(series):
        color = color_of(panel, each.last, number)
        value = mapped(panel, each.last).get("text") or written(each.last, unit)
        shown = each.name if options.get("textMode") == "name" else value
        size = min(36.0 if len(series) == 1 else 17.0, room / max(1.0, text_width(shown, 1.0)))
        said = [element("b", shown, style=f"font-size: {size:.0f}px")]
        if len(series) > 1:
            said.insert(0, element("small", each.name))
        tiles.append(element("div", *said, style=f"color: {color}"))
    return element("div", *tiles, class_="stats many" if len(tiles) > 1 else "stats")


def _table(panel: Mapping[str, Any], series: Sequence[Series]) -> Markup:
    """The labels as columns, in the order and without those that the transformation `organize` says."""
    hidden: dict[str, bool] = {}
    order: dict[str, int] = {}
    for each in panel.get("transformations", ()):
        if each["id"] == "organize":
            hidden |= each["options"].get("excludeByName", {})
            order |= each["options"].get("indexByName", {})
    names = {name for each in series for name in each.labels if not hidden.get(name)}
    columns = sorted(names, key=lambda name: (order.get(name, len(order)), name))
    head = element("tr", *(element("th", name) for name in columns))
    body = [element("tr", *(element("td", each.labels.get(name, "")) for name in columns)) for each in series]
    return element("table", head, *body)
