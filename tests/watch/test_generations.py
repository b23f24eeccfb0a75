"""`mews metrics` of a folder with one run folder for each retraining, as the chart and `mews pipeline` lay them out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mews import cache
from mews.cli import app
from mews.config import PipelineConfig, dump
from mews.generations import find
from mews.metrics import collect, render
from mews.retraining import link
from mews.run import Run
from tests.watch.conftest import STAGES


class Work:
    """runs/, models/ and the file champion; each generation begins an hour after the one before."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.runs, self.models, self.champion = folder / "runs", models, folder / "champion"
        self.hours = 0

    def generation(self, name: str, auc: float, stages: int = len(STAGES)) -> Run:
        run = Run(self.runs / name)
        link(run, self.models)
        run.config.write_text(dump(PipelineConfig()))
        self.hours += 1
        for stage, result in list(STAGES.items())[:stages]:
            cache.write(
                run.stages, stage, "key", [], run.folder, result | {"auc": auc} if stage == "evaluate" else result, 1.5
            )
            os.utime(run.stages / f"{stage}.json", (3600 * self.hours, 3600 * self.hours))
        return run

    def decide(self, run: Run, decision: str) -> None:
        (run.folder / "release.json").write_text(json.dumps({"decision": decision}))
        if decision == "promote":
            self.champion.write_text(f"{run.folder.absolute()}\n")

    def told(self) -> str:
        return render(collect(Run(self.runs)))


@pytest.fixture
def work(run: Run, tmp_path: Path) -> Work:
    found = Work(tmp_path, run.repository)
    found.decide(found.generation("first", 0.7), "promote")
    return found


def _roles(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.startswith("mews_generation_info{")]
    pairs = [line.split("{")[1].split("}")[0].split(",") for line in lines]
    return {role.split('"')[1]: name.split('"')[1] for role, name in pairs}


def test_newest_finished_and_served_generation_are_followed(work: Work) -> None:
    assert _roles(work.told()) == dict.fromkeys(("begun", "finished", "served"), "first")
    work.decide(work.generation("second", 0.8), "stop")
    text = work.told()
    assert _roles(text) == {"begun": "second", "finished": "second", "served": "first"}
    assert 'mews_evaluation{metric="auc"} 0.8' in text
    assert 'mews_release_timestamp_seconds{decision="stop"}' in text

    third = work.generation("third", 0.9, stages=3)
    text = work.told()
    assert _roles(text) == {"begun": "third", "finished": "second", "served": "first"}
    assert 'mews_stage_done{stage="split"} 1.0' in text
    assert 'mews_stage_done{stage="train"} 0.0' in text  # of the one under way: its alert needs it
    assert 'mews_evaluation{metric="auc"} 0.8' in text  # of the one that finished

    work.decide(third, "promote")
    assert _roles(work.told())["served"] == "third"
    assert 'mews_version_info{model="mews",version="2",state="stable"' in text


def test_series_do_not_grow_with_the_generations(work: Work) -> None:
    work.decide(work.generation("second", 0.8), "promote")
    before = len(collect(Run(work.runs)))
    for number in range(5):
        work.decide(work.generation(f"later-{number}", 0.8), "promote")
    assert len(collect(Run(work.runs))) == before


def test_the_champion_file_may_come_from_another_machine_or_be_lost(work: Work, tmp_path: Path) -> None:
    work.decide(work.generation("second", 0.8), "promote")
    work.champion.write_text("/work/runs/first\n")
    assert _roles(work.told())["served"] == "first"
    work.champion.write_text("/work/runs/gone\n")
    text = work.told()
    assert _roles(text)["served"] == "second"
    assert 'mews_unreadable{part="generations"} 1.0' in text

    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(f"{work.runs / 'first'}\n")
    assert find(Run(work.runs), elsewhere).served.folder.name == "first"
    work.champion.unlink()
    assert find(Run(work.runs)).served.folder.name == "second"  # promoted last


def test_a_run_folder_is_told_of_alone_and_what_is_no_run_is_passed_over(work: Work) -> None:
    (work.runs / "notes.txt").write_text("")
    (work.runs / "empty").mkdir()
    assert _roles(work.told()) == dict.fromkeys(("begun", "finished", "served"), "first")
    shutil.copytree(work.runs / "first", work.runs / "first" / "compare" / "inner", ignore=lambda *_: ["repository"])
    assert _roles(render(collect(Run(work.runs / "first")))) == {}


def test_the_command_takes_the_name_of_the_ensemble_from_the_serving_generation(work: Work, tmp_path: Path) -> None:
    target = tmp_path / "mews.prom"
    options = ["metrics", "--run", str(work.runs), "--textfile", str(target)]
    assert CliRunner().invoke(app, options).exit_code == 0
    assert 'mews_version_info{model="mews"' in target.read_text()
    config = work.runs / "first" / "config.yaml"
    config.write_text(config.read_text().replace("name: mews", "name: other"))
    assert CliRunner().invoke(app, options).exit_code == 0
    assert "mews_version_info" not in target.read_text()
    assert CliRunner().invoke(app, [*options, "--set", "export.name=mews"]).exit_code == 0
    assert 'mews_version_info{model="mews"' in target.read_text()
