"""The report in a real browser: no console errors, nothing loaded, no sideways scrolling on a phone or a desk."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mews.report import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium)")

# The report is looked at from a frame of each width; what is found is left in the page, which --dump-dom prints.
HARNESS = """<!doctype html><body><script>
const widths = [390, 1440], found = {};
const look = (frame, width) => {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const visible = (css) => [...page.querySelectorAll(css)].filter((one) => one.getClientRects().length);
  const chart = visible("svg.chart")[0];
  chart.focus();
  chart.dispatchEvent(new view.KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  const tip = page.getElementById("tip"), before = view.getComputedStyle(page.body).backgroundColor;
  const shown = tip.hidden ? "" : tip.textContent;
  page.querySelector("button.theme").click();
  const outside = (one) => one.getBoundingClientRect().left < -1 || one.getBoundingClientRect().right > width + 1;
  found[width] = {
    scroll: root.scrollWidth, client: root.clientWidth, tip: shown,
    resources: view.performance.getEntriesByType("resource").length,
    themes: [before, view.getComputedStyle(page.body).backgroundColor],
    outside: visible("svg.chart text").filter(outside).map((one) => one.textContent),
  };
  if (Object.keys(found).length === widths.length) document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
};
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.onload = () => look(frame, width);
  frame.src = "demo/report.html#theme=light";
  document.body.append(frame);
}
</script>"""


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the harness found by width, and the browser's console."""
    folder = tmp_path_factory.mktemp("browser")
    location = Path(__file__).parents[1] / "report_example.py"
    specification = importlib.util.spec_from_file_location("report_example", location)
    assert specification is not None
    assert specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    render(example.write(folder / "demo"))
    (folder / "harness.html").write_text(HARNESS)
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        "--window-size=1500,1000",
        "--dump-dom",
        (folder / "harness.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search("FOUND(.*)END", done.stdout)
    assert found, f"the report did not load: {done.stdout[-500:]}"
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(html.unescape(found[1])), console


def test_nothing_is_written_to_the_console(browsed: tuple[dict[str, Any], str]) -> None:
    assert browsed[1] == ""


@pytest.mark.parametrize("width", ["390", "1440"])
class TestAtWidth:
    def test_there_is_no_sideways_scrolling(self, browsed: tuple[dict[str, Any], str], width: str) -> None:
        found = browsed[0][width]
        assert found["scroll"] <= found["client"]

    def test_no_label_of_a_chart_is_cut_off(self, browsed: tuple[dict[str, Any], str], width: str) -> None:
        assert browsed[0][width]["outside"] == []

    def test_nothing_is_loaded(self, browsed: tuple[dict[str, Any], str], width: str) -> None:
        assert browsed[0][width]["resources"] == 0

    def test_the_keyboard_steps_through_a_chart(self, browsed: tuple[dict[str, Any], str], width: str) -> None:
        assert browsed[0][width]["tip"].startswith("data: 6.2")

    def test_the_button_changes_the_theme(self, browsed: tuple[dict[str, Any], str], width: str) -> None:
        light, dark = browsed[0][width]["themes"]
        assert light != dark
