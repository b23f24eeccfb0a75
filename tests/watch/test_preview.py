"""The preview of the dashboards, as a user runs it, on the Prometheus that scrapes the embedded Triton."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.watch.conftest import WATCH, Prometheus, WatchedServer, _load
from tests.watch.test_dashboards import DASHBOARDS, _filled


def _preview(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WATCH / "preview.py"), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pages(
    watched: WatchedServer, prometheus: Prometheus, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[int, dict[str, Any]]]:
    """What each page says of each panel: its title, state, text, and how many shapes are drawn."""
    _load(watched, prometheus)  # Triton's quantiles are of the last minute
    time.sleep(2)  # two scrapes
    out = tmp_path_factory.mktemp("preview")
    done = _preview(out, "--prometheus", prometheus.url, "--minutes", "3")
    assert (done.returncode, done.stderr) == (0, "")
    return {path.stem: _Page((out / f"{path.stem}.html").read_text()).panels for path in DASHBOARDS}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.panels: dict[int, dict[str, Any]] = {}
        self.open: dict[str, Any] = {}
        self.title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not {"src", "href", "onclick"} & given.keys(), f"{tag} loads or runs something"
        if tag == "section":
            self.open = {"title": "", "state": given["class"], "style": given["style"], "text": "", "shapes": 0}
            self.panels[int(given["data-panel"] or 0)] = self.open
        if self.open and tag in ("path", "circle", "rect", "b", "td"):
            self.open["shapes"] += 1
        self.title = tag == "h2"

    def handle_endtag(self, tag: str) -> None:
        self.title = self.title and tag != "h2"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open["title" if self.title else "text"] += data


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_is_on_the_page_and_drawn_if_its_queries_have_data(
    path: Path, pages: Mapping[str, Any], prometheus: Prometheus
) -> None:
    said = json.loads(path.read_text())["panels"]
    shown = pages[path.stem]
    assert [(panel["id"], panel["title"]) for panel in said] == [(key, one["title"]) for key, one in shown.items()]
    for panel in said:
        found, place = shown[panel["id"]], panel["gridPos"]
        assert found["style"] == (
            f"grid-area: {place['y'] + 1} / {place['x'] + 1} / span {place['h']} / span {place['w']}"
        )
        series = [each for target in panel["targets"] for each in prometheus.query(_filled(target["expr"]))]
        if series:
            assert (found["state"], found["shapes"] > 0) == ("drawn", True), panel["title"]
        else:
            needs = re.search(r"Needs [^.]+\.", panel["description"])
            assert needs is not None, f"{panel['title']} has no data"
            assert found["state"] == "empty"
            assert f"No data. {needs[0]}" in found["text"]


def test_values_have_their_units_and_series_their_names(pages: Mapping[str, Any]) -> None:
    serving = {one["title"]: one["text"] for one in pages["serving"].values()}
    assert "req/s" in serving["Requests"]
    assert re.search(r"(ms|µs|s)$", serving["p99"])
    assert all(name in serving["Latency in the server"] for name in ("p50", "p99.9", "budget"))
    quality = {one["title"]: one["text"] for one in pages["quality"].values()}
    assert quality["Stable version"].endswith("2")
    assert all(word in quality["Versions in the repository"] for word in ("version", "stable", "previous"))
    pipeline = {one["title"]: one["text"] for one in pages["pipeline"].values()}
    assert "traindone" in pipeline["Stages"]
    assert "exportnot done" in pipeline["Stages"]


def test_a_variable_narrows_what_is_shown(prometheus: Prometheus, tmp_path: Path) -> None:
    done = _preview(tmp_path, "--prometheus", prometheus.url, "--var", "model=nothing")
    assert done.returncode == 0
    panels = _Page((tmp_path / "serving.html").read_text()).panels.values()
    assert {one["title"]: one["state"] for one in panels}["Requests per second"] == "empty"


def test_a_query_that_is_refused_is_told_in_its_panel(prometheus: Prometheus, tmp_path: Path) -> None:
    broken = json.loads((WATCH / "grafana" / "dashboards" / "serving.json").read_text())
    broken["panels"][0]["targets"][0]["expr"] = "sum(("
    (tmp_path / "serving.json").write_text(json.dumps(broken))
    done = _preview(tmp_path, "--prometheus", prometheus.url, "--dashboards", str(tmp_path))
    assert done.returncode == 0
    panels = _Page((tmp_path / "serving.html").read_text()).panels
    assert panels[1]["state"] == "error"
    assert "parse error" in panels[1]["text"]


def test_a_kind_of_panel_that_it_cannot_draw_is_named(prometheus: Prometheus, tmp_path: Path) -> None:
    other = json.loads((WATCH / "grafana" / "dashboards" / "serving.json").read_text())
    other["panels"][0]["type"] = "heatmap"
    (tmp_path / "serving.json").write_text(json.dumps(other))
    done = _preview(tmp_path, "--prometheus", prometheus.url, "--dashboards", str(tmp_path))
    assert done.returncode == 1
    assert "panel 'Requests'" in done.stderr
    assert "received heatmap" in done.stderr


def test_no_prometheus_is_an_error(tmp_path: Path) -> None:
    done = _preview(tmp_path, "--prometheus", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "no answer from Prometheus at http://127.0.0.1:9" in done.stderr
