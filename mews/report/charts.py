"""Charts as inline SVG: colours are CSS classes (so themes switch them), labels sit on the marks, points have tooltips.

A chart is a function of its width; page.py asks for a wide and a narrow one, so that text keeps its size on a phone.
Elements with `data-tip` show that text on hover, and on the arrow keys while the chart has the focus (report.js).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from mews.report.svg import Axis, Scale, element, figure, line, path, polyline, shorten, text, text_width

Point = tuple[float, float]
_TOP, _BOTTOM, _GAP = 26.0, 40.0, 15.0
_HOVER_STEPS = 40


@dataclass(frozen=True)
class Series:
    """One line: `color` is a CSS class (c1 … c6, muted), `dash` draws it dashed, `fill` shades it down to the axis."""

    name: str
    points: tuple[Point, ...]
    color: str = "c1"
    dash: bool = False
    markers: bool = False
    fill: bool = False
    silent: bool = False
    """Left out of labels and tooltips: a reference line."""


@dataclass(frozen=True)
class Pin:
    """A vertical mark at x with a short text."""

    x: float
    label: str


@dataclass(frozen=True)
class Interval:
    """A row of a dot plot: a value with a range, and what is written beside it."""

    label: str
    value: float
    low: float
    high: float
    written: str
    color: str = "c1"
    tip: str = ""


@dataclass(frozen=True)
class Lines:
    """A line chart: `key` puts the series' names at the lines' ends, in the lower right corner, or above the plot."""

    series: tuple[Series, ...]
    x: Axis
    y: Axis
    description: str
    key: str = "ends"
    pins: tuple[Pin, ...] = ()
    height: float = 280.0

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        series = tuple(one for one in self.series if one.points)
        named = [one for one in series if not one.silent]
        key = "above" if self.key == "ends" and width < 420 and len(named) > 1 else self.key
        rows = _key_rows([one.name for one in named], width) if key == "above" else []
        top = _TOP + len(rows) * 18
        right = max((text_width(one.name) for one in named), default=0) + 16 if key == "ends" else 14.0
        values_y = [y for one in series for _, y in one.points]
        values_x = [x for one in series for x, _ in one.points]
        y = self.y.scale(values_y, self.height - (_BOTTOM if self.x.label else 24), top)
        y_marks = self.y.marks(y, 5)
        left = max(text_width(mark) for _, mark in y_marks) + 10 if y_marks else 20.0
        x = self.x.scale(values_x, left, width - right)
        parts = [_grid(self.x, self.y, x, y, y_marks), *(_pin(pin, x, y) for pin in self.pins)]
        parts += [_drawn(one, x, y) for one in series]
        parts += _keys(key, named, rows, x, y)
        parts.append(_hover(named, self.x, self.y, x, y))
        return figure(width, self.height, self.description, *parts)


def _grid(x_axis: Axis, y_axis: Axis, x: Scale, y: Scale, y_marks: Sequence[tuple[float, str]]) -> Markup:
    parts = []
    for value, mark in y_marks:
        parts += [
            line(x.start, y(value), x.stop, y(value), "grid"),
            text(x.start - 7, y(value) + 4, mark, anchor="end"),
        ]
    edge = -math.inf
    for value, mark in x_axis.marks(x, max(2, int((x.stop - x.start) / 58))):
        half = text_width(mark) / 2
        middle = min(x(value), x.stop + 14 - half)
        if middle - half > edge + 8:
            parts.append(line(x(value), y.start, x(value), y.start + 4, "axis"))
            parts.append(text(middle, y.start + 18, mark, anchor="middle"))
            edge = middle + half
    parts.append(line(x.start, y.start, x.stop, y.start, "axis"))
    parts.append(text(0, 12, y_axis.label, css="label"))
    parts.append(text(x.stop, y.start + 34, x_axis.label, anchor="end", css="label"))
    return element("g", *parts)


def _pin(pin: Pin, x: Scale, y: Scale) -> Markup:
    at = x(pin.x)
    anchor, shift = ("end", -5) if at > (x.start + x.stop) / 2 else ("start", 5)
    return element(
        "g",
        line(at, y.stop - 4, at, y.start, "pin"),
        text(at + shift, y.stop + 8, pin.label, anchor=anchor, css="strong"),
    )


def _drawn(series: Series, x: Scale, y: Scale) -> Markup:
    points = [(x(px), y(py)) for px, py in series.points]
    parts = []
    if series.fill:
        closed = [(points[0][0], y.start), *points, (points[-1][0], y.start)]
        parts.append(element("path", d=path(closed) + "Z", class_=f"area {series.color}"))
    parts.append(polyline(points, f"line {series.color}" + (" dash" if series.dash else "")))
    if series.markers:
        parts += [element("circle", cx=px, cy=py, r=3.5, class_=f"dot {series.color}") for px, py in points]
    return element("g", *parts)


def _key_rows(names: Sequence[str], width: float) -> list[list[str]]:
    """Divide `names` into rows that fit above the plot."""
    rows: list[list[str]] = []
    used = math.inf
    for name in names:
        need = text_width(name) * 1.05 + 38
        if used + need > width:
            rows.append([])
            used = 0.0
        rows[-1].append(name)
        used += need
    return rows


def _keys(key: str, named: Sequence[Series], rows: Sequence[Sequence[str]], x: Scale, y: Scale) -> list[Markup]:
    if key == "ends":
        return _end_labels(named, x, y)
    if key == "lower right":
        widest = max((text_width(one.name) for one in named), default=0)
        first = y.start - 12 - (len(named) - 1) * 18
        return [_swatch(one, x.stop - widest - 30, first + index * 18) for index, one in enumerate(named)]
    by_name = {one.name: one for one in named}
    parts = []
    for index, row in enumerate(rows):
        at = 0.0
        for name in row:
            parts.append(_swatch(by_name[name], at, 32.0 + index * 18))
            at += text_width(name) * 1.05 + 38
    return parts


def _swatch(series: Series, x: float, y: float) -> Markup:
    dash = " dash" if series.dash else ""
    return element(
        "g",
        line(x, y - 4, x + 18, y - 4, f"line {series.color}{dash}"),
        text(x + 24, y, series.name, css=f"name {series.color}"),
    )


def _end_labels(named: Sequence[Series], x: Scale, y: Scale) -> list[Markup]:
    """Names to the right of the lines' last points, pushed apart where they would overlap."""
    ordered = sorted(((y(one.points[-1][1]), one) for one in named), key=lambda found: found[0])
    places: list[float] = []
    for wanted, _ in ordered:
        places.append(max(wanted, places[-1] + _GAP) if places else wanted)
    overflow = max(0.0, places[-1] - y.start) if places else 0.0
    return [
        text(x(one.points[-1][0]) + 9, place - overflow + 4, one.name, css=f"name {one.color}")
        for (_, one), place in zip(ordered, places, strict=True)
    ]


