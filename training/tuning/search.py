"""The search itself: as many trials at a time as there are workers, until the budget is spent or all is known."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError, MewsError
from etl.progress import Progress, silent
from training.tuning.processes import Pool
from training.tuning.space import Params
from training.tuning.study import Study, Trial, better

if TYPE_CHECKING:
    import optuna

Job = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From the values of a trial, by key of pipeline.yaml, to a worker's job without `out`; ConfigError for wrong ones."""


@dataclass(frozen=True)
class Found:
    """What a search knows when it ends: `ended` is trials, seconds or space, whichever stopped it."""

    trials: tuple[Trial, ...]
    best: Trial
    baseline: Trial | None
    importance: Mapping[str, float]
    ended: str
    seconds: float


@dataclass
class _Running:
    """A trial under way."""

    asked: optuna.trial.Trial
    folder: Path
    begun: float = field(default_factory=time.monotonic)
    history: list[dict[str, Any]] = field(default_factory=list)


class Search:
    """A search over `study`, whose trials train in folders below `folder`; `now`, what is configured, comes first."""

    def __init__(
        self,
        study: Study,
        job: Job,
        folder: Path,
        now: Params | None = None,
        progress: Progress = silent,
        workers: Callable[[int, Path], Pool] = Pool,
    ) -> None:
        self.study, self.job, self.folder, self.now, self.progress = study, job, folder, now, progress
        self.workers = workers
        self.config = study.config
        self.running: dict[int, _Running] = {}
        self.ended = ""

    def run(self, seed: int) -> Found:
        """Search, and return what is known then, earlier trials included.

        MewsError when no trial was complete; ConfigError for a metric that the model's task does not have.
        """
        started = time.monotonic()
        self.deadline = started + (self.config.seconds or float("inf"))
        if self.now is not None:
            self.study.first(self.now)
        with self.workers(self.config.jobs, self.folder) as pool:
            while self._fill(pool) or self.running:
                for number, message in pool.messages():
                    self._handle(pool, number, message)
        trials, best = tuple(self.study.trials), self.study.best()
        if best is None:
            raise self._nothing(trials)
        baseline = next((trial for trial in trials if self.now is not None and trial.params == self.now), None)
        return Found(trials, best, baseline, self.study.importance(seed), self.ended, time.monotonic() - started)

    def _fill(self, pool: Pool) -> bool:
        """Begin trials while there are workers and budget; returns whether one was begun."""
        begun = False
        while not self.ended and pool.idle:
            done = len(self.study.trials) + len(self.running)
            if done >= self.config.trials or time.monotonic() >= self.deadline:
                self.ended = "trials" if done >= self.config.trials else "seconds"
            elif (asked := self.study.ask()) is None:
                self.ended = "space"
            else:
                self._begin(pool, asked)
                begun = True
        return begun

    def _begin(self, pool: Pool, asked: optuna.trial.Trial) -> None:
        values = self.study.space.values(asked.params)
        done = len(self.study.trials)
        self.progress(f"search, trial {done + len(self.running)}: {told(values)}", done, self.config.trials, "trials")
        try:
            job = self.job(values)
        except ConfigError as error:
            self.study.finish(asked, "failed", None, 0.0, (), str(error))
            return
        # Named by what is trained: a trial that was interrupted goes on from its checkpoint.
        folder = self.folder / hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        number = pool.give({**job, "out": str(folder / "model")})
        self.running[number] = _Running(asked, folder)

    def _handle(self, pool: Pool, number: int, message: Mapping[str, Any]) -> None:
        trial = self.running[number]
        if "epoch" in message:
            pool.answer(number, self._after_epoch(trial, message["epoch"]))
            return
        del self.running[number]
        if message.get("ended") == "stop":  # stays as it is, for the next search to go on with
            return
        # Of a trial that was taken up, only the end knows the epochs before.
        trial.history = message.get("history", trial.history)
        seconds, value = time.monotonic() - trial.begun, self._best_value(trial)
        if "failed" in message or value is None or not math.isfinite(value):
            failure = message.get("failed", f"{self.config.metric} was {value}")
            self.study.finish(trial.asked, "failed", None, seconds, trial.history, failure)
            return  # its folder stays: the message may name a file in it
        state = "pruned" if message["ended"] == "prune" else "complete"
        self.study.finish(trial.asked, state, value, seconds, trial.history)
        shutil.rmtree(trial.folder, ignore_errors=True)

    def _after_epoch(self, trial: _Running, epoch: dict[str, Any]) -> str:
        trial.history.append(epoch)
        pruned = self.study.report(trial.asked, epoch["epoch"], self._value(epoch))
        what = f"search, epoch {epoch['epoch']} of a trial: {self.config.metric} {self._value(epoch):.4f}"
        self.progress(what, len(self.study.trials), self.config.trials, "trials")
        if time.monotonic() >= self.deadline:
            return "stop"
        return "prune" if pruned else "on"

    def _value(self, epoch: Mapping[str, Any]) -> float:
        known = {"loss": epoch["valid_loss"], **epoch["valid"]}
        if self.config.metric not in known:
            raise ConfigError("tune.metric", expected=f"one of {', '.join(known)}", received=self.config.metric)
        return float(known[self.config.metric])

    def _best_value(self, trial: _Running) -> float | None:
        pick = min if better(self.config.metric) == "minimize" else max
        return pick((self._value(epoch) for epoch in trial.history), default=None)

    def _nothing(self, trials: tuple[Trial, ...]) -> MewsError:
        if self.ended == "seconds":
            return MewsError(
                f"search of {self.config.seconds:g} s",
                expected="a complete trial",
                received="none yet",
                hint="What was begun is kept: the same command goes on with it.",
            )
        reasons = dict.fromkeys(trial.failure for trial in trials if trial.failure)
        return MewsError(
            f"search of {len(trials)} trials", expected="a complete one", received="; ".join(reasons) or "none"
        )


def told(values: Mapping[str, Any]) -> str:
    """Return settings in a few words."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= value if isinstance(value, dict) else {key.rpartition(".")[2]: value}
    return ", ".join(f"{key} {_short(value)}" for key, value in flat.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
