"""One run of the pipeline's first step, for all who need a fitted graph: importing NVTabular takes seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mews.kubeflow import step
from mews.kubeflow.steps import STEPS

SMALL = {"data": {"rows": 3000, "users": 100, "items": 50}, "model": {"name": "dcn_v2"}}
MEWS = str(Path(sys.executable).with_name("mews"))


def executor_input(name: str, folder: Path, config: Any) -> dict[str, Any]:
    """What Kubeflow tells a step without inputs."""
    artifacts = {key: {"artifacts": [{"name": key, "uri": str(folder / key)}]} for key in STEPS[name].outputs}
    return {
        "inputs": {"parameterValues": {"config": json.dumps(config)}},
        "outputs": {"artifacts": artifacts, "outputFile": str(folder / "executor_output.json")},
    }


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of the step `features`: a run folder as far as it goes. Not to be changed."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEWS_PROGRAM", MEWS)
        assert step.main(["features", "--executor_input", json.dumps(executor_input("features", folder, SMALL))]) == 0
    return folder / "features"
