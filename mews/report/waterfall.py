"""Where the time of one request goes: bars that begin where the one before ended, as in a browser's network view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mews.report import numbers
from mews.report.figures import Figure, figure, target_name
from mews.report.svg import Scale, element, line, shorten, text, text_width, ticks
from mews.report.svg import figure as drawing

_PITCH, _BAR, _TOP = 23.0, 15.0, 6.0
_COLORS = {"client": "c5", "server": "c3", "ensemble": "c6"}


@dataclass(frozen=True)
class Phase:
    """One part of a request: which stage it belongs to, what happens, and how long it takes (microseconds)."""

    stage: str
    name: str
    us: float


@dataclass(frozen=True)
class Waterfall:
    """Phases in the order in which they happen."""

    phases: tuple[Phase, ...]
    description: str

    def draw(self, width: float) -> Markup:
        """The chart in `width` pixels."""
        labels = [_label(phase) for phase in self.phases]
        left = min(max(text_width(label) for label in labels) + 12, width * 0.45)
        right = max(text_width(_written(phase)) for phase in self.phases) + 12
        total = sum(phase.us for phase in self.phases)
        x, bottom = Scale(0.0, total or 1.0, left, width - right), _TOP + _PITCH * len(self.phases)
        parts = [line(x(mark), _TOP, x(mark), bottom, "grid") for mark in ticks(0.0, total or 1.0, 5)]
        start = 0.0
        for place, (phase, label) in enumerate(zip(self.phases, labels, strict=True)):
            parts.append(_bar(phase, label, start, _TOP + _PITCH * place, x, width))
            start += phase.us
        marks = [text(x(mark), bottom + 15, numbers.microseconds(mark), anchor="middle")
                 for mark in ticks(0.0, total or 1.0, 3)]  # fmt: skip
        return drawing(width, bottom + 22, self.description, *parts, *marks)


def _label(phase: Phase) -> str:
    return phase.name if phase.stage in _COLORS else f"{phase.stage}: {phase.name}"


def _written(phase: Phase) -> str:
    return numbers.microseconds(phase.us)


def _bar(phase: Phase, label: str, start: float, y: float, x: Scale, width: float) -> Markup:
    begin, end = x(start), x(start + phase.us)
    color = _COLORS.get(phase.stage, "c1" if phase.name == "compute" else "c2")
    tip = f"{label}: {_written(phase)}"
    return element(
        "g",
        element("rect", x=0.0, y=y, width=width, height=_PITCH, class_="hit", data_tip=tip),
        text(x.start - 8, y + 16, shorten(label, x.start - 10), anchor="end"),
        element("rect", x=begin, y=y + 4, width=max(1.0, end - begin), height=_BAR, class_=f"bar {color}"),
        text(end + 6, y + 16, _written(phase), css="value"),
    )


def waterfall(target: str, phases: Sequence[Phase]) -> Figure | None:
    """The figure of one target; None when nothing was traced."""
    if not phases:
        return None
    total = numbers.microseconds(sum(phase.us for phase in phases))
    told = f"Phases of one request to {target_name(target)}: " + "; ".join(
        f"{_label(phase)} {_written(phase)}" for phase in phases
    )
    note = (
        f"Medians of Triton's trace, one client, one row; {total} in all, of which the server sees all but the first."
    )
    return figure(f"Where a request's time goes: {target_name(target)}", Waterfall(tuple(phases), told), note)
