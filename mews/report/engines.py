"""The engines of `mews bench etl` as a table, for the terminal and in Markdown, and as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from etl.atomic import write_text
from mews.report.svg import Scale, element, figure, line, shorten, text, text_width, ticks

HEADERS = ("engine", "fit s", "transform s", "total s", "rows/s", "peak MiB", "x Mews")
NAMES = {
    "mews": "Mews",
    "nvtabular": "NVTabular",
    "polars": "Polars by hand",
    "pandas": "pandas",
    "duckdb": "DuckDB",
    "spark": "PySpark",
}
_BAR, _STEP, _TOP, _COLUMN, _FONT = 16.0, 28.0, 58.0, 64.0, 13.0
_KEY = 40.0
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; } .label { font-weight: 600; } .note { fill: #59636e; }
.grid { stroke: #d1d9e0; } .fit { fill: #5a97cf; } .transform { fill: #1f4e79; } .failed { fill: #b3261e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .note { fill: #9198a1; } .grid { stroke: #3d444d; } .failed { fill: #ff8a80; }
  .fit { fill: #9ecae9; } .transform { fill: #4c78a8; } }
"""


def rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return one line for each engine under HEADERS; an engine without figures says why."""
    mews = report["engines"]["mews"]["seconds"]
    return [_row(name, found, mews) for name, found in report["engines"].items()]


def _row(name: str, found: Mapping[str, Any], mews: float) -> list[str]:
    if "failed" in found:
        peak = f"{found['peak_rss_mb']:,.0f}" if "peak_rss_mb" in found else "-"
        return [f"{NAMES[name]}: {found['failed']}", "-", "-", "-", "-", peak, "-"]
    seconds = [f"{found[key]:.2f}" for key in ("fit_seconds", "transform_seconds", "seconds")]
    told = [f"{found['rows_per_s']:,.0f}", f"{found['peak_rss_mb']:,.0f}", f"{found['seconds'] / mews:.2f}"]
    return [NAMES[name], *seconds, *told]


def write(report: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """Write etl-<rows>.md and etl-<rows>.svg into `out`; returns both."""
    table, plot = (out / f"etl-{report['rows']}.{kind}" for kind in ("md", "svg"))
    write_text(table, markdown(report))
    write_text(plot, draw(report))
    return table, plot


def markdown(report: Mapping[str, Any]) -> str:
    """Return the table with what it was measured on."""
    machine, settings = report["machine"], report["settings"]
    measured_on = (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_mb']:,} MiB; repeats: {settings['repeats']}, "
        f"medians; frequency threshold: {settings['freq_threshold']}. "
        f"{agreement(report)}. Starting (imports, the JVM) is not counted."
    )
    lines = [
        f"# {report['rows']:,} rows, 26 categorical and 13 continuous columns",
        "",
        measured_on,
        "",
        f"| {' | '.join(HEADERS)} |",
        f"|{'|'.join(['---'] + ['---:'] * (len(HEADERS) - 1))}|",
        *(f"| {' | '.join(row)} |" for row in rows(report)),
        "",
        *(
            f"- {name}: {goal['measured']:g} (goal {goal['limit']}): {'met' if goal['met'] else 'missed'}"
            for name, goal in report["goals"].items()
        ),
    ]
    return "\n".join(lines) + "\n"


def agreement(report: Mapping[str, Any]) -> str:
    """Say in words whether all outputs are the same, or that none was compared."""
    return {
        True: "Outputs agree",
        False: "Outputs do NOT all agree",
        None: "Outputs were not compared: no second engine made any",
    }[report["equal"]]


def draw(report: Mapping[str, Any], width: float = 480.0) -> str:
    """Return bars of seconds, fit and transform one after the other, an engine in each line, as an SVG file."""
    engines = report["engines"]
    slowest = max(float(found["seconds"]) for found in engines.values() if "seconds" in found)
    left = max(text_width(NAMES[name], _FONT) for name in engines) + 26
    bottom = _TOP + _STEP * len(engines)
    scale = Scale(0.0, slowest, left, width - 2 * _COLUMN)
    parts = [element("style", _STYLE), text(0, 16, f"{report['rows']:,} rows: seconds by engine", css="label")]
    parts += [_key(left, "fit", 0.0), _key(left, "transform", 52.0)]
    parts += [text(width - _COLUMN, _KEY, "total", anchor="end", css="note")]
    parts += [text(width, _KEY, "memory", anchor="end", css="note")]
    for value in ticks(0.0, slowest, 6):
        parts.append(line(scale(value), _TOP - 4, scale(value), bottom - 6, "grid"))
        parts.append(text(scale(value), bottom + 10, f"{value:g} s", anchor="middle", css="note"))
    for number, (name, found) in enumerate(engines.items()):
        parts += _engine(name, found, scale, width, _TOP + _STEP * number)
    said = ", ".join(f"{NAMES[n]} {f['seconds']:.1f} s" for n, f in engines.items() if "seconds" in f)
    drawn = figure(width, bottom + 20, f"Seconds by engine: {said}", *parts)
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _engine(name: str, found: Mapping[str, Any], scale: Scale, width: float, y: float) -> list[Markup]:
    """Return one line: the name, the bars and the figures beside them, or why there are none."""
    baseline = y + 12.5
    parts = [text(scale.start - 10, baseline, NAMES[name], anchor="end", css="label" if name == "mews" else "")]
    if "failed" in found:
        why = str(found["failed"])
        shown = shorten(why, width - scale.start - 6, _FONT)
        return [*parts, text(scale.start + 6, baseline, shown, css="failed", tip=why)]
    fitted, ended = found["fit_seconds"], found["seconds"]
    parts += [_bar(scale(0.0), scale(fitted), y, "fit"), _bar(scale(fitted), scale(ended), y, "transform")]
    parts.append(text(width - _COLUMN, baseline, f"{ended:.1f} s", anchor="end"))
    parts.append(text(width, baseline, f"{found['peak_rss_mb'] / 1024:.1f} GiB", anchor="end"))
    return parts


def _bar(start: float, stop: float, y: float, css: str) -> Markup:
    return element("rect", x=start, y=y, width=max(stop - start, 0.5), height=_BAR, class_=css)


def _key(left: float, name: str, shift: float) -> Markup:
    box = element("rect", x=left + shift, y=_KEY - 9.5, width=10.0, height=10.0, class_=name)
    return element("g", box, text(left + shift + 14, _KEY, name, css="note"))
