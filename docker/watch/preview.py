"""Draws the dashboards without Grafana: `python docker/watch/preview.py --prometheus http://127.0.0.1:9090`.

Layout, units, thresholds, legends and queries are those of grafana/dashboards/*.json; the data is what a Prometheus
answers. One HTML page for each dashboard, which loads nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup
from preview_panels import Drawn, Series, Window, panel_body

from etl.atomic import write_text
from mews.report.svg import element

HERE = Path(__file__).resolve().parent
_POINTS = 240
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class QueryError(Exception):
    """What Prometheus says of a query that it does not answer, or that it is not there."""


@dataclass
class Prometheus:
    """A Prometheus that is asked over HTTP for one window of time, with the dashboards' variables filled in."""

    url: str
    window: Window
    variables: Mapping[str, str] = field(default_factory=dict)

    def series(self, expression: str, legend: str, *, instant: bool) -> list[Series]:
        """Return the series of one query, named as the legend says; values that are no number are left out."""
        asked: dict[str, Any] = {"query": self.filled(expression)}
        if instant:
            asked["time"] = self.window.end
        else:
            asked |= {"start": self.window.start, "end": self.window.end, "step": self.window.step}
        found = self._get("query" if instant else "query_range", asked)["result"]
        return [_series(each, legend, len(found)) for each in found if isinstance(each, dict)]

    def values(self, query: str) -> list[str]:
        """Return what `label_values(metric, label)` finds."""
        inner = re.fullmatch(r"label_values\((.*), *(\w+)\)", query)
        if inner is None:
            raise QueryError(f"{query}: expected label_values(metric, label)")
        found = self._get("query", {"query": inner[1], "time": self.window.end})["result"]
        return sorted({each["metric"][inner[2]] for each in found if inner[2] in each["metric"]})

    def filled(self, expression: str) -> str:
        """Return the expression with a value for every variable; one that is not known stands for anything."""
        return re.sub(r"\$(\w+)", lambda match: self.variables.get(match[1], ".+"), expression)

    def _get(self, path: str, asked: Mapping[str, Any]) -> Any:
        url = f"{self.url.rstrip('/')}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            try:
                said = str(json.load(error)["error"])
            except (ValueError, KeyError, TypeError):
                said = f"{error.code} {error.reason}"
            raise QueryError(said) from None
        except (OSError, ValueError) as error:
            raise QueryError(f"no answer from Prometheus at {self.url}: {error}") from None


def _series(found: Mapping[str, Any], legend: str, count: int) -> Series:
    labels = {key: text for key, text in found["metric"].items() if key != "__name__"}
    if legend == "__auto":
        name = ", ".join(labels.values()) if count > 1 else ""
    else:
        name = re.sub(r"\{\{ *(\w+) *\}\}", lambda match: labels.get(match[1], ""), legend)
    points = found.get("values") or [found["value"]]
    numbers = tuple((float(at), float(value)) for at, value in points)
    return Series(name.strip(), tuple(point for point in numbers if math.isfinite(point[1])), labels)


def page(dashboard: Mapping[str, Any], source: Prometheus) -> str:
    """Return one dashboard as an HTML page; a panel without data says so, and what it needs."""
    chosen = {each["name"]: source.values(each["query"]["query"]) for each in dashboard["templating"]["list"]}
    shown = [
        element("span", element("b", name), f" {source.variables.get(name) or 'All'} ({', '.join(values) or 'none'})")
        for name, values in chosen.items()
    ]
    head = element(
        "header",
        element("h1", dashboard["title"]),
        *shown,
        element("span", _span(source.window), class_="time"),
        element("span", "Drawn by docker/watch/preview.py, not by Grafana", class_="origin"),
    )
    grid = element("main", *(_panel(panel, source) for panel in dashboard["panels"]))
    style = element("style", Markup((HERE / "preview.css").read_text(encoding="utf-8")))
    document = Markup(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{}</title>'
        '<meta http-equiv="Content-Security-Policy" content="{}">{}</head>\n<body>{}{}</body></html>\n'
    )
    return str(document.format(dashboard["title"], _POLICY, style, head, grid))


def _panel(panel: Mapping[str, Any], source: Prometheus) -> Markup:
    place, about = panel["gridPos"], str(panel.get("description", ""))
    series: list[Series] = []
    problem = ""
    for target in panel.get("targets", ()):
        try:
            series += source.series(
                target["expr"], target.get("legendFormat", ""), instant=target.get("instant", False)
            )
        except QueryError as error:
            problem = str(error)
    series = [each for each in series if each.points]
    drawn: Drawn = panel_body(panel, series, source.window)
    if problem:
        body, state = element("p", problem, class_="problem"), "error"
    elif series:
        body, state = drawn(), "drawn"
    else:
        needs = re.search(r"Needs [^.]+\.", about)
        body, state = element("p", "No data. ", needs[0] if needs else "", class_="none"), "empty"
    info = element("span", "i", class_="info", title=about) if about else ""
    return element(
        "section",
        element("h2", panel["title"], info),
        body,
        class_=state,
        data_panel=panel["id"],
        style=f"grid-area: {place['y'] + 1} / {place['x'] + 1} / span {place['h']} / span {place['w']}",
    )


def _span(window: Window) -> str:
    first, last = (datetime.fromtimestamp(at, UTC) for at in (window.start, window.end))
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S} UTC"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a page for each dashboard, and print where; 1 when Prometheus does not answer."""
    parser = argparse.ArgumentParser(description="Draw the dashboards from a Prometheus, without Grafana.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="address of its HTTP API")
    parser.add_argument("--minutes", type=float, default=60.0, help="how much time the graphs show")
    parser.add_argument(
        "--until", type=datetime.fromisoformat, help="where they end (2026-01-31T12:00Z); now if absent"
    )
    parser.add_argument("--out", type=Path, default=Path("preview"), help="folder of the pages")
    parser.add_argument("--var", action="append", default=[], metavar="NAME=REGEX", help="a variable, e.g. model=mews")
    parser.add_argument("--dashboards", type=Path, default=HERE / "grafana" / "dashboards", help="folder of the JSON")
    given = parser.parse_args(arguments)
    if given.minutes <= 0 or any("=" not in each for each in given.var):
        parser.error("expected --minutes above 0, and --var as NAME=REGEX")
    end = (given.until or datetime.now(UTC)).timestamp()
    window = Window(end - 60 * given.minutes, end, max(1.0, round(60 * given.minutes / _POINTS)))
    source = Prometheus(given.prometheus, window, dict(each.split("=", 1) for each in given.var))
    given.out.mkdir(parents=True, exist_ok=True)
    for file in sorted(given.dashboards.glob("*.json")):
        try:
            text = page(json.loads(file.read_text(encoding="utf-8")), source)
        except (QueryError, ValueError) as error:
            print(f"error: {file.name}: {error}", file=sys.stderr)
            return 1
        write_text(given.out / f"{file.stem}.html", text)
        print(given.out / f"{file.stem}.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
