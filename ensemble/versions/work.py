"""The steps that every change of versions is made of. Each can be done again after a crash, whoever crashed.

What is true is in the repository: the ensemble's config.pbtxt names the stable version and the labels, and is replaced
by one rename. A server that starts again serves what it names. All the rest follows from it: `tidy` unloads and
removes what no label asks for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ensemble import repository
from ensemble.labels import Labels, Switch
from ensemble.repository import CONFIG, beside
from ensemble.signing import PublicKey
from ensemble.versions.check import Limits
from ensemble.versions.control import Control
from ensemble.versions.state import Place, State, beside_folders
from etl.atomic import sync
from etl.errors import ArtifactError, MewsError

_NAME = re.compile(r'^name: ".*"$', re.MULTILINE)
_KEPT_HISTORY = 10


def _silent(step: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Work:
    """One change of versions: where, on which server (None: in the files only), within which limits.

    `tell` hears of each step before it is done. Without `check`, versions are taken as they are. With `trusted` keys a
    version must be signed by one of them, checked or not.
    """

    place: Place
    control: Control | None
    tell: Callable[[str], None] = _silent
    limits: Limits = field(default_factory=Limits)
    check: bool = True
    trusted: Sequence[PublicKey] | None = None

    @property
    def state(self) -> State:
        """What the files say now."""
        return self.place.state

    @property
    def serving(self) -> int | None:
        """The version that the server answers with."""
        return self.control.serving(self.place.name) if self.control else None


def known(work: Work, version: int) -> int:
    """Return `version`; ArtifactError when it is not in the repository."""
    versions = work.state.versions
    if version not in versions:
        raise ArtifactError(
            f"version {version} of ensemble {work.place.name!r} is not in {work.place.repository}",
            expected=f"one of {', '.join(map(str, versions)) or 'no versions yet'}",
        )
    return version


def settle(work: Work) -> Switch | None:
    """Finish a switch that was interrupted, and return it; let the files name the version that serves."""
    state = work.state
    if state.labels.switch is not None:
        work.tell(f"finish the interrupted {state.labels.switch.by} of version {state.labels.switch.new}")
        finish(work, state.labels.switch)
        return state.labels.switch
    serving = work.serving
    if serving is not None and serving != state.stable and serving in state.versions:
        work.tell(f"config.pbtxt names version {state.stable}, the server answers with {serving}: that one is stable")
        previous = tuple(each for each in state.labels.previous if each != serving)
        work.place.label(serving, replace(state.labels, previous=previous))
    tidy(work)
    return None


def add_beside(work: Work, version: int) -> None:
    """Put the ensemble of one version beside the stable one, whole or not at all."""
    place, name = work.place, beside(work.place.name, version)
    text = _NAME.sub(f'name: "{name}"', place.config(version), count=1)
    if (place.repository / name / CONFIG).is_file() and (place.repository / name / CONFIG).read_text() == text:
        return
    with repository.writing(place.repository) as staging:
        (staging / name / str(version)).mkdir(parents=True)
        (staging / name / CONFIG).write_text(text, encoding="utf-8")
        for path in (staging / name / CONFIG, staging / name):
            sync(path)
        if (place.repository / name).exists():
            (place.repository / name).rename(staging / "old")
        (staging / name).rename(place.repository / name)
        sync(place.repository)


def switch(work: Work, version: int, by: str) -> None:
    """Make `version` stable: one rename, one load; on failure the old one stays, and the error says why."""
    state = work.state
    old, history = state.stable, state.labels.previous
    if by == "rollback":
        previous = history[: history.index(version)] if version in history else ()
    else:
        before = (*history, *(() if old is None else (old,)))
        previous = tuple(each for each in before if each != version)
    labels = _without(state.labels, version)
    started = Switch(version if old is None else old, version, by, history)
    work.tell(f"name version {version} in config.pbtxt")
    work.place.label(version, replace(labels, previous=previous[-_KEPT_HISTORY:], switch=started))
    finish(work, started)


def finish(work: Work, started: Switch) -> None:
    """Do what is left of a switch whose rename is done."""
    try:
        load_stable(work)
    except MewsError as error:
        work.tell(f"back to version {started.old}")
        labels = _without(work.state.labels, started.old)
        work.place.label(started.old, replace(labels, previous=started.previous, switch=None))
        with contextlib.suppress(MewsError):
            if work.control:
                work.control.load(work.place.name)
            tidy(work)
        _say_what_stays(error, started.old)
        raise
    try:
        tidy(work)
    except MewsError as error:
        error.hint = f"{error.hint} Version {started.new} is stable.".strip()
        raise
    state = work.state
    work.tell(f"version {started.new} is stable")
    work.place.label(started.new, replace(state.labels, switch=None))


def load_stable(work: Work) -> None:
    """Let the server read config.pbtxt again, with its labels; ServerError if it does not take it."""
    if work.control is None:
        return
    work.tell(f"load {work.place.name}")
    work.control.load(work.place.name)


def tidy(work: Work) -> None:
    """Unload what neither the stable version nor a label needs, after it has gone quiet, and remove what was beside."""
    state = work.state
    kept = {state.stable, *state.labels.beside}
    extra = [version for version in beside_folders(work.place) if version not in state.labels.beside]
    if work.control is not None:
        names = _loaded(work, [version for version in state.versions if version not in kept])
        names += [
            beside(work.place.name, version)
            for version in (*extra, *state.versions)
            if version not in state.labels.beside
        ]
        ready = sorted(work.control.ready().intersection(names))
        if ready:
            work.tell(f"unload {', '.join(ready)}")
            work.control.quiet(ready)
            ensembles = [name for name in ready if name.startswith(beside(work.place.name, 0)[:-1])]
            work.control.unload(ensembles)
            work.control.unload(ready)
    for version in extra:
        remove(work.place, [beside(work.place.name, version)])


def _loaded(work: Work, versions: Collection[int]) -> list[str]:
    return [model for version in versions for model in work.place.models(version)]


def remove(place: Place, paths: Collection[str]) -> None:
    """Take folders out of the repository, each by one rename, in this order."""
    with repository.writing(place.repository) as staging:
        for number, path in enumerate(paths):
            if (place.repository / path).exists():
                (place.repository / path).rename(staging / str(number))
        sync(place.repository)


def _without(labels: Labels, version: int) -> Labels:
    """The labels for a time when `version` is stable: it is neither candidate nor canary."""
    return replace(
        labels,
        candidate=None if labels.candidate == version else labels.candidate,
        canary=None if labels.canary and labels.canary.version == version else labels.canary,
    )


def _say_what_stays(error: MewsError, version: int | None) -> None:
    stays = f"Version {version} stays." if version is not None else "Nothing has changed."
    error.hint = f"{error.hint} {stays}".strip()


def abandon(work: Work, error: MewsError) -> None:
    """Undo what was put beside, and add to the error's hint what serves now."""
    with contextlib.suppress(MewsError):
        tidy(replace(work, tell=_silent))
    for folder in _unlabelled(work):
        with contextlib.suppress(MewsError):
            remove(work.place, [folder.name])
    _say_what_stays(error, work.state.stable)


def _unlabelled(work: Work) -> list[Path]:
    kept = work.state.labels.beside
    return [folder for version, folder in beside_folders(work.place).items() if version not in kept]
