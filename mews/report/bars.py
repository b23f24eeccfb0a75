"""Bar charts as inline SVG: histograms, also of two data sets over each other, and bars with a name for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mews.report.numbers import percent
from mews.report.svg import Axis, Scale, element, figure, line, path, shorten, text, text_width

_HEIGHT, _BOTTOM = 230.0, 24.0


@dataclass(frozen=True)
class Histogram:
    """Shares of rows in bins that lie side by side; `edges` has one value more than `shares`, `tips` one text a bin.

    With `other`, its shares are drawn over the bars as an outline; `names` are then the bars' and the outline's names.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    tips: tuple[str, ...]
    x: Axis
    description: str
    other: tuple[float, ...] = ()
    names: tuple[str, str] = ("", "")

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        top = 34.0 if self.other else 10.0
        y_axis = Axis("", low=0, format=percent)
        y = y_axis.scale([*self.shares, *self.other], _HEIGHT - _BOTTOM, top)
        marks = y_axis.marks(y, 5)
        left = max(text_width(mark) for _, mark in marks) + 10
        x = Scale(self.edges[0], self.edges[-1], left, width - 8)
        parts = [*_levels(marks, x, y), *self._bars(x, y), *_places(self.x, x, y.start, width)]
        if self.other:
            parts += [self._outline(x, y), *self._key(width)]
        return figure(width, _HEIGHT, self.description, *parts)

    def _bars(self, x: Scale, y: Scale) -> list[Markup]:
        parts, gap = [], 1.0 if len(self.shares) <= 60 else 0.0
        for index, (share, tip) in enumerate(zip(self.shares, self.tips, strict=True)):
            begin, end = x(self.edges[index]), x(self.edges[index + 1])
            tall = max(1.0, y.start - y(share)) if share else 0.0
            wide = max(0.8, end - begin - gap)
            parts.append(element("rect", x=begin, y=y.start - tall, width=wide, height=tall, class_="bar c1"))
            hit = element(
                "rect", x=begin, y=y.stop, width=end - begin, height=y.start - y.stop, class_="hit", data_tip=tip
            )
            parts.append(hit)
        return parts

    def _outline(self, x: Scale, y: Scale) -> Markup:
        steps = [(self.edges[0], 0.0)]
        for index, share in enumerate(self.other):
            steps += [(self.edges[index], share), (self.edges[index + 1], share)]
        steps.append((self.edges[-1], 0.0))
        return element("path", d=path((x(a), y(b)) for a, b in steps), class_="line c2")

    def _key(self, width: float) -> list[Markup]:
        first, second = (shorten(name, width / 2 - 30) for name in self.names)
        at = 20 + text_width(first) * 1.05 + 18
        return [
            element("rect", x=0.0, y=5.0, width=12.0, height=10.0, class_="bar c1"),
            text(18, 14, first, css="name c1"),
            line(at, 10, at + 16, 10, "line c2"),
            text(at + 22, 14, second, css="name c2"),
        ]


def _levels(marks: Sequence[tuple[float, str]], x: Scale, y: Scale) -> list[Markup]:
    parts = [line(x.start, y.start, x.stop, y.start, "axis")]
    for value, mark in marks:
        parts.append(text(x.start - 7, y(value) + 4, mark, anchor="end"))
        if value:
            parts.append(line(x.start, y(value), x.stop, y(value), "grid"))
    return parts


def _places(axis: Axis, x: Scale, base: float, width: float) -> list[Markup]:
    """Marks below the bars, as many as have room; those at the ends stay within the chart."""
    parts, edge = [], -1e9
    for value, mark in axis.marks(x, max(2, int((x.stop - x.start) / 70))):
        half = text_width(mark) / 2
        middle = min(max(x(value), half), width - half)
        if middle - half > edge + 8:
            parts += [line(x(value), base, x(value), base + 4, "axis"), text(middle, base + 17, mark, anchor="middle")]
            edge = middle + half
    return parts


@dataclass(frozen=True)
class Bar:
    """A named bar: `value` is its length, `written` what stands at its end, `other` a mark to compare it with."""

    label: str
    value: float
    written: str
    tip: str
    other: float | None = None
    color: str = "c1"


@dataclass(frozen=True)
class NamedBars:
    """Bars under each other, each with its name to the left; `pins` are marks across all of them: (value, text)."""

    bars: tuple[Bar, ...]
    description: str
    high: float | None = None
    pins: tuple[tuple[float, str], ...] = ()
    names: tuple[str, str] = ("", "")

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        pitch, top = 23.0, 24.0 if self.pins or self.names[0] else 4.0
        left = min(max(text_width(bar.label) for bar in self.bars) + 12, width * 0.42)
        right = max(text_width(bar.written) for bar in self.bars) + 12
        longest = max(max(bar.value, bar.other or 0.0) for bar in self.bars)
        x = Scale(0, self.high or longest or 1.0, left, width - right)
        bottom = top + pitch * len(self.bars)
        parts = [line(left, top, left, bottom, "axis")]
        for value, told in self.pins:
            anchor = "end" if x(value) > width * 0.7 else "start"
            parts += [line(x(value), top - 4, x(value), bottom, "pin"), text(x(value), 12, told, anchor=anchor)]
        parts += [self._bar(bar, top + pitch * index, pitch, x, width) for index, bar in enumerate(self.bars)]
        return figure(width, bottom + 6, self.description, *parts, *self._key(width))

    def _bar(self, bar: Bar, y: float, pitch: float, x: Scale, width: float) -> Markup:
        end = x(min(bar.value, x.high))
        parts = [
            element("rect", x=0.0, y=y, width=width, height=pitch, class_="hit", data_tip=bar.tip),
            text(x.start - 8, y + 16, shorten(bar.label, x.start - 10), anchor="end"),
            element(
                "rect",
                x=x.start,
                y=y + 4,
                width=max(1.0 if bar.value else 0.0, end - x.start),
                height=15.0,
                class_=f"bar {bar.color}",
            ),
        ]
        if bar.other is not None:
            place = x(min(bar.other, x.high))
            parts.append(line(place, y + 1, place, y + 22, "line c2"))
            end = max(end, place)
        return element("g", *parts, text(end + 6, y + 16, bar.written, css="value"))

    def _key(self, width: float) -> list[Markup]:
        if not self.names[0]:
            return []
        first, second = (shorten(name, width / 2 - 30) for name in self.names)
        at = 20 + text_width(first) * 1.05 + 22
        return [
            element("rect", x=0.0, y=3.0, width=12.0, height=10.0, class_="bar c1"),
            text(18, 12, first, css="name c1"),
            line(at, 0, at, 15, "line c2"),
            text(at + 8, 12, second, css="name c2"),
        ]
