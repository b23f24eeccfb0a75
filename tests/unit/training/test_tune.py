"""`mews tune` on tiny features: real studies, real workers, real trainings."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from etl.errors import ArtifactError, ConfigError, MewsError
from tests.unit.training.conftest import SMALL, rows, write_split
from training.config import ModelConfig, TrainConfig
from training.tuning.config import Range, TuneConfig
from training.tuning.search import Found, Search
from training.tuning.space import Space, applied, defaults
from training.tuning.study import Study, Trial

SPACE = Space({"model.learning_rate": Range(low=0.001, high=0.1, log=True), "model.l2": [0.0, 1.0]})
NOW = {"model.learning_rate": 0.01, "model.l2": "1.0"}


def curve(rate: float, l2: float) -> list[dict[str, Any]]:
    """The epochs of a trial whose loss is least at a rate of 0.02 without l2."""
    loss = (1 + abs(rate - 0.02) * 20) * (1 + l2)
    return [{"epoch": n, "valid_loss": loss + 1 / n, "valid": {"auc": 1 / (1 + loss)}} for n in (1, 2, 3)]


def value(trial: Trial) -> float:
    assert trial.value is not None
    return trial.value


class Computed:
    """Workers whose epochs are computed at once; which jobs were given, and what was answered, is remembered."""

    def __init__(self, fails: bool = False, dies_at: int | None = None, seconds: float = 0.0) -> None:
        self.given: list[Mapping[str, Any]] = []
        self.ended: list[str] = []
        self.fails, self.dies_at, self.seconds = fails, dies_at, seconds
        self.waiting: list[tuple[int, Iterator[dict[str, Any]]]] = []
        self.last = "on"

    def __call__(self, jobs: int, folder: Path) -> Computed:
        return self

    def __enter__(self) -> Computed:
        self.waiting = []
        return self

    def __exit__(self, *error: object) -> None: ...

    @property
    def idle(self) -> bool:
        return not self.waiting

    def give(self, job: Mapping[str, Any]) -> int:
        self.given.append(job)
        self.waiting = [(0, self._work(job))]
        return 0

    def answer(self, number: int, text: str) -> None:
        self.last = text

    def messages(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number, work = self.waiting[0]
        message = next(work)
        if "epoch" not in message:
            self.waiting = []
        yield number, message

    def _work(self, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if len(self.given) == self.dies_at:
            raise KeyboardInterrupt
        if self.fails:
            yield {"failed": "the loss is NaN"}
            return
        history = curve(job["rate"], job["l2"])
        for epoch in history:
            time.sleep(self.seconds)
            yield {"epoch": epoch}
            if self.last != "on":
                self.ended.append(self.last)
                yield {"ended": self.last}
                return
        yield {"ended": "done", "history": history}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all searches."""
    return tmp_path_factory.mktemp("studies") / "study.sqlite"


class Searches:
    """Searches of one test: its study, and the folder its trials train in."""

    def __init__(self, storage: Path, name: str, folder: Path) -> None:
        self.storage, self.name, self.folder = storage, name, folder

    def __call__(self, pool: Computed | None = None, now: Mapping[str, Any] | None = NOW, **config: Any) -> Found:
        study = Study(self.storage, self.name, SPACE, TuneConfig(**config), 3, 7)
        return Search(study, self.job, self.folder, now, workers=pool or Computed()).run(7)  # type: ignore[arg-type]

    @staticmethod
    def job(values: Mapping[str, Any]) -> dict[str, Any]:
        return {"rate": values["model.learning_rate"], "l2": values["model.l2"]}