def _hover(named: Sequence[Series], x_axis: Axis, y_axis: Axis, x: Scale, y: Scale) -> Markup:
    """Invisible columns over the plot, each with the series' values there."""
    found = sorted({px for one in named for px, _ in one.points})
    if len(found) > _HOVER_STEPS:
        found = [x.invert(x.start + (x.stop - x.start) * (i + 0.5) / _HOVER_STEPS) for i in range(_HOVER_STEPS)]
    if not found:
        return Markup("")
    pixels = [x(value) for value in found]
    edges = [x.start, *((a + b) / 2 for a, b in pairwise(pixels)), x.stop]
    ticks = dict(x_axis.ticks or ())
    columns = []
    for value, begin, end in zip(found, edges, edges[1:], strict=False):
        lines = [
            f"{one.name}: {y_axis.format(level)}" for one in named if (level := _level(one.points, value)) is not None
        ]
        heading = ticks.get(value) or x_axis.format(value)
        tip = "\n".join([f"{x_axis.label} {heading}".strip(), *lines])
        columns.append(
            element(
                "rect",
                x=begin,
                y=y.stop,
                width=max(1.0, end - begin),
                height=y.start - y.stop,
                class_="hit",
                data_tip=tip,
            )
        )
    return element("g", *columns)


def _level(points: Sequence[Point], value: float) -> float | None:
    """The series' value at `value`, between its points by a straight line; None outside of them."""
    if not points or not points[0][0] <= value <= points[-1][0]:
        return None
    for (x1, y1), (x2, y2) in pairwise(points):
        if x1 <= value <= x2:
            return y2 if value == x2 or x2 == x1 else y1 + (y2 - y1) * (value - x1) / (x2 - x1)
    return points[0][1]


