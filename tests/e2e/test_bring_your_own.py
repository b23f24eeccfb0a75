"""A workflow and a model that Mews did not make are served as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_serves_a_fitted_workflow_and_a_trained_merlin_model(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "bring_your_own.py")],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(r"Served 2,000 rows; largest difference to .*: (\S+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) <= 1e-5
    assert list(tmp_path.iterdir()) == [], "nothing is left where it was run"
