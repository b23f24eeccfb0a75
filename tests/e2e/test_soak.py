"""`mews bench soak` on the demo: its answers, its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Demo, last_json, mews

pytestmark = pytest.mark.xdist_group("demo")


def test_the_demo_is_soaked(demo: Demo, tmp_path: Path) -> None:
    done = mews("bench", "soak", "--requests", 500, "--out", tmp_path, "--run", demo.folder, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    report = last_json(done)
    assert (report["requests"], report["failed"], report["wrong"], report["ok"]) == (500, 0, 0, True)
    assert report["slope_mb_per_100k"] is None
    assert (tmp_path / "soak-500.json").is_file()
    assert "500 requests, 0 failed, 0 wrong" in (tmp_path / "soak-500.svg").read_text()
