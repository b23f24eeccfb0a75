"""Generations of a model: what one takes from the last, for real and without training anything."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.errors import ArtifactError, ConfigError
from etl.graph import FeatureGraph
from mews.retraining import DECISION, addresses, link, read_champion
from mews.run import Run
from tests.deploy.conftest import MEWS, SMALL


def update(folder: Path, name: str, *options: str) -> dict[str, Any]:
    (folder / "pipeline.yaml").write_text(json.dumps(SMALL))
    given = [f"--config={folder / 'pipeline.yaml'}", f"--run={folder / name}", f"--champion={folder / 'champion'}"]
    command = [MEWS, "pipeline", "update", *given, f"--repository={folder / 'models'}", *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def vocabularies(run: Run) -> dict[str, list[Any]]:
    """The values of each vocabulary, in the order of their codes."""
    nodes = [node for node in FeatureGraph.load(run.graph).nodes if node.op == "Categorify"]
    tables: dict[str, pl.DataFrame] = {
        f"{node.id}/{key}": one for node in nodes for key, one in (node.state or {}).items()
    }
    return {name: table.select(pl.col("^value.*$")).rows() for name, table in tables.items()}


def test_a_generation_keeps_the_codes_of_the_last_and_adds_its_own(features: Path, tmp_path: Path) -> None:
    shutil.copytree(features, tmp_path / "first")
    first, second = Run(tmp_path / "first"), Run(tmp_path / "second")
    first.model.mkdir()
    (tmp_path / "champion").write_text(f"{first.folder}\n")

    told = update(tmp_path, "second", "--set=seed=11", "--set=data.users=140", "--set=data.items=70")
    assert told["base"] == str(first.folder)
    assert told["appended"] > 0
    assert second.repository.resolve() == tmp_path / "models"
    old, new = vocabularies(first), vocabularies(second)
    assert old.keys() == new.keys()
    assert all(new[name][: len(values)] == values for name, values in old.items())
    assert sum(map(len, new.values())) - sum(map(len, old.values())) == told["appended"]
    # Given again, as after a crash, it adds nothing twice; once decided, it touches nothing.
    assert update(tmp_path, "second", "--set=seed=11", "--set=data.users=140", "--set=data.items=70") == told
    (second.folder / DECISION).write_text(json.dumps({"decision": "stop", "reason": "worse"}))
    assert update(tmp_path, "second", "--set=seed=12") == {"decision": "stop", "reason": "worse"}
    assert vocabularies(second) == new


def test_a_champion_without_a_model_is_refused(tmp_path: Path) -> None:
    assert read_champion(None) is None
    assert read_champion(tmp_path / "champion") is None
    (tmp_path / "champion").write_text(str(tmp_path / "gone"))
    with pytest.raises(ArtifactError, match="gone"):
        read_champion(tmp_path / "champion")


def test_a_repository_that_a_run_has_already_is_not_replaced(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    link(run, tmp_path / "models")
    link(run, tmp_path / "models")
    with pytest.raises(ConfigError, match="repository"):
        link(run, tmp_path / "others")
    own = Run(tmp_path / "own")
    own.repository.mkdir(parents=True)
    with pytest.raises(ConfigError, match="repository"):
        link(own, tmp_path / "models")


def test_every_address_of_a_name_is_a_server() -> None:
    assert addresses(None) == [None]
    assert addresses("127.0.0.1:8000") == ["127.0.0.1:8000"]
    for wrong in ("no-such-host.invalid:8000", "shop"):
        with pytest.raises(ConfigError, match="triton-url"):
            addresses(wrong)
