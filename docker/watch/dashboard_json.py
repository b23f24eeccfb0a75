"""A panel of our tables as Grafana's JSON model, and a dashboard of panels laid out in its grid of 24 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_NEEDS = {
    "gpu": "Needs a GPU.",
    "kubernetes": "Needs kube-state-metrics.",
    "cache": "Needs the response cache.",
}
_COLUMNS = 24
_UNLIMITED = "text"
"""The colour of a number that has no limit: neither good nor bad."""


@dataclass(frozen=True)
class Panel:
    """One picture: queries with their legends, a unit of Grafana's, and its kind and width (of 24).

    `limits` are (value, colour) from which on a number has that colour, green below. `said` writes single values as
    (text, colour). `dashed` are patterns of the names of series that are drawn dashed, bounds and budgets, with their
    colour. `columns` are the labels that a table shows. `needs` names what a panel has no data without: gpu, kubernetes
    or cache.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    about: str = ""
    needs: str = ""
    stacked: bool = False
    limits: Sequence[tuple[float, str]] = ()
    said: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    dashed: Sequence[tuple[str, str]] = ()
    columns: Sequence[str] = ()

    @property
    def height(self) -> int:
        """Rows of the grid; what may have no data is small."""
        return 4 if self.kind == "stat" else 5 if self.needs else 8


def dashboard(uid: str, title: str, panels: Sequence[Panel], variables: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return one dashboard as Grafana's JSON model; `variables` are names with their queries."""
    return {
        "uid": f"mews-{uid}",
        "title": title,
        "tags": ["mews"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one cross hair for all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_variable(*each) for each in variables]},
        "panels": list(_laid_out(panels)),
    }


def _laid_out(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _COLUMNS:
            x, y, height = 0, y + height, 0
        height = max(height, panel.height)
        yield _panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": panel.height})
        x += panel.width


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    asked: dict[str, Any] = {"instant": True, "range": False} if instant else {}
    if panel.kind == "table":
        asked["format"] = "table"
    targets = [
        {"refId": chr(65 + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend or "__auto"} | asked
        for index, (query, legend) in enumerate(panel.queries)
    ]
    written = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": " ".join(filter(None, (panel.about, _NEEDS.get(panel.needs, "")))),
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
        "targets": targets,
    }
    if panel.columns:
        written["transformations"] = [{"id": "organize", "options": _organized(panel.columns)}]
    return written


def _defaults(panel: Panel) -> dict[str, Any]:
    """What holds for all series. Grafana's own default is green and, from 80 on, red: hence all is said."""
    found: dict[str, Any] = {"unit": panel.unit, "color": {"mode": "palette-classic"}}
    # A bar's length is its value; without a minimum Grafana draws the least one as nothing.
    from_zero = panel.kind == "bargauge" or panel.unit not in ("none", "sci")
    if from_zero:
        found["min"] = 0
    if panel.kind == "timeseries":
        stacked = {"stacking": {"mode": "normal"}, "fillOpacity": 30}
        found["custom"] = {"lineWidth": 2} | (stacked if panel.stacked else {"fillOpacity": 5 if from_zero else 0})
    elif panel.limits or panel.said:
        found["color"] = {"mode": "thresholds"}
    else:
        found["color"] = {"mode": "fixed", "fixedColor": "blue" if panel.kind == "bargauge" else _UNLIMITED}
    base = "green" if panel.limits else _UNLIMITED
    steps: list[dict[str, Any]] = [{"value": None, "color": base}]
    found["thresholds"] = {
        "mode": "absolute",
        "steps": steps + [{"value": value, "color": color} for value, color in panel.limits],
    }
    if panel.said:
        options = {
            str(value): {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(panel.said.items())
        }
        found["mappings"] = [{"type": "value", "options": options}]
    return found


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    line = {"custom.lineStyle": {"fill": "dash", "dash": [6, 4]}, "custom.lineWidth": 1, "custom.fillOpacity": 0}
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/{pattern}/"},
            "properties": [
                {"id": name, "value": value}
                for name, value in (line | {"color": {"mode": "fixed", "fixedColor": color}}).items()
            ],
        }
        for pattern, color in panel.dashed
    ]


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        return {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": legend}
    if panel.kind == "table":
        return {}
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}}
    if panel.kind == "bargauge":
        options |= {"orientation": "horizontal", "displayMode": "basic"}
    if panel.said:
        options |= {"colorMode": "value", "orientation": "vertical", "textMode": "value_and_name"}
    if panel.title == "Stable version":
        options |= {"textMode": "name"}
    return options


def _organized(columns: Sequence[str]) -> dict[str, Any]:
    """Only these labels of a table, in this order."""
    hidden = ("Time", "Value", "__name__", "instance", "job", "model", "namespace", "pod", "service", "endpoint")
    return {
        "excludeByName": {name: True for name in (*hidden, "container") if name not in columns},
        "indexByName": {name: index for index, name in enumerate(columns)},
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }
