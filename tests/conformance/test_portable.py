"""The cases as files run where there is no NVTabular, and what is wrong is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import CASES
from tests.conformance.portable import write

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = "import sys; sys.modules.update(nvtabular=None, merlin=None, pandas=None); "


def check(folder: Path, engine: str = "cpu") -> tuple[int, Any]:
    run = "from tests.conformance.portable import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", WITHOUT + run, "check", str(folder), engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cases")
    assert write(made, CASES[::12]) >= 25
    return made


def test_cases_run_without_nvtabular_and_a_wrong_one_is_told(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    code, found = check(folder)
    assert (code, found["wrong"], found["refused"], found["equal"]) == (0, {}, {}, names)
    path = folder / names[0] / "features.json"
    features = json.loads(path.read_text())
    path.write_text(json.dumps({name: values[::-1] for name, values in features.items()}))
    code, found = check(folder)
    assert (code, list(found["wrong"]), len(found["equal"])) == (1, names[:1], len(names) - 1)
