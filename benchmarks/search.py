"""A bounded search for the settings that answer the most rows a second within a limit of latency.

As Model Analyzer does: what is configured now comes first, then a few settings far apart, then the neighbours of the
best; Optuna's TPE sampler chooses what is left. Every trial is kept in a SQLite file, so that an interrupted search, or
one with more trials, goes on where the last one stopped.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.candidates import Figures, Settings
from benchmarks.perf_analyzer import BenchmarkError
from etl.errors import ServerError
from etl.progress import Progress, silent

if TYPE_CHECKING:
    import optuna

    from ensemble.scheduling import Device

Point = Mapping[str, int]
"""Settings as places in the lists of `Space.choices`."""

DELAYS_US = (0, 50, 100, 200, 500, 1000, 2000, 5000)
_SHARE_OF_LIMIT = 0.5
_MOST_INSTANCES = 4
_SEED = 7
_BETTER = 1.02
_REPEATS = 20
_GPU = Path("/dev/nvidiactl")


@dataclass(frozen=True)
class Goal:
    """The most rows a second with p99 of at most `limit_us`, in `trials` measurements.

    The search ends early after `patience` trials in a row that were not 2 % better.
    """

    limit_us: int
    trials: int = 20
    patience: int = 8


@dataclass(frozen=True)
class Space:
    """What may be chosen: lists, in order, with what is configured now among them."""

    choices: Mapping[str, Sequence[Any]]
    now: Settings

    @classmethod
    def around(cls, now: Settings, limit_us: int, largest_batch: int, in_flight: int) -> Space:
        """Return the settings that make sense on this machine, with `in_flight` rows at any time."""
        cores = os.cpu_count() or 1
        longest = limit_us * _SHARE_OF_LIMIT
        delays = {now.max_queue_delay_microseconds, *(delay for delay in DELAYS_US if delay <= longest)}
        sizes = {(), *((2**power,) for power in range(1, 11) if 2**power <= min(largest_batch, in_flight))}
        devices: list[Device] = ["cpu", "gpu"] if _GPU.exists() else []
        choices: dict[str, Sequence[Any]] = {
            "max_queue_delay_microseconds": sorted(delays),
            "preferred_batch_sizes": sorted(sizes | {now.preferred_batch_sizes}),
            "instances": sorted({*range(1, min(_MOST_INSTANCES, cores + 1) + 1), now.instances}),
            "threads": sorted({1, 2, cores, now.threads} - ({2} if cores < 2 else set())),
            "device": [now.device, *(device for device in devices if device != now.device)],
        }
        return cls(choices, now)

    @property
    def baseline(self) -> Point:
        """What is configured now."""
        return {name: list(values).index(getattr(self.now, name)) for name, values in self.choices.items()}

    def settings(self, point: Point) -> Settings:
        """Return the settings at `point`."""
        return Settings(**{name: self.choices[name][place] for name, place in point.items()})

    def coarse(self) -> Iterator[Point]:
        """Yield what is configured now, then each setting at its far end, alone and with more instances."""
        yield self.baseline
        ends = {name: len(values) - 1 for name, values in self.choices.items()}
        for name in ("instances", "max_queue_delay_microseconds", "preferred_batch_sizes", "threads", "device"):
            middle = ends[name] if name in ("instances", "device") else (ends[name] + 1) // 2
            yield {**self.baseline, name: middle}
        both = ("instances", "max_queue_delay_microseconds")
        yield {**self.baseline, **{name: (ends[name] + 1) // 2 for name in both}}

    def neighbours(self, point: Point) -> Iterator[Point]:
        """Yield the points one step away."""
        for (name, values), step in itertools.product(self.choices.items(), (1, -1)):
            if 0 <= point[name] + step < len(values):
                yield {**point, name: point[name] + step}


@dataclass(frozen=True)
class Trial:
    """One measurement: `figures` is None where the server did not start or answer, and `failure` says why."""

    number: int
    point: Point
    settings: Settings
    figures: Figures | None
    failure: str = ""

    def worth(self, limit_us: int) -> float:
        """Return rows a second within the limit; beyond it less than 0, the further the less."""
        if self.figures is None:
            return float("-inf")
        return self.figures.rows_per_s if self.figures.p99_us <= limit_us else -self.figures.p99_us / limit_us

    def to_json(self, limit_us: int) -> dict[str, Any]:
        """Return the number, settings and figures, and whether they keep the limit."""
        figures = asdict(self.figures) if self.figures else {}
        failure = {"failure": self.failure} if self.failure else {}
        kept = self.figures is not None and self.figures.p99_us <= limit_us
        return {"trial": self.number, "settings": self.settings.to_json(), **figures, "within_limit": kept, **failure}


class Search:
    """One search, kept in the SQLite file `storage` under a name made of `task`: what fixes figures, but for chance."""

    def __init__(self, space: Space, goal: Goal, storage: Path, task: Mapping[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.goal = space, goal
        named = json.dumps({"task": task, "limit_us": goal.limit_us, "choices": space.choices}, sort_keys=True)
        self.study = optuna.create_study(
            storage=f"sqlite:///{storage.resolve()}",
            study_name=hashlib.sha256(named.encode()).hexdigest()[:16],
            sampler=optuna.samplers.TPESampler(seed=_SEED),
            direction="maximize",
            load_if_exists=True,
        )
        self._take_up()

    def run(self, measure: Callable[[Settings], Figures], progress: Progress = silent) -> list[Trial]:
        """Measure until there are `goal.trials`, or nothing gets better; returns all trials, also earlier ones."""
        while len(trials := self.trials) < self.goal.trials and not self._settled(trials):
            asked = self._ask(trials)
            if asked is None:
                break
            said = told(self.space.settings(asked.params))
            progress(f"trial {len(trials)}: {said}", len(trials), self.goal.trials, "trials")
            self._measure(asked, measure)
        return self.trials

    @property
    def trials(self) -> list[Trial]:
        """What has been measured, in order."""
        kept = [trial for trial in self.study.get_trials(deepcopy=False) if "kept" in trial.user_attrs]
        return [self._trial(number, trial) for number, trial in enumerate(kept)]

    def _trial(self, number: int, kept: optuna.trial.FrozenTrial) -> Trial:
        found = kept.user_attrs["kept"]
        figures = Figures(**found["figures"]) if found["figures"] else None
        return Trial(number, kept.params, self.space.settings(kept.params), figures, found["failure"])

    @cached_property
    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import IntDistribution

        return {name: IntDistribution(0, len(values) - 1) for name, values in self.space.choices.items()}

    def _take_up(self) -> None:
        """Queue the first points of a new search; of an old one, what was interrupted."""
        from optuna.trial import TrialState

        if not self.study.get_trials(deepcopy=False):
            for point in _unique(self.space.coarse()):
                self.study.enqueue_trial(dict(point))
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self.study.enqueue_trial(trial.params)

    def _settled(self, trials: Sequence[Trial]) -> bool:
        since = len(list(_unique(self.space.coarse())))
        worths = [trial.worth(self.goal.limit_us) for trial in trials]
        best, at = float("-inf"), 0
        for number, worth in enumerate(worths):
            if worth > best * _BETTER if best > 0 else worth > best:
                best, at = worth, number
        return len(trials) - max(at + 1, since) >= self.goal.patience

    def _ask(self, trials: Sequence[Trial]) -> optuna.trial.Trial | None:
        """Return the next point: one that waits, a neighbour of the best, or the sampler's; None if all are known."""
        from optuna.trial import TrialState

        known = {_key(trial.point) for trial in trials}
        if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            best = max(trials, key=lambda trial: trial.worth(self.goal.limit_us))
            for point in self.space.neighbours(best.point):
                if _key(point) not in known:
                    self.study.enqueue_trial(dict(point))
                    break
        for _ in range(_REPEATS):
            asked = self.study.ask(self._distributions)
            if _key(asked.params) not in known:
                return asked
            twin = next(trial for trial in trials if _key(trial.point) == _key(asked.params))
            self._tell(asked.number, twin)
        return None

    def _measure(self, asked: optuna.trial.Trial, measure: Callable[[Settings], Figures]) -> None:
        settings = self.space.settings(asked.params)
        try:
            trial = Trial(asked.number, asked.params, settings, measure(settings))
        except (ServerError, BenchmarkError) as error:
            trial = Trial(asked.number, asked.params, settings, None, str(error))
        asked.set_user_attr("kept", {"figures": trial.figures and asdict(trial.figures), "failure": trial.failure})
        self._tell(asked.number, trial)

    def _tell(self, number: int, trial: Trial) -> None:
        from optuna.trial import TrialState

        if trial.figures is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, trial.worth(self.goal.limit_us))


def told(settings: Settings) -> str:
    """Return settings in a few words."""
    sizes = ",".join(map(str, settings.preferred_batch_sizes)) or "any"
    return (
        f"delay {settings.max_queue_delay_microseconds} us, batch {sizes}, {settings.instances} x {settings.threads} "
        f"threads, {settings.device}"
    )


def _unique(points: Iterator[Point]) -> Iterator[Point]:
    return iter({_key(point): point for point in points}.values())


def _key(point: Point) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(point.items()))
