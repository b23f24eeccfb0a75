"""`mews compare`: models and baselines on one split of one run, in one table with intervals.

Every model has a folder in `<run>/compare/`, and is trained by the pipeline's own stage `train` on the run's features.
One that has not changed since is neither trained nor measured again; one that fails is told and does not stop the rest.

    <name>/model/        what training wrote
    <name>/measures/     measures.json, and users.npz: its metrics of every user, for paired tests
    compare.json         all of it, and what the page shows
    compare.html
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from etl.errors import ConfigError, MewsError
from mews import cache, pipeline
from mews.compare.ground import Ground
from mews.compare.measure import MEASURES, Job, measure_baseline, measure_model
from mews.compare.settings import suited
from mews.compare.summary import Entry, records, summary, tables
from mews.config import PipelineConfig
from mews.report.compare import PAGE, write
from mews.run import Run
from mews.session import Session
from training.models.catalog import BASELINES, MODELS

LADDER = ("mf", "deep_mf", "deep_mf_meta", "triplet", "dlrm", "two_tower")
"""The models that are compared if none are named."""
_LISTS = {"next_item", "item_set"}


@dataclass(frozen=True)
class ModelRun(Run):
    """The run folder as one of the compared sees it: the same data and features, a place of its own for the rest."""

    name: str = ""

    @property
    def own(self) -> Path:
        """The folder of this model."""
        return self.compare / self.name

    @property
    def config(self) -> Path:
        """The configuration it was trained with."""
        return self.own / "config.yaml"

    @property
    def model(self) -> Path:
        """SavedModel, history and training.json."""
        return self.own / "model"

    @property
    def measures(self) -> Path:
        """measures.json and users.npz."""
        return self.own / "measures"

    @property
    def stages(self) -> Path:
        """Its records of finished work."""
        return self.own / ".stages"


def compare(
    session: Session, models: Sequence[str] | None, baselines: Sequence[str] | None, out: Path | None
) -> list[dict[str, Any]]:
    """Bring the features up to date, train and measure what is named, write compare.json and the page.

    None takes the ladder, and every baseline. Returns one record for each model and metric. ConfigError for an unknown
    name; MewsError when nothing could be measured.
    """
    chosen = [*_named("--models", models, [name for name in LADDER if name in MODELS], MODELS)]
    against = [*_named("--baselines", baselines, list(BASELINES), BASELINES)]
    config, run, terminal = session.config, session.run, session.terminal
    with run.locked():
        pipeline.run(config, run, terminal, ("transform",))
        ground = Ground(run, config)
        found = [_baseline(session, ground, name) for name in against]
        found += [_model(session, ground, name) for name in chosen]
        compared = summary(config, run, found)
        write_text(run.compare / "compare.json", json.dumps(compared, indent=1, allow_nan=False))
        page = write(compared, out or run.compare / PAGE)
    for note in compared["notes"]:
        terminal.warn(note)
    for table in tables(compared):
        terminal.line(table)
    terminal.line(f"page: {page}")
    if not any(entry.status == "measured" for entry in found):
        reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in found)
        raise MewsError("mews compare", expected="at least one model measured", received=reasons or "none named")
    return records(compared)


def _named(option: str, given: Sequence[str] | None, default: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the names without repetition; ConfigError for those that are not `known`."""
    if given is None:
        return list(default)
    names = [name for name in dict.fromkeys(given) if name != "none"]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"Did you mean {near[0]}?" if near else ""
            raise ConfigError(option, expected=f"some of {', '.join(known)}", received=repr(name), hint=hint)
    return names


def _model(session: Session, ground: Ground, name: str) -> Entry:
    about = MODELS[name]
    entry = Entry(name, "model", about.task, about.says)
    if about.task in _LISTS:
        hint = f"`mews evaluate --set model.name={name}` in a run of its own judges it beside the same baselines"
        return _without(session, entry, "left out", f"learns from lists of items, and these features are rows; {hint}")
    folder = ModelRun(session.run.folder, name)
    config = _config_of(session.config, name)
    try:
        trained, _ = pipeline.step("train", config, folder, session.terminal, _upstream(session.run), title=name)
        return _measured(session, entry, folder, ground, {"train": trained.digest})
    except Exception as error:  # whatever it is: the other models are compared all the same
        return _without(session, entry, "failed", _one_line(error))


def _baseline(session: Session, ground: Ground, name: str) -> Entry:
    entry = Entry(name, "baseline", "ranking", BASELINES[name].says)
    folder = ModelRun(session.run.folder, name)
    try:
        return _measured(session, entry, folder, ground, {})
    except Exception as error:
        return _without(session, entry, "failed", _one_line(error))


def _config_of(config: PipelineConfig, name: str) -> PipelineConfig:
    return config.model_copy(update={"model": suited(config.model, name)})


def _upstream(run: Run) -> dict[str, cache.Record]:
    """The records of the finished stages that the models share."""
    found = {name: cache.read(run.stages, name, run.folder) for name in ("split", "fit", "transform")}
    return {name: record for name, record in found.items() if record is not None}


def _measured(session: Session, entry: Entry, folder: ModelRun, ground: Ground, needs: Mapping[str, str]) -> Entry:
    """Measure `entry`, unless it was with the same settings, code and inputs."""
    key = _key(session, entry.name, needs)
    record = cache.read(folder.stages, "measure", folder.folder)
    if record is None or record.key != key:
        cache.forget(folder.stages, "measure")
        started = time.monotonic()
        with session.terminal.stage(entry.name) as progress:
            job = Job(entry.name, folder.model, folder.measures, ground, progress)
            (measure_model if entry.kind == "model" else measure_baseline)(job)
        session.terminal.check()
        seconds = time.monotonic() - started
        record = cache.write(folder.stages, "measure", key, [folder.measures], folder.folder, {}, seconds)
        session.terminal.line(f"[bold]{entry.name:<10}[/bold] measured  [dim]{seconds:.1f} s[/dim]")
    measures = json.loads((folder.measures / MEASURES).read_text(encoding="utf-8"))
    return replace(entry, measures=measures, folder=folder.measures)


def _key(session: Session, name: str, needs: Mapping[str, str]) -> str:
    """What the figures of `name` depend on."""
    config = session.config
    needed = dict(needs) | {stage: record.digest for stage, record in _upstream(session.run).items()}
    settings = config.seed, config.evaluate.model_dump(mode="json")
    code = cache.digest_code("training", "mews/compare")
    return cache.digest_of({"name": name, "settings": settings, "needs": needed, "code": code})


def _without(session: Session, entry: Entry, status: str, reason: str) -> Entry:
    """Say why `entry` has no figures."""
    session.terminal.warn(f"{entry.name} {status}: {reason}")
    return replace(entry, status=status, reason=reason)


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if isinstance(error, MewsError) else f"{type(error).__name__}: {said}"