@pytest.fixture
def run(storage: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Searches:
    return Searches(storage, request.node.name, tmp_path / "trials")


def test_what_is_configured_is_the_first_trial_and_the_best_is_no_worse(run: Searches) -> None:
    pool = Computed()
    found = run(pool, trials=8, pruner="none")
    assert pool.given[0]["rate"] == 0.01
    assert found.baseline is not None
    assert found.baseline.number == 0
    assert value(found.best) < value(found.baseline)
    assert found.best.values["model.l2"] == 0.0
    assert sum(found.importance.values()) == pytest.approx(1, abs=1e-6)
    assert (len(found.trials), found.ended) == (8, "trials")
    assert list(run.folder.iterdir()) == [], "what was trained for the search is removed"


def test_the_same_search_gives_the_same_trials(run: Searches) -> None:
    first = run(trials=4, sampler="random", pruner="none")
    run.name += " again"
    assert [trial.params for trial in run(trials=4, sampler="random", pruner="none").trials] == [
        trial.params for trial in first.trials
    ]


def test_trials_worse_than_the_median_end_early(run: Searches) -> None:
    pool = Computed()
    found = run(pool, trials=8, sampler="random", startup_trials=2, warmup_epochs=0)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    assert pool.ended == ["prune"] * len(pruned)
    assert all(len(trial.history) < 3 for trial in pruned)
    assert found.best.state == "complete"


def test_hyperband_ends_trials_early(run: Searches) -> None:
    found = run(trials=8, sampler="random", pruner="hyperband")
    assert {trial.state for trial in found.trials} == {"pruned", "complete"}


def test_a_grid_tries_every_point_once_and_ends(run: Searches) -> None:
    pool = Computed()
    found = run(pool, trials=50, sampler="grid", pruner="none", now=None)
    tried = sorted((round(job["rate"], 6), job["l2"]) for job in pool.given)
    assert tried == [(rate, l2) for rate in (0.001, 0.01, 0.1) for l2 in (0.0, 1.0)]
    assert found.ended == "space"


def test_an_interrupted_search_goes_on_with_the_same_point(run: Searches) -> None:
    first, second = Computed(dies_at=4), Computed()
    with pytest.raises(KeyboardInterrupt):
        run(first, trials=6)
    found = run(second, trials=6)
    assert second.given[0] == first.given[-1], "the same settings in the same folder, where a checkpoint may lie"
    assert (len(found.trials), len(second.given)) == (6, 3)


def test_a_metric_that_grows_is_maximised_and_an_unknown_one_named(run: Searches) -> None:
    found = run(trials=4, metric="auc", pruner="none")
    assert value(found.best) == max(map(value, found.trials))
    run.name += " of another metric"
    with pytest.raises(ConfigError, match="expected one of loss, auc; received recall"):
        run(metric="recall")


def test_trials_that_all_fail_are_told_with_their_reason(run: Searches) -> None:
    with pytest.raises(MewsError, match="search of 3 trials; expected a complete one; received the loss is NaN"):
        run(Computed(fails=True), trials=3)


def test_a_trial_that_time_stopped_goes_on_in_the_next_search(run: Searches) -> None:
    slow, second = Computed(seconds=0.3), Computed()
    with pytest.raises(MewsError, match="What was begun is kept"):
        run(slow, seconds=0.2)
    assert slow.ended == ["stop"]
    assert run(second, trials=1).trials[0].params == NOW
    assert second.given[0] == slow.given[0]


@pytest.mark.parametrize("content", ["broken", "of another"])
def test_a_study_that_is_none_is_refused_and_left_as_it_is(run: Searches, tmp_path: Path, content: str) -> None:
    run.storage = tmp_path / "study.sqlite"
    if content == "broken":
        run.storage.write_bytes(b"no database" * 100)
    else:
        with closing(sqlite3.connect(run.storage)) as connection:
            connection.execute("create table customers (name text)")
    before = run.storage.read_bytes()
    with pytest.raises(ArtifactError, match="expected a whole SQLite file with a table 'studies'"):
        run(trials=1)
    assert run.storage.read_bytes() == before


@pytest.mark.parametrize(
    "space",
    [{"data.rows": [1, 2]}, {"model.name": ["mf"]}, {"model.l2": []}, {"model.l2": {"low": 2, "high": 1}}],
)
def test_a_space_that_is_none_is_refused(space: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TuneConfig(space=space)


@pytest.mark.parametrize("name", ["dlrm", "dcn_v2", "mf"])
def test_the_default_space_holds_the_default_configuration_and_sizes_that_fit(name: str) -> None:
    space = Space(defaults(name))
    tree = {"model": ModelConfig(name=name).model_dump(mode="json")}
    assert space.place(tree) is not None
    for point in space.grid():
        made = ModelConfig.model_validate(applied(tree, space.values(point))["model"])
        assert name != "dlrm" or made.bottom[-1] == made.embedding_dim


SCRIPT = """
import json, sys
from pathlib import Path
from tests.unit.training.test_tune import real
real(Path(sys.argv[1]), Path(sys.argv[2]))
"""


EPOCHS = 10


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Features of so few rows that an epoch is not much more than its checkpoint."""
    for seed, (name, count) in enumerate({"train": 400, "valid": 200}.items()):
        write_split(tmp_path / "features" / name, rows(count, seed))
    return tmp_path / "features"


def real(features: Path, folder: Path, trials: int = 2) -> Found:
    """A search of real trainings, one at a time."""
    space = Space({"model.learning_rate": [0.02, 0.05]})
    config = TuneConfig(sampler="grid", trials=trials, pruner="none")
    study = Study(folder / "study.sqlite", "real", space, config, EPOCHS, 7)

    def job(values: Mapping[str, Any]) -> dict[str, Any]:
        settings = {**SMALL, "learning_rate": values["model.learning_rate"]}
        model = ModelConfig(name="mf", epochs=EPOCHS, patience=EPOCHS, **settings)  # type: ignore[arg-type]
        train = TrainConfig().model_dump(mode="json")
        return {"features": str(features), "seed": 3, "model": model.model_dump(mode="json"), "train": train}

    return Search(study, job, folder / "trials", None).run(7)


def heard(study: Path) -> Sequence[int]:
    """How many epochs were reported for each trial so far, read from outside."""
    try:
        with closing(sqlite3.connect(f"file:{study}?mode=ro", uri=True)) as connection:
            found = connection.execute("select count(*) from trial_intermediate_values group by trial_id").fetchall()
    except sqlite3.OperationalError:
        return []
    return [row[0] for row in found]


def test_a_search_that_was_killed_goes_on_from_the_trial_s_checkpoint(few: Path, tmp_path: Path) -> None:
    """kill -9 in the midst of a trial: its worker dies too, and the next search has the whole history of the trial."""
    command = [sys.executable, "-c", SCRIPT, str(few), str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as first:
        deadline = time.monotonic() + 120
        while sum(heard(tmp_path / "study.sqlite")) < 3 and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGKILL)
    before = sum(heard(tmp_path / "study.sqlite"))
    assert 3 <= before < EPOCHS
    found = real(few, tmp_path, trials=1)
    assert [epoch["epoch"] for epoch in found.trials[0].history] == list(range(1, EPOCHS + 1))
    assert heard(tmp_path / "study.sqlite")[-1] <= EPOCHS - before + 1, "epochs before the kill were trained again"
