"""The runbook names what the programs really say, and the documents name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from mews.cli import app
from mews.metrics import HELP
from tests.watch.test_rules import RULES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("ensemble/**/*.py", "etl/*.py", "mews/**/*.py", "docker/helm/mews/templates/*.tpl")


def test_every_error_text_is_said_by_some_program() -> None:
    said = "\n".join(path.read_text() for pattern in SOURCES for path in ROOT.glob(pattern))
    table = (ROOT / "docs" / "runbook.md").read_text().partition("## By error text")[2].partition("\n## ")[0]
    texts = re.findall(r"^\| `(.+?)` \| ", table, re.MULTILINE)
    assert len(texts) > 20
    assert [text for text in texts if text not in said] == []


def test_watching_names_every_alert_and_every_family_of_metrics() -> None:
    text = (ROOT / "docs" / "watching.md").read_text()
    alerts = re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text())
    assert [alert for alert in alerts if f"| {alert} |" not in text] == []
    whole = re.sub(r"`(mews_version|mews_stage)_\w+`(?:, `_\w+`)+", _spelled, text)
    assert [name for name in HELP if f"`{name}`" not in whole] == []


@pytest.mark.parametrize("name", ["watching", "sizing", "runbook", "threat-model"])
def test_every_command_exists(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    root = typer.main.get_command(app)
    found = re.findall(r"(?:^|`)mews ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", text, re.MULTILINE)
    assert found
    for first, second in found:
        assert first in root.commands
        group = root.commands[first]
        assert not second or not hasattr(group, "commands") or second in group.commands, f"mews {first} {second}"


@pytest.mark.parametrize("name", ["watching", "sizing", "runbook", "threat-model"])
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "docs" / f"{name}.md").read_text()):
        assert (ROOT / "docs" / target).exists(), target


def _spelled(found: re.Match[str]) -> str:
    """`mews_stage_done`, `_seconds` are mews_stage_done and mews_stage_seconds."""
    return re.sub(r"`_", f"`{found[1]}_", found[0])