@dataclass(frozen=True)
class Intervals:
    """A dot plot: one row per value, its range as a bar, what it is to the left and how much to the right."""

    rows: tuple[Interval, ...]
    axis: Axis
    description: str
    pins: tuple[Pin, ...] = ()

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        left = min(max(text_width(row.label) for row in self.rows) + 14, width * 0.34)
        right = max(text_width(row.written) for row in self.rows) + 12
        pitch, top = 30.0, 30.0 if self.pins else 12.0
        bottom = top + pitch * len(self.rows)
        values = [value for row in self.rows for value in (row.low, row.value, row.high)]
        x = self.axis.scale([*values, *(pin.x for pin in self.pins)], left + 6, width - right - 6)
        marks = self.axis.marks(x, max(2, int((x.stop - x.start) / 62)))
        parts = []
        for value, mark in marks:
            parts += [line(x(value), top, x(value), bottom, "grid"), text(x(value), bottom + 17, mark, anchor="middle")]
        parts += [_pin(pin, x, Scale(0, 1, bottom, top - 14)) for pin in self.pins]
        for index, row in enumerate(self.rows):
            parts.append(self._row(row, top + pitch * (index + 0.5), left, x, width))
        parts.append(text(x.stop, bottom + 33, self.axis.label, anchor="end", css="label"))
        return figure(width, bottom + 40, self.description, *parts)

    def _row(self, row: Interval, y: float, left: float, x: Scale, width: float) -> Markup:
        return element(
            "g",
            element(
                "rect",
                x=0.0,
                y=y - 14,
                width=width,
                height=28.0,
                class_="hit",
                data_tip=row.tip or f"{row.label}: {row.written}",
            ),
            text(left, y + 4, shorten(row.label, left), anchor="end"),
            line(x(row.low), y, x(row.high), y, f"range {row.color}"),
            element("circle", cx=x(row.value), cy=y, r=5.0, class_=f"dot {row.color}"),
            text(x.stop + 14, y + 4, row.written, css="value"),
        )


@dataclass(frozen=True)
class Timeline:
    """Stages one after the other: a bar from where each began to where it ended, its duration beside it."""

    stages: tuple[tuple[str, float], ...]
    format: Callable[[float], str]
    description: str

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        left = min(max(text_width(name) for name, _ in self.stages) + 12, width * 0.32)
        right = max(text_width(self.format(taken)) for _, taken in self.stages) + 10
        total = sum(taken for _, taken in self.stages) or 1.0
        pitch, begin = 24.0, 0.0
        x = Scale(0, total, left + 4, width - right)
        parts = [line(x.start, 4, x.start, pitch * len(self.stages) + 8, "axis")]
        for index, (name, taken) in enumerate(self.stages):
            y = 8 + pitch * index
            tip = f"{name}: {self.format(taken)}, {taken / total:.0%} of the whole"
            parts.append(
                element(
                    "g",
                    element("rect", x=0.0, y=y - 3, width=width, height=pitch, class_="hit", data_tip=tip),
                    text(left - 6, y + 13, shorten(name, left - 6), anchor="end"),
                    element(
                        "rect",
                        x=x(begin),
                        y=y + 2,
                        width=max(1.5, x(begin + taken) - x(begin)),
                        height=14.0,
                        rx=2.0,
                        class_="bar c1",
                    ),
                    text(x(begin + taken) + 6, y + 13, self.format(taken), css="value"),
                )
            )
            begin += taken
        return figure(width, pitch * len(self.stages) + 12, self.description, *parts)


def spark(
    counts: Sequence[float], tips: Sequence[str], description: str, width: float = 132.0, height: float = 30.0
) -> Markup:
    """A small histogram for a table cell."""
    top = max(counts, default=0) or 1.0
    step = width / max(1, len(counts))
    gap = 1.0 if step > 4 else 0.0
    bars = []
    for index, (found, tip) in enumerate(zip(counts, tips, strict=True)):
        tall = found / top * (height - 2)
        tall = max(1.0, tall) if found else 0.0
        bars.append(
            element("rect", x=index * step, y=height - tall - 1, width=step - gap, height=tall, class_="bar c1")
        )
        bars.append(element("rect", x=index * step, y=0.0, width=step, height=height, class_="hit", data_tip=tip))
    return figure(width, height, description, line(0, height - 0.5, width, height - 0.5, "axis"), *bars, css="spark")
