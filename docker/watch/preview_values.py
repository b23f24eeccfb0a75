"""How preview.py writes a value and which colour it has: units, mappings, thresholds and Grafana's palette."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mews.report import numbers

# Grafana's classic palette, and its names of colours.
_PALETTE = (
    "#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#37872D", "#FADE2A", "#C0D8FF",
)  # fmt: skip
_COLORS = {
    "green": "#73BF69", "red": "#F2495C", "orange": "#FF9830", "yellow": "#FADE2A", "blue": "#5794F2",
    "purple": "#B877D9", "text": "#CCCCDC",
}  # fmt: skip


def written(value: float, unit: str) -> str:
    """Return a value in a unit of Grafana's."""
    if unit == "s" and value >= 2 * 86400:
        return f"{numbers.significant(value / 86400)}{numbers.NBSP}d"
    formats: dict[str, Callable[[float], str]] = {
        "s": numbers.seconds,
        "bytes": numbers.size,
        "percentunit": numbers.percent,
        "reqps": lambda found: f"{numbers.compact(found)}{numbers.NBSP}req/s",
        "rowsps": lambda found: f"{numbers.compact(found)}{numbers.NBSP}rows/s",
        "none": lambda found: numbers.significant(found, 4),
        "sci": lambda found: numbers.significant(found, 2),
        "short": numbers.compact,
    }
    known = formats.get(unit)
    return known(value) if known else numbers.significant(value)


def defaults(panel: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a panel says of all its series."""
    found: Mapping[str, Any] = panel["fieldConfig"]["defaults"]
    return found


def mapped(panel: Mapping[str, Any], value: float) -> Mapping[str, str]:
    """Return the text and the colour that a value mapping gives, if one does."""
    for mapping in defaults(panel).get("mappings", ()):
        found: Mapping[str, str] = mapping["options"].get(f"{value:g}", {})
        if found:
            return found
    return {}


def color_of(panel: Mapping[str, Any], value: float, number: int) -> str:
    """Return the colour of a value by mapping, thresholds, or the series' number."""
    if said := mapped(panel, value):
        return named(said.get("color", "text"))
    mode = defaults(panel).get("color", {})
    if mode.get("mode") == "fixed":
        return named(mode["fixedColor"])
    if mode.get("mode") == "palette-classic" or panel["type"] == "timeseries":
        return _PALETTE[number % len(_PALETTE)]
    chosen = "green"
    for step in defaults(panel).get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            chosen = step["color"]
    return named(chosen)


def named(color: str) -> str:
    """Return the colour that Grafana calls so."""
    return _COLORS.get(color, color)
