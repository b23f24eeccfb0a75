"""The example that people copy: an ensemble that Merlin Systems has exported, exported by Mews."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_exports_and_serves_what_merlin_systems_exported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "from_merlin_systems.py")],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pickles: ensemble.pkl, workflow.pkl" in done.stdout
    found = re.search(r"Served 1,000 rows; largest difference to .*: (\S+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) <= 1e-5
    assert list(tmp_path.iterdir()) == [], "nothing is left where it was run"
