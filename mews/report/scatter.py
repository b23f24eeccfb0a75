"""Scatter plots as inline SVG: a few named points with their ranges, or many small ones coloured by a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mews.report.svg import Axis, Scale, element, figure, line, text, text_width

_TOP, _BOTTOM, _PITCH = 26.0, 40.0, 15.0


@dataclass(frozen=True)
class Spot:
    """A named point; `low` and `high` draw its range along y."""

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    color: str = "c1"
    tip: str = ""


@dataclass(frozen=True)
class Spots:
    """Named points between two axes."""

    spots: tuple[Spot, ...]
    x: Axis
    y: Axis
    description: str
    height: float = 300.0

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        heights = [value for one in self.spots for value in (one.low, one.y, one.high) if value is not None]
        y = self.y.scale(heights, self.height - _BOTTOM, _TOP)
        marks = self.y.marks(y, 5)
        left = max(text_width(mark) for _, mark in marks) + 10
        x = self.x.scale([one.x for one in self.spots], left + 8, width - 14)
        parts = [*_frame(self.x, self.y, x, y, marks, left), *(_range(one, x, y) for one in self.spots)]
        parts += [element("circle", cx=x(one.x), cy=y(one.y), r=5.0, class_=f"dot {one.color}") for one in self.spots]
        parts += _names(self.spots, x, y, width, lowest=y.start - 6)
        parts += [
            element("circle", cx=x(one.x), cy=y(one.y), r=12.0, class_="hit", data_tip=one.tip) for one in self.spots
        ]
        return figure(width, self.height, self.description, *parts)


def _frame(
    x_axis: Axis, y_axis: Axis, x: Scale, y: Scale, marks: Sequence[tuple[float, str]], left: float
) -> list[Markup]:
    parts = [line(left, y.start, x.stop, y.start, "axis"), text(0, 12, y_axis.label, css="label")]
    for value, mark in marks:
        parts += [line(left, y(value), x.stop, y(value), "grid"), text(left - 7, y(value) + 4, mark, anchor="end")]
    edge = -1e9
    for value, mark in x_axis.marks(x, max(2, int((x.stop - x.start) / 62))):
        half = text_width(mark) / 2
        middle = min(x(value), x.stop + 14 - half)
        if middle - half > edge + 8:
            parts += [
                line(x(value), y.start, x(value), y.start + 4, "axis"),
                text(middle, y.start + 18, mark, anchor="middle"),
            ]
            edge = middle + half
    parts.append(text(x.stop, y.start + 34, x_axis.label, anchor="end", css="label"))
    return parts


def _range(spot: Spot, x: Scale, y: Scale) -> Markup:
    if spot.low is None or spot.high is None:
        return Markup("")
    return line(x(spot.x), y(spot.low), x(spot.x), y(spot.high), f"range thin {spot.color}")


def _names(spots: Sequence[Spot], x: Scale, y: Scale, width: float, lowest: float) -> list[Markup]:
    """Names beside the points: on the side with room, moved up or down where another name is, never below `lowest`."""
    taken: list[tuple[float, float, float]] = [(x(one.x) - 6, x(one.x) + 6, y(one.y)) for one in spots]
    parts = []
    for spot in sorted(spots, key=lambda one: -y(one.y)):
        at, wide = x(spot.x), text_width(spot.name) * 1.05
        right = at + 10 + wide < width
        begin = at + 10 if right else at - 10 - wide
        place = _free((begin, begin + wide), min(y(spot.y), lowest), taken, (at, y(spot.y)), lowest)
        taken.append((begin, begin + wide, place))
        anchor, where = ("start", begin) if right else ("end", at - 10)
        parts.append(text(where, place + 4, spot.name, anchor=anchor, css=f"name {spot.color}"))
    return parts


def _free(
    across: tuple[float, float],
    wanted: float,
    taken: Sequence[tuple[float, float, float]],
    spot: tuple[float, float],
    lowest: float,
) -> float:
    """Return the height nearest to `wanted`, not below `lowest`, at which `across` meets no name and no other point."""
    begin, end = across
    others = [one for one in taken if not (one[2] == spot[1] and one[0] <= spot[0] <= one[1])]
    for step in range(24):
        for sign in (-1, 1):
            place = wanted + sign * step * _PITCH * 0.5
            if place <= lowest and not any(a < end and begin < b and abs(place - at) < _PITCH for a, b, at in others):
                return place
    return wanted


@dataclass(frozen=True)
class Cloud:
    """Many points without axes: (x, y, group, tip); `groups` are (name, colour class) in the order of the key."""

    points: tuple[tuple[float, float, int, str], ...]
    groups: tuple[tuple[str, str], ...]
    description: str
    height: float = 420.0

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        rows = _key_rows([name for name, _ in self.groups], width)
        top = 12.0 + 18 * len(rows)
        across, up = [point[0] for point in self.points], [point[1] for point in self.points]
        x = Scale(min(across), max(across), 8.0, width - 8)
        y = Scale(min(up), max(up), self.height - 8, top + 8)
        parts = self._key(rows)
        for px, py, group, tip in sorted(self.points, key=lambda point: -point[2]):
            color = self.groups[group][1]
            parts.append(element("circle", cx=x(px), cy=y(py), r=3.0, class_=f"dot point {color}", data_tip=tip))
        return figure(width, self.height, self.description, *parts)

    def _key(self, rows: Sequence[Sequence[int]]) -> list[Markup]:
        parts = []
        for index, row in enumerate(rows):
            at, height = 0.0, 12.0 + 18 * index
            for place in row:
                name, color = self.groups[place]
                parts.append(element("circle", cx=at + 5, cy=height - 4, r=4.5, class_=f"dot {color}"))
                parts.append(text(at + 15, height, name, css=f"name {color}"))
                at += text_width(name) * 1.05 + 32
        return parts


def _key_rows(names: Sequence[str], width: float) -> list[list[int]]:
    """Divide the places of `names` into rows that fit `width`."""
    rows: list[list[int]] = [[]]
    used = 0.0
    for place, name in enumerate(names):
        need = text_width(name) * 1.05 + 32
        if rows[-1] and used + need > width:
            rows.append([])
            used = 0.0
        rows[-1].append(place)
        used += need
    return rows
