"""`mews compare`: models and baselines on one split of one run, in one table with intervals.

Every model has a folder in `<run>/compare/`, and is trained by the pipeline's own stage `train` on the run's features;
one of item lists on lists of the same rows, which the stages before make. What has not changed since is neither trained
nor measured again; a model that fails is told and does not stop the rest.

    <name>/data/         of a model of item lists: train, valid and test as lists
    <name>/features/     and their features
    <name>/model/        what training wrote
    <name>/measures/     measures.json, and users.npz: its metrics of every user, for paired tests
    compare.json         all of it, and what the page shows
    compare.html
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from etl.errors import ConfigError, MewsError
from mews import cache, pipeline
from mews.compare.asked import open_lists, open_test_lists, owner_of_lists
from mews.compare.folders import ListRun, ModelRun
from mews.compare.ground import Ground
from mews.compare.measure import MEASURES, Job, measure_baseline, measure_lists, measure_model
from mews.compare.settings import for_lists, suited
from mews.compare.summary import Entry, records, summary, tables
from mews.compare.visits import FOLDER, Visits, group_of, has_visits_only
from mews.config import PipelineConfig
from mews.pipeline import examples_of
from mews.report.compare import PAGE, write
from mews.run import Run
from mews.session import Session
from training.models.catalog import BASELINES, MODELS

LADDER = (
    "mf", "deep_mf", "deep_mf_meta", "triplet", "dlrm", "two_tower", "gru4rec", "transformer", "autoencoder",
)  # fmt: skip
"""The models that are compared if none are named."""
_LISTS = {"next_item", "item_set"}


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
        ground = _lists_of_visits(session) if has_visits_only(config) else _rows(session)
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


def _rows(session: Session) -> Ground:
    """Bring the features of rows up to date; ConfigError in a folder whose own model learns from lists."""
    config = session.config
    if examples_of(config) != "rows":
        raise ConfigError(
            "mews compare",
            expected="a run whose own model learns from rows",
            received=f"model.name {config.model.name}, split.examples {config.split.examples}",
            hint="Take another folder (--run), and --set model.name=dlrm: models of item lists are compared there too.",
        )
    pipeline.run(config, session.run, session.terminal, ("transform",))
    return Ground(session.run, config)


def _lists_of_visits(session: Session) -> Visits:
    """Bring the lists that are asked for up to date, and their features."""
    pipeline.run(session.config, session.run, session.terminal, ("validate",))
    group = group_of(session.config)
    config = for_lists(session.config, "gru4rec", group)
    context = list(dict.fromkeys([*config.split.context, *group]))  # whose a test row is
    config = config.model_copy(update={"split": config.split.model_copy(update={"context": context})})
    folder = ListRun(session.run.folder, FOLDER)
    _list_features(session, config, folder)
    return Visits(folder, session.config)


def _list_features(session: Session, config: PipelineConfig, folder: ListRun) -> dict[str, cache.Record]:
    """Bring a split into lists, and their features, up to date; return the records of the stages."""
    folder.clear_leftovers()
    records = _upstream(session.run, ("validate",))
    for stage in ("split", "fit", "transform"):
        title = f"{folder.name}: {stage}"
        records[stage], _ = pipeline.step(stage, config, folder, session.terminal, records, title=title)
    return records


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
    folder, config = ModelRun(session.run.folder, name), session.config
    try:
        if about.task in _LISTS:
            return _list_model(session, ground, entry)
        if isinstance(ground, Visits):
            return _without(session, entry, "left out", "it scores rows of a user and an item; these have visits only")
        config = config.model_copy(update={"model": suited(config.model, name)})
        trained, _ = pipeline.step("train", config, folder, session.terminal, _upstream(session.run), title=name)
        return _measured(session, entry, folder, ground, {"train": trained.digest}, measure_model)
    except Exception as error:  # whatever it is: the other models are compared all the same
        return _without(session, entry, "failed", _one_line(error))


def _list_model(session: Session, ground: Ground, entry: Entry) -> Entry:
    """Train a model of item lists on examples of the same rows, and ask it for the same cases and items."""
    name, folder, visits = entry.name, ListRun(session.run.folder, entry.name), isinstance(ground, Visits)
    try:
        group = group_of(session.config) if visits else [owner_of_lists(ground)]
        config = for_lists(session.config, name, group)
        records = _list_features(session, config, folder)
    except MewsError as error:
        return _without(session, entry, "left out", f"these rows make no lists: {_one_line(error)}")
    records["train"], _ = pipeline.step("train", config, folder, session.terminal, records, title=name)

    def measure(job: Job) -> None:
        if visits:
            recommender = open_test_lists(ground, folder, job.progress)
        else:
            recommender = open_lists(ground, folder, config.split.history, entry.task == "item_set", job.progress)
        measure_lists(job, recommender, folder.features("test"))

    needs = {f"own {stage}": record.digest for stage, record in records.items()}
    return _measured(session, entry, folder, ground, {**needs, "code": cache.digest_code("etl")}, measure)


def _baseline(session: Session, ground: Ground, name: str) -> Entry:
    entry = Entry(name, "baseline", "ranking", BASELINES[name].says)
    folder = ModelRun(session.run.folder, name)
    try:
        return _measured(session, entry, folder, ground, {}, measure_baseline)
    except Exception as error:
        cannot = isinstance(ground, Visits) and isinstance(error, ConfigError)
        return _without(session, entry, "left out" if cannot else "failed", _one_line(error))


def _upstream(run: Run, stages: Sequence[str] = ("split", "fit", "transform")) -> dict[str, cache.Record]:
    """The records of the finished stages that the models share."""
    found = {name: cache.read(run.stages, name, run.folder) for name in stages}
    return {name: record for name, record in found.items() if record is not None}


def _measured(
    session: Session,
    entry: Entry,
    folder: ModelRun,
    ground: Ground,
    needs: Mapping[str, str],
    measure: Callable[[Job], None],
) -> Entry:
    """Measure `entry`, unless it was with the same settings, code and inputs."""
    key = _key(session, ground, entry.name, needs)
    record = cache.read(folder.stages, "measure", folder.folder)
    if record is None or record.key != key:
        cache.forget(folder.stages, "measure")
        started = time.monotonic()
        with session.terminal.stage(entry.name) as progress:
            measure(Job(entry.name, folder.model, folder.measures, ground, progress))
        session.terminal.check()
        seconds = time.monotonic() - started
        record = cache.write(folder.stages, "measure", key, [folder.measures], folder.folder, {}, seconds)
        session.terminal.line(f"[bold]{entry.name:<10}[/bold] measured  [dim]{seconds:.1f} s[/dim]")
    measures = json.loads((folder.measures / MEASURES).read_text(encoding="utf-8"))
    return replace(entry, measures=measures, folder=folder.measures)


def _key(session: Session, ground: Ground, name: str, needs: Mapping[str, str]) -> str:
    """What the figures of `name` depend on."""
    config = session.config
    needed = dict(needs) | {stage: record.digest for stage, record in _upstream(ground.run).items()}
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
