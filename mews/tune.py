"""`mews tune`: search the model's settings on the run's features, show them, write the best as a pipeline.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.atomic import write_text
from mews import cache
from mews.session import Session, columns

if TYPE_CHECKING:
    from mews.config import PipelineConfig
    from training.tuning.search import Found, Search

STUDY, BEST, PAGE, TOLD = "study.sqlite", "pipeline.yaml", "tune.html", "tune.json"
_FEW = 4


def tune(session: Session) -> dict[str, Any]:
    """Search, and write <run>/tune: pipeline.yaml with the best settings, tune.json and its page tune.html.

    A second call goes on where the first stopped.
    """
    from mews.report.tuning import page

    session.bring("transform")
    run, config = session.run, session.config
    with run.locked(), session.terminal.stage("tune") as progress:
        found = _search(session, progress).run(config.seed)
        answer = _told(config, found)
        write_text(run.tune / BEST, _best_file(config, found))
        write_text(run.tune / TOLD, json.dumps(answer, indent=1))
        write_text(run.tune / PAGE, page(answer))
    _show(session, answer)
    return answer | {name: str(run.tune / file) for name, file in (("config", BEST), ("report", PAGE))}


def with_settings(config: PipelineConfig, values: Mapping[str, Any]) -> PipelineConfig:
    """Return the configuration with keys such as model.learning_rate set; ConfigError for values that it refuses."""
    from mews.config import checked
    from training.tuning.space import applied

    return checked(applied(config.model_dump(mode="json"), values), "tune.space")


def _search(session: Session, progress: Any) -> Search:
    from training.tuning.search import Search
    from training.tuning.space import Space, defaults
    from training.tuning.study import Study

    run, config = session.run, session.config
    space = Space(config.tune.space or defaults(config.model.name))
    _check(config, space.choices)
    features = str(run.features("train").parent.absolute())

    def job(values: Mapping[str, Any]) -> dict[str, Any]:
        settings = with_settings(config, values)
        parts = {part: getattr(settings, part).model_dump(mode="json") for part in ("model", "train")}
        return {"features": features, "seed": config.seed, **parts}

    study = Study(run.tune / STUDY, _name(session, space.choices), space, config.tune, config.model.epochs, config.seed)
    now = space.place(config.model_dump(mode="json"))
    if now is None:
        session.terminal.line("[dim]what is configured now lies outside of the space, so it is no trial[/dim]")
    return Search(study, job, run.tune / "trials", now, progress)


def _check(config: PipelineConfig, choices: Mapping[str, Any]) -> None:
    """ConfigError for a value in the space that pipeline.yaml would not take, before anything is trained."""
    for key, values in choices.items():
        for value in values if isinstance(values, list) else (values.low, values.high):
            with_settings(config, {key: value})


def _name(session: Session, choices: Mapping[str, Any]) -> str:
    """The search: what fixes its figures, without its budget. Equal names go on with each other's trials."""
    run, config = session.run, session.config
    record = cache.read(run.stages, "transform", run.folder)
    plain = {key: values if isinstance(values, list) else values.model_dump() for key, values in choices.items()}
    fixed = {
        "features": record.digest if record else "",
        "model": config.model.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "seed": config.seed,
        "metric": config.tune.metric,
        "space": plain,
    }
    return f"{config.model.name}-{cache.digest_of(fixed)[:16]}"


def _told(config: PipelineConfig, found: Found) -> dict[str, Any]:
    """Plain values: the trials, the best, what is configured now, and what mattered."""
    from training.tuning.study import better

    return {
        "model": config.model.name,
        "metric": config.tune.metric,
        "direction": better(config.tune.metric),
        "sampler": config.tune.sampler,
        "pruner": config.tune.pruner,
        "trials": [trial.to_json() for trial in found.trials],
        "best": found.best.to_json(),
        "baseline": found.baseline.to_json() if found.baseline else None,
        "importance": dict(found.importance),
        "ended": found.ended,
        "seconds": round(found.seconds, 1),
    }


def _best_file(config: PipelineConfig, found: Found) -> str:
    from mews.config import dump

    best, trials = found.best.value, len(found.trials)
    said = f"# {config.tune.metric} {best:.5f} on the validation rows, the best of {trials} trials"
    if found.baseline is not None and found.baseline.value is not None:
        said += f"; {found.baseline.value:.5f} with what was configured before"
    return f"{said}.\n" + dump(with_settings(config, found.best.values))


def _show(session: Session, answer: Mapping[str, Any]) -> None:
    from training.tuning.search import told

    def row(title: str, trial: Mapping[str, Any]) -> list[str]:
        value = "-" if trial["value"] is None else f"{trial['value']:.5f}"
        return [title, trial["state"], value, f"{trial['seconds']:.1f}", told(trial["settings"])]

    rows = [row(str(trial["trial"]), trial) for trial in answer["trials"]]
    rows += [row(title, answer[title]) for title in ("baseline", "best") if answer[title]]
    line = session.terminal.line
    line(columns(rows, "trial", "state", answer["metric"], "seconds", "settings"))
    if answer["importance"]:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in list(answer["importance"].items())[:_FEW])
        line(f"what mattered: {shares}")
    line(f"ended by {answer['ended']}; {_advice(session.run.tune / BEST)}")


def _advice(path: Path) -> str:
    return f"`mews train --config {path}` trains with the best; {path.parent / PAGE} shows them all"
