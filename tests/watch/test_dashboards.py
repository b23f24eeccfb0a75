"""The dashboards against a Prometheus that scrapes the embedded Triton under load: every panel shows something."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.watch.conftest import WATCH, Prometheus

DASHBOARDS = sorted((WATCH / "grafana" / "dashboards").glob("*.json"))
ABSENT = re.compile(r"Needs (a GPU|kube-state-metrics|the response cache)")


def _panels(path: Any) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(path.read_text())["panels"] if panel.get("targets")]


def _filled(expression: str) -> str:
    return re.sub(r"\$\w+", ".+", expression)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data(path: Any, prometheus: Prometheus) -> None:
    checked = 0
    for panel in _panels(path):
        for target in panel["targets"]:
            found = prometheus.query(_filled(target["expr"]))  # what is no PromQL is refused here
            if not ABSENT.search(panel["description"]):
                values = [float(series["value"][1]) for series in found]
                assert values, f"{panel['title']}: {target['expr']} finds nothing"
                assert any(value == value for value in values), f"{panel['title']}: {target['expr']} is NaN"
                checked += 1
    assert checked >= 8


def test_every_rule_is_evaluated_without_error_and_none_fires(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert len(rules) > 20
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert prometheus.query('ALERTS{alertstate="firing"}') == []


def test_served_version_is_the_stable_one(prometheus: Prometheus) -> None:
    served = [series["metric"] for series in prometheus.query("mews:served:version == 1")]
    assert [(each["model"], each["version"]) for each in served] == [("mews", "2")]


def test_variables_have_values(prometheus: Prometheus) -> None:
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            inner = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert inner is not None
            assert all(inner[2] in series["metric"] for series in prometheus.query(inner[1]))
            assert prometheus.query(inner[1]), variable


def test_files_are_what_the_script_writes(tmp_path: Path) -> None:
    shutil.copytree(WATCH, tmp_path / "watch", ignore=shutil.ignore_patterns("*.json"))
    subprocess.run([sys.executable, "dashboards.py"], cwd=tmp_path / "watch", check=True)
    written = {path.name: path.read_text() for path in (tmp_path / "watch" / "grafana" / "dashboards").iterdir()}
    assert written == {path.name: path.read_text() for path in DASHBOARDS}, "run `python docker/watch/dashboards.py`"


def test_numbers_turn_red_at_the_budgets_of_the_alerts(prometheus: Prometheus) -> None:
    limits = {
        panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for path in DASHBOARDS
        for panel in _panels(path)
    }
    budgets = {"p99": "p99_seconds", "Failed": "error_ratio", "Its age": "model_age_seconds"}
    for title, budget in budgets.items():
        assert limits[title] == float(prometheus.query(f"mews:budget:{budget}")[0]["value"][1])


def test_panels_do_not_overlap_and_name_a_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((WATCH / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in _panels(path):
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{path.stem}: {panel['title']}"
            assert place["x"] + place["w"] <= 24
            taken |= cells
            assert panel["datasource"]["uid"] in {source["uid"] for source in sources}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_knows_every_key(path: Path) -> None:
    """Grafana's own types read the dashboard and write all of it again: they drop keys that they do not know."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    ours = json.loads(path.read_text())
    theirs = json.loads(json.dumps(Dashboard.from_json(ours), cls=JSONEncoder))
    assert _differences(ours, theirs) == []
    ours["panels"][0]["options"]["notAKey"] = 1
    theirs = json.loads(json.dumps(Dashboard.from_json(ours), cls=JSONEncoder))
    assert _differences(ours, theirs) == ["/panels/0/options/notAKey"]


def _differences(ours: Any, theirs: Any, at: str = "") -> list[str]:
    """Where `theirs` lacks something of `ours`, or has another value."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [d for key, one in ours.items() for d in _differences(one, theirs.get(key), f"{at}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            d
            for place, (a, b) in enumerate(zip(ours, theirs, strict=True))
            for d in _differences(a, b, f"{at}/{place}")
        ]
    return [] if ours == theirs else [at]
