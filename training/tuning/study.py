"""A search's trials in a SQLite file: asked for, reported, told, and taken up again after an interruption.

Only one process writes: the one that searches. What its workers measure comes to it (training/tuning/processes.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ArtifactError
from training import sqlite_file
from training.tuning.config import TuneConfig
from training.tuning.space import Params, Space

if TYPE_CHECKING:
    import optuna

_KEPT = "kept"
_REPEATS = 20


@dataclass(frozen=True)
class Trial:
    """One set of settings and what came of it.

    `state` is complete, pruned or failed; `value` the best epoch's metric, None where there was none; `history` one
    entry an epoch, as training writes it, {} for an epoch of which nothing was heard.
    """

    number: int
    params: Params
    values: Mapping[str, Any]
    state: str
    value: float | None
    seconds: float
    history: Sequence[Mapping[str, Any]]
    failure: str

    def to_json(self) -> dict[str, Any]:
        """Return the trial as plain values, the settings as pipeline.yaml has them."""
        told = {"trial": self.number, "settings": dict(self.values), "history": _finite(list(self.history))}
        found = {**self.__dict__, **told}
        return {key: value for key, value in found.items() if key not in ("number", "params", "values")}


def better(metric: str) -> str:
    """Return how Optuna calls the direction in which the metric gets better."""
    return "minimize" if metric == "loss" else "maximize"


class Study:
    """The trials of one search, called `name`, in the SQLite file `storage`; several searches share a file.

    ArtifactError when the file is broken, or is not Optuna's; it is left as it is.
    """

    def __init__(self, storage: Path, name: str, space: Space, config: TuneConfig, epochs: int, seed: int) -> None:
        import optuna
        import sqlalchemy.exc

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sqlite_file.check(storage, "study", "studies")
        self.space, self.config = space, config
        storage.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.study = optuna.create_study(
                storage=f"sqlite:///{storage.resolve()}",
                study_name=name,
                direction=better(config.metric),
                pruner=_pruner(config, epochs),
                load_if_exists=True,
            )
            # The seed moves on with the trials: one that is taken up again does not draw the first points once more.
            self.study.sampler = _sampler(config, seed + len(self.study.get_trials(deepcopy=False)))
            self._take_up()
        except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"study {storage}", expected="trials that Optuna can read", received=str(error).split("\n")[0]
            ) from error

    @property
    def trials(self) -> list[Trial]:
        """The trials that ended, in order; not those that were interrupted."""
        kept = [one for one in self.study.get_trials(deepcopy=False) if _KEPT in one.user_attrs]
        return [self._trial(number, one) for number, one in enumerate(kept)]

    def best(self) -> Trial | None:
        """Return the complete trial with the best value, the first of equals; None if there is none."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        sign = 1 if better(self.config.metric) == "minimize" else -1
        return min(complete, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def first(self, params: Params) -> None:
        """Let `params` be tried first, unless they are known."""
        if _key(params) not in self._known():
            self.study.enqueue_trial(dict(params))

    def ask(self) -> optuna.trial.Trial | None:
        """Return the next trial; None when every point of the space is known."""
        from optuna.trial import TrialState

        if self.config.sampler == "grid" and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            known = self._known()
            point = next((point for point in self.space.grid() if _key(point) not in known), None)
            if point is None:
                return None
            self.study.enqueue_trial(dict(point))
        for _ in range(_REPEATS):
            known = self._known()
            asked = self.study.ask(self.space.distributions)
            if _key(asked.params) not in known:
                return asked
            self.study.tell(asked.number, state=TrialState.FAIL)
        return None

    def report(self, asked: optuna.trial.Trial, epoch: int, value: float) -> bool:
        """Keep the metric after an epoch, and return whether the trial is to end now."""
        asked.report(value if math.isfinite(value) else _worst(self.config.metric), epoch)
        return bool(asked.should_prune())

    def finish(
        self,
        asked: optuna.trial.Trial,
        state: str,
        value: float | None,
        seconds: float,
        history: Sequence[Mapping[str, Any]],
        failure: str = "",
    ) -> None:
        """Keep what came of a trial."""
        from optuna.trial import TrialState

        kept = {"value": value, "seconds": seconds, "history": list(history), "failure": failure, "state": state}
        asked.set_user_attr(_KEPT, kept)
        if state == "complete":
            self.study.tell(asked.number, value)
        else:
            self.study.tell(asked.number, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)

    def importance(self, seed: int) -> dict[str, float]:
        """Return how much of the metric's variance over the complete trials each key explains (fANOVA), largest first.

        Empty with fewer than four complete trials, or with values that are all the same.
        """
        import optuna

        complete = [trial for trial in self.trials if trial.state == "complete"]
        varied = {key for key in self.space.choices if len({repr(trial.params[key]) for trial in complete}) > 1}
        if len(complete) < 4 or not varied or len({trial.value for trial in complete}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        found = optuna.importance.get_param_importances(self.study, evaluator=evaluator, params=sorted(varied))
        return {key: float(value) for key, value in found.items()}

    def _known(self) -> set[tuple[tuple[str, Any], ...]]:
        """The points that ended or are under way."""
        from optuna.trial import TrialState

        return {
            _key(one.params)
            for one in self.study.get_trials(deepcopy=False)
            if _KEPT in one.user_attrs or one.state == TrialState.RUNNING
        }

    def _take_up(self) -> None:
        """Queue again what was under way when an earlier search ended."""
        from optuna.trial import TrialState

        for one in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(one.number, state=TrialState.FAIL)
            if one.params and _KEPT not in one.user_attrs:
                self.study.enqueue_trial(one.params)

    def _trial(self, number: int, one: optuna.trial.FrozenTrial) -> Trial:
        kept = one.user_attrs[_KEPT]
        return Trial(
            number,
            one.params,
            self.space.values(one.params),
            kept["state"],
            kept["value"],
            kept["seconds"],
            tuple(kept["history"]),
            kept["failure"],
        )


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for by null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sampler(config: TuneConfig, seed: int) -> Any:
    import optuna

    if config.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=config.jobs > 1)
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(config: TuneConfig, epochs: int) -> Any:
    import optuna

    if config.pruner == "median":
        return optuna.pruners.MedianPruner(config.startup_trials, config.warmup_epochs)
    if config.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max(epochs, 2), reduction_factor=3)
    return optuna.pruners.NopPruner()


def _worst(metric: str) -> float:
    return 1e30 if better(metric) == "minimize" else -1e30


def _key(point: Params) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(point.items()))
