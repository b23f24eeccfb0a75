"""Which settings of an export answer the most rows a second within a limit of latency.

What looks best in the search is measured again beside what is configured, in turn, in one server; that decides.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.candidates import Bench, Figures, Settings, Traffic
from benchmarks.search import Goal, Search, Space, Trial
from ensemble import manifest
from ensemble.config import ExportConfig
from etl.progress import Progress, silent

_FINALISTS = 2
_ROUNDS = 3


@dataclass(frozen=True)
class Result:
    """What was found: `best` is what is configured now where nothing was faster within the limit."""

    trials: Sequence[Trial]
    baseline: Settings
    best: Settings
    seen: Sequence[tuple[Settings, Figures]]
    goal: Goal

    @property
    def met(self) -> bool:
        """Whether the best keeps the limit."""
        return self._figures(self.best).p99_us <= self.goal.limit_us

    @property
    def speedup(self) -> float:
        """Rows a second of the best over those of what is configured, measured in turn."""
        return self._figures(self.best).rows_per_s / self._figures(self.baseline).rows_per_s

    def to_json(self) -> dict[str, Any]:
        """Return {trials, best, baseline, limit_us, met, speedup}; settings have the medians of the last comparison."""
        return {
            "trials": [trial.to_json(self.goal.limit_us) for trial in self.trials],
            "best": self._told(self.best),
            "baseline": self._told(self.baseline),
            "limit_us": self.goal.limit_us,
            "met": self.met,
            "speedup": round(self.speedup, 3),
            "machine": machine.describe(),
        }

    def _figures(self, settings: Settings) -> Figures:
        return next(figures for seen, figures in self.seen if seen == settings)

    def _told(self, settings: Settings) -> dict[str, Any]:
        return {"settings": settings.to_json(), **asdict(self._figures(settings))}


def run(
    version: Path,
    rows: Path,
    config: ExportConfig,
    goal: Goal,
    storage: Path,
    *,
    traffic: Traffic,
    progress: Progress = silent,
) -> Result:
    """Search settings of the version folder `version`, which `config` made, under `traffic`.

    The trials are kept in the SQLite file `storage`. Raises BenchmarkError (nothing to batch, no rows), ServerError or
    BenchmarkError if what is configured now cannot be measured, and ArtifactError for a version that is not whole.
    """
    now = Settings.of(config)
    space = Space.around(now, goal.limit_us, config.max_batch_size, traffic.concurrency * traffic.batch)
    task = {
        "fingerprint": manifest.load(version).fingerprint,
        "export": config.model_dump(mode="json", exclude_defaults=True),
        "traffic": asdict(traffic),
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory(prefix="mews-tune-") as folder:
        bench = Bench.make(version, config, traffic, rows, Path(folder))
        trials = Search(space, goal, storage, task).run(bench.measure, progress)
        seen = _again(bench, _finalists(trials, now, goal), progress)
    return Result(trials, now, _best(seen, goal), seen, goal)


def _finalists(trials: Sequence[Trial], now: Settings, goal: Goal) -> list[Settings]:
    """Return what is configured now and the best others, which must have answered."""
    ranked = sorted(trials, key=lambda trial: trial.worth(goal.limit_us), reverse=True)
    others = [trial.settings for trial in ranked if trial.figures is not None and trial.settings != now]
    return [now, *others[:_FINALISTS]]


def _again(bench: Bench, candidates: Sequence[Settings], progress: Progress) -> list[tuple[Settings, Figures]]:
    progress(f"the best of them and what is configured, {_ROUNDS} times in turn", 0, None, "loads")
    runs = bench.measure_in_turn(candidates, _ROUNDS)
    return [(settings, _median(found)) for settings, found in zip(candidates, runs, strict=True)]


def _median(runs: Sequence[Figures]) -> Figures:
    return Figures(
        statistics.median(run.rows_per_s for run in runs),
        int(statistics.median(run.p50_us for run in runs)),
        int(statistics.median(run.p99_us for run in runs)),
        all(run.stable for run in runs),
    )


def _best(seen: Sequence[tuple[Settings, Figures]], goal: Goal) -> Settings:
    """Return the fastest within the limit, else the one nearest to it; the first of equals is what is configured."""
    kept = [(settings, figures) for settings, figures in seen if figures.p99_us <= goal.limit_us]
    if kept:
        return max(kept, key=lambda each: each[1].rows_per_s)[0]
    return min(seen, key=lambda each: each[1].p99_us)[0]
