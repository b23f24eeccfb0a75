"""The two things every chart needs: escaped SVG elements, and scales from data to pixels with readable ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from mews.report.numbers import significant

FONT = 12.0
_WIDE, _NARROW, _PLAIN = 0.82, 0.32, 0.56


def element(name: str, *children: str, **attributes: object) -> Markup:
    """One SVG element; attribute values and children that are not Markup are escaped, None attributes left out.

    Underscores in attribute names become hyphens and a trailing one is dropped (`class_`).
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(Markup(key.rstrip("_").replace("_", "-")), _plain(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, content: str, *, anchor: str = "start", css: str = "", tip: str | None = None) -> Markup:
    """A line of text, its baseline at y."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=css or None, data_tip=tip)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=css)


def polyline(points: Iterable[tuple[float, float]], css: str) -> Markup:
    """An open line through points."""
    return element("path", d=path(points), class_=css)


def path(points: Iterable[tuple[float, float]]) -> str:
    """Points in pixels as path data, to a tenth of a pixel."""
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def text_width(content: str, size: float = FONT) -> float:
    """About how wide a text is, in pixels; fonts differ, so this errs to the wide side."""
    return size * sum(_character(one) for one in content)


def shorten(content: str, width: float, size: float = FONT) -> str:
    """`content`, cut with an ellipsis to fit `width` pixels."""
    if text_width(content, size) <= width:
        return content
    kept = len(content)
    while kept > 1 and text_width(content[:kept], size) + size > width:
        kept -= 1
    return content[:kept].rstrip() + "…"


def _character(one: str) -> float:
    if one in "ijltfr.,:;|!()[]' \u00a0":
        return _NARROW
    return _WIDE if one in "mwMW@%" or ord(one) > 0x2E7F else 0.68 if one.isupper() else _PLAIN


def figure(width: float, height: float, description: str, *children: str, css: str = "chart") -> Markup:
    """The <svg> itself: an image with a text alternative; the keyboard reaches it and steps through its data points."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        tabindex="0",
        aria_label=description,
        class_=css,
    )


@dataclass(frozen=True)
class Scale:
    """Maps low..high to start..stop pixels, by logarithm when `log`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        if self.log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, self.low * 1e-3))
        else:
            low, high = self.low, self.high
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)

    def invert(self, pixel: float) -> float:
        """The value at a pixel."""
        share = (pixel - self.start) / (self.stop - self.start)
        if self.log:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class Axis:
    """What an axis says: its label, its ends (None: from the data), its scale and how a tick is written.

    `ticks` names fixed positions with their text; without it, round numbers are chosen.
    """

    label: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    format: Callable[[float], str] = field(default=significant)
    ticks: tuple[tuple[float, str], ...] | None = None

    def scale(self, values: Sequence[float], start: float, stop: float) -> Scale:
        """The scale over `values`; open ends are rounded outwards to a tick."""
        usable = [value for value in values if math.isfinite(value) and (value > 0 or not self.log)] or [1.0]
        low = self.low if self.low is not None else min(usable)
        high = self.high if self.high is not None else max(usable)
        if self.log:
            return Scale(low / 1.15, high * 1.15 if high > low else low * 10, start, stop, log=True)
        if high <= low:
            low, high = low - (abs(low) or 1) * 0.1, high + (abs(high) or 1) * 0.1
        step = round_step(low, high, 4)
        low = low if self.low is not None else math.floor(low / step + 1e-9) * step
        high = high if self.high is not None else math.ceil(high / step - 1e-9) * step
        return Scale(low, high, start, stop)

    def marks(self, scale: Scale, wanted: int) -> list[tuple[float, str]]:
        """Tick positions (in data units) and their text."""
        if self.ticks is not None:
            return list(self.ticks)
        values = log_ticks(scale.low, scale.high, wanted) if scale.log else ticks(scale.low, scale.high, wanted)
        return [(value, self.format(value)) for value in values]


def round_step(low: float, high: float, wanted: int) -> float:
    """The 1, 2 or 5 times a power of ten that divides low..high into about `wanted` parts."""
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor * 1.0001)


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round values within low..high."""
    step = round_step(low, high, wanted)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, wanted: int) -> list[float]:
    """1, 2 and 5 times powers of ten within low..high, or fewer of them when there is no room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    choices: tuple[tuple[int, ...], ...] = ((1, 2, 5), (1, 3), (1,))
    found: list[float] = []
    for factors in choices:
        found = [f * 10.0**e for e in range(first, last + 1) for f in factors if low <= f * 10.0**e <= high]
        if len(found) <= wanted:
            return found
    return found[:: math.ceil(len(found) / max(1, wanted))]
