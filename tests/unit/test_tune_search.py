"""The search of `mews tune-serving`, on figures that are computed instead of measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.candidates import Figures, Settings
from benchmarks.search import Goal, Search, Space
from etl.errors import ConfigError, ServerError
from mews.tune_serving import limit_us

NOW = Settings(0, (), 1, 1, "auto")
SPACE = Space(
    {
        "max_queue_delay_microseconds": [0, 50, 100, 200, 500, 1000],
        "preferred_batch_sizes": [(), (2,), (4,), (8,)],
        "instances": [1, 2, 3, 4],
        "threads": [1, 2],
        "device": ["auto"],
    },
    NOW,
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all searches; each test has a task of its own."""
    return tmp_path_factory.mktemp("tune") / "tune.sqlite"


@pytest.fixture
def task(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"test": request.node.name}


def figures(settings: Settings) -> Figures:
    """Most rows at 3 instances and 200 us; each instance and each microsecond of delay costs latency."""
    delay = settings.max_queue_delay_microseconds
    rows = 1000.0 - 200 * abs(settings.instances - 3) - abs(delay - 200) / 2 - 50 * (settings.threads - 1)
    p99 = 1000 * settings.instances + delay
    return Figures(rows, p99 // 2, p99, True)


class Measured:
    """Figures of settings; remembers which were asked for, and ends the process' work at `stop`."""

    def __init__(self, of: Callable[[Settings], Figures] = figures, stop: int = 1000) -> None:
        self.of, self.stop = of, stop
        self.asked: list[Settings] = []

    def __call__(self, settings: Settings) -> Figures:
        self.asked.append(settings)
        if len(self.asked) > self.stop:
            raise KeyboardInterrupt
        return self.of(settings)


def best(search: Search) -> Settings:
    return max(search.trials, key=lambda trial: trial.worth(search.goal.limit_us)).settings


def test_what_is_configured_comes_first_and_nothing_twice(storage: Path, task: dict[str, str]) -> None:
    measured = Measured()
    trials = Search(SPACE, Goal(10_000, 20, 20), storage, task).run(measured)
    assert measured.asked[0] == NOW
    assert len(trials) == 20
    assert len(set(measured.asked)) == 20


def test_the_best_within_the_limit_is_found_in_few_trials(storage: Path, task: dict[str, str]) -> None:
    goal = Goal(10_000, 25, 25)
    search = Search(SPACE, goal, storage, task)
    search.run(Measured())
    assert (best(search).instances, best(search).max_queue_delay_microseconds, best(search).threads) == (3, 200, 1)


def test_what_misses_the_limit_is_never_best(storage: Path, task: dict[str, str]) -> None:
    search = Search(SPACE, Goal(2150, 20, 20), storage, task)
    trials = search.run(Measured())
    assert any(trial.figures is not None and trial.figures.p99_us > 2150 for trial in trials)
    assert best(search).instances == 2
    told = [trial.to_json(2150) for trial in trials]
    assert all(each["within_limit"] == (each["p99_us"] <= 2150) for each in told)


def test_an_interrupted_search_goes_on_where_it_stopped(storage: Path, task: dict[str, str]) -> None:
    first, second = Measured(stop=5), Measured()
    with pytest.raises(KeyboardInterrupt):
        Search(SPACE, Goal(10_000, 12), storage, task).run(first)
    trials = Search(SPACE, Goal(10_000, 12), storage, task).run(second)
    assert second.asked[0] == first.asked[-1], "what was interrupted is measured again"
    assert {trial.settings for trial in trials} == {*first.asked, *second.asked}
    assert len(trials) == 12


def test_more_trials_later_add_to_the_earlier_ones(storage: Path, task: dict[str, str]) -> None:
    Search(SPACE, Goal(10_000, 4), storage, task).run(Measured())
    more = Measured()
    assert len(Search(SPACE, Goal(10_000, 7), storage, task).run(more)) == 7
    assert len(more.asked) == 3


def test_another_task_is_another_search(storage: Path, task: dict[str, str]) -> None:
    Search(SPACE, Goal(10_000, 3), storage, task).run(Measured())
    other = Measured()
    Search(SPACE, Goal(10_000, 3), storage, {**task, "limit": "another"}).run(other)
    assert other.asked[0] == NOW


def test_settings_that_do_not_start_are_told_and_passed_over(storage: Path, task: dict[str, str]) -> None:
    def fails(settings: Settings) -> Figures:
        if settings.instances > 1:
            raise ServerError("no memory")
        return figures(settings)

    search = Search(SPACE, Goal(10_000, 10), storage, task)
    trials = search.run(Measured(fails))
    failed = [trial for trial in trials if trial.figures is None]
    assert failed
    assert all(trial.to_json(1)["failure"] == "no memory." for trial in failed)
    assert best(search).instances == 1


def test_it_ends_early_when_nothing_gets_better(storage: Path, task: dict[str, str]) -> None:
    same = Measured(lambda settings: Figures(100.0, 10, 20, True))
    assert len(Search(SPACE, Goal(10_000, 40, 3), storage, task).run(same)) < 12


def test_a_space_of_one_point_ends(storage: Path, task: dict[str, str]) -> None:
    lone = Space({name: values[:1] for name, values in SPACE.choices.items()}, NOW)
    assert len(Search(lone, Goal(10_000, 20), storage, task).run(Measured())) == 1


def test_the_space_holds_what_is_configured_and_keeps_bounds() -> None:
    odd = Settings(333, (4, 6), 9, 7, "auto")
    space = Space.around(odd, 1000, largest_batch=64, in_flight=8)
    assert space.settings(space.baseline) == odd
    assert max(space.choices["max_queue_delay_microseconds"]) <= 500
    assert (16,) not in space.choices["preferred_batch_sizes"]


@pytest.mark.parametrize(("text", "microseconds"), [("5ms", 5000), ("800us", 800), ("0.01s", 10_000), ("2.5 ms", 2500)])
def test_a_latency_has_a_unit(text: str, microseconds: int) -> None:
    assert limit_us(text) == microseconds


@pytest.mark.parametrize("text", ["0", "5", "0ms", "-1ms", "fast", "", "5 minutes", "0.0001us"])
def test_what_is_no_latency_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a time with its unit"):
        limit_us(text)
