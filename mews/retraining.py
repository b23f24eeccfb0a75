"""`mews pipeline update` and `release`: a model that begins where the last one ended, and its way to the server.

Each generation has a run folder of its own; a small file, the champion, names the one whose model serves. Both commands
may be killed and given again: what is done is found in the run folder, the registry and the model repository.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.atomic import write_text
from etl.errors import ArtifactError, ConfigError, MewsError
from mews.pipeline import STAGES, Context, run
from mews.run import Run

if TYPE_CHECKING:
    from ensemble.versions.state import State
    from mews.session import Session

DECISION = "release.json"
_PAUSE = 5.0
_WARM = "train.warm_start"


@dataclass(frozen=True)
class Canary:
    """The last step before a version is stable: its share of the requests, and the seconds that it has it."""

    share: float = 0.1
    seconds: float = 600.0


def update(session: Session, champion: Path | None, repository: Path | None) -> dict[str, Any]:
    """Bring the run's features up to date: with the champion's vocabularies, grown by the rows of this run's train.

    Training then starts from the champion's weights. Without a champion everything is fitted anew. `repository` is the
    model repository of all generations; the run folder's becomes a link to it.
    """
    if (told := _decided(session, champion)) is not None:
        return told
    base = read_champion(champion)
    if repository is not None:
        link(session.run, repository)
    if base is None:
        session.terminal.line("there is no champion to begin with: fitting anew")
        return session.bring("transform")["transform"].result | {"base": None}
    session.overrides += [f"{_WARM}={json.dumps(str(base.model.absolute()))}"]
    with session.run.locked(), _growing():
        outcomes = run(session.config, session.run, session.terminal, ("transform",), _fitted_anew(session.run))
    told = outcomes["fit"].result
    session.terminal.line(f"codes of {base.folder.name} kept, {told.get('appended', 0):,} added")
    return outcomes["transform"].result | {"base": str(base.folder), "appended": told.get("appended", 0)}


def train(session: Session) -> dict[str, Any]:
    """Train, unless the run's model was released: other code in the image is no reason to make another of it."""
    return _decided(session) or session.bring("train")["train"].result


def grow(context: Context) -> dict[str, Any]:
    """Do what the stage `fit` does, by adding the rows of train to the statistics of the earlier model's graph."""
    from etl.fit.statistics import Statistics
    from etl.fit.update import update as add
    from etl.graph import FeatureGraph
    from mews.stages.features import part_files

    model, features = context.config.train.warm_start, context.config.features
    if model is None:
        raise ConfigError(_WARM, expected="the model that this one begins with", received="none")
    earlier, started = Run(model.parent), time.monotonic()
    done = add(
        FeatureGraph.load(earlier.graph),
        Statistics.load(earlier.graph.parent / "statistics"),
        [str(path) for path in part_files(context.run, "train")],
        progress=context.progress,
        memory_limit=features.memory_limit,
        on=features.scheduler,
    )
    done.graph.save(context.run.graph)
    done.statistics.save(context.run.graph.parent / "statistics")
    appended = sum(each["appended"] for each in done.changes.describe()["vocabularies"])
    says = f"{appended:,} codes added to those of {earlier.folder.name}, fingerprint {done.graph.fingerprint[:12]}"
    return {
        "fit_seconds": time.monotonic() - started,
        "fingerprint": done.graph.fingerprint,
        "grown_from": str(earlier.folder),
        "appended": appended,
        "says": says,
    }


def release(session: Session, champion: Path, repository: Path | None, url: str | None, canary: Canary) -> Any:
    """Judge the run's model against the registry's champion, give it a share of the requests, and make it stable.

    A model that is worse, or that fails a check on the server, stops: that is an answer, not an error. The first model
    of all has nobody to be compared with. Needs a server at `url` (host:port of HTTP), or starts one to check on.
    """
    if (before := _decided(session, champion)) is not None:
        return before
    if repository is not None:
        link(session.run, repository)
    first = read_champion(champion) is None
    session.overrides += [f"export.stable={json.dumps(first)}"]
    told = _first(session) if first else _compared(session, url, canary)
    if told["decision"] == "promote":
        write_text(champion, _named(session))
    write_text(session.run.folder / DECISION, json.dumps(told, indent=1, default=str) + "\n")
    session.terminal.line(f"{told['decision']}: {told['reason']}")
    return told


def read_champion(file: Path | None) -> Run | None:
    """Return the run folder that the file names; None where there is no file. ArtifactError for one without a model."""
    if file is None or not file.exists():
        return None
    found = Run(Path(file.read_text(encoding="utf-8").strip()))
    if not (found.model.is_dir() and (found.graph.parent / "statistics").is_dir()):
        raise ArtifactError(
            f"champion {file}",
            expected="the run folder of a model, with its graph and statistics",
            received=str(found.folder),
            hint="Write the folder of a finished run into it, or remove it to begin anew.",
        )
    return found


def link(folder: Run, repository: Path) -> None:
    """Let the run folder's model repository be `repository`, which all generations share."""
    place = folder.repository
    repository.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() and place.resolve() == repository.resolve():
        return
    if place.exists() or place.is_symlink():
        raise ConfigError(
            f"model repository {place}",
            expected=f"nothing, or a link to {repository}",
            received="another",
            hint="Choose a new folder with --run.",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(repository.resolve(), target_is_directory=True)


def _decided(session: Session, champion: Path | None = None) -> dict[str, Any] | None:
    """What `release` decided about this run, if it did."""
    file = session.run.folder / DECISION
    if not file.exists():
        if champion is None or not champion.exists() or champion.read_text(encoding="utf-8") != _named(session):
            return None
        # `release` was killed before it wrote why.
        write_text(file, json.dumps({"decision": "promote", "reason": f"{champion} names it"}, indent=1) + "\n")
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    session.terminal.line(f"decided already: {told['decision']}, {told['reason']}")
    return told


def _named(session: Session) -> str:
    """What the champion file says when it names this run."""
    return f"{session.run.folder.absolute()}\n"


def _fitted_anew(folder: Run) -> tuple[str, ...]:
    """The stages to run again: fit, where the run folder has codes that did not grow from the earlier ones."""
    record = folder.stages / "fit.json"
    if not record.exists() or "grown_from" in json.loads(record.read_text(encoding="utf-8"))["result"]:
        return ()
    return ("fit",)


@contextmanager
def _growing() -> Iterator[None]:
    """Let the stage `fit` add to an earlier graph; its record is the usual one, so that later commands skip it."""
    fit = STAGES["fit"]
    STAGES["fit"] = replace(fit, work="mews.retraining:grow")
    try:
        yield
    finally:
        STAGES["fit"] = fit


def _first(session: Session) -> dict[str, Any]:
    from mews import registry

    version = _registered(session)
    registry.promote(session, str(version["version"]), False, None)
    return {"decision": "promote", "reason": "the first model", "registered": version["version"]}


def _registered(session: Session) -> dict[str, Any]:
    from mews import registry

    return registry.register(session, export=True)


def _compared(session: Session, url: str | None, canary: Canary) -> dict[str, Any]:
    from mews import registry

    version = _registered(session)
    number = version["version"]
    before = _alias(session, "champion", number) or _alias(session, "previous", number)
    try:
        registry.promote(session, str(number), False, None)
    except MewsError as error:
        if registry.show(session, str(number))["events"][-1]["event"] != "refused":
            raise
        return {"decision": "stop", "reason": str(error), "registered": number}
    exported = session.bring("export")["export"].result["version"]
    reason = _served(session, exported, url, canary)
    if reason is None:
        judged = (
            "no worse, and sound as a canary" if before is not None else "sound; the registry had none to compare with"
        )
        return {"decision": "promote", "reason": judged, "registered": number}
    if before is not None:
        registry.promote(session, str(before), True, f"version {number} failed as a canary: {reason}")
    return {"decision": "stop", "reason": reason, "registered": number}


def _alias(session: Session, alias: str, other: int) -> int | None:
    """The number of the version with this alias, unless it is `other`."""
    from training.registry.store import Store

    found = Store(session.config.registry, session.run.registry).aliased(alias)
    return found.number if found is not None and found.number != other else None


def addresses(url: str | None) -> list[str | None]:
    """Return host:port of every server behind `url`: a headless service has one for each pod, and each has its models.

    ConfigError when the name is not known.
    """
    if url is None:
        return [None]
    host, _, port = url.rpartition(":")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise ConfigError("--triton-url", expected="host:port of a server", received=f"{url}: {error}") from None
    several = sorted({str(one[4][0]) for one in found if one[0] == socket.AF_INET})
    return [f"{each}:{port}" for each in several] if len(several) > 1 else [url]


def _served(session: Session, version: int, url: str | None, canary: Canary) -> str | None:
    """Make an exported version the canary of every server, and then stable; returns why it was not, if so.

    A server that an earlier try switched is no reason to begin with the canary again; nor is one to be had where no
    version is stable.
    """
    from ensemble.versions import change as versions
    from mews.versions import Server, change, serving

    servers, state, done = [Server(each) for each in addresses(url)], _state(session), []
    before = state.previous if state.stable == version else state.stable
    begun = state.stable in (None, version) or version in (serving(session, server) for server in servers)
    try:
        if not begun:
            for server in servers:
                change(session, server, lambda work: versions.canary(work, version, canary.share))
            if not _waited(session, version, canary.seconds):
                return f"version {version} was taken back as a canary"
        for server in servers:
            change(session, server, lambda work: versions.publish(work, version))
            done.append(server)
    except ArtifactError as error:  # a check that failed; what a server could not do is another error
        if done and before is None:
            raise
        _put_back(session, version, before, done)
        _end_canary(session, version, servers)
        return str(error)
    return None


def _put_back(session: Session, version: int, before: int | None, servers: Sequence[Any]) -> None:
    """Let servers that were switched answer as before; `version` is then none to roll back to."""
    from ensemble.versions import change as versions
    from ensemble.versions.check import Limits
    from ensemble.versions.state import Place
    from mews.versions import change

    for server in servers:
        change(session, server, lambda work: versions.publish(work, before), limits=Limits(requests=0))
    place = Place(session.run.repository.absolute(), session.config.export.name)
    with place.locked():
        stable, labels = place.state.stable, place.state.labels
        if stable is not None and version in labels.previous:
            left = tuple(each for each in labels.previous if each != version)
            place.label(stable, replace(labels, previous=left))


def _waited(session: Session, version: int, seconds: float) -> bool:
    """Wait while the version has its share, or somebody made it stable; False as soon as it is taken back."""
    end = time.monotonic() + seconds
    while True:
        if _state(session).of(version) not in ("canary", "stable"):
            return False
        left = end - time.monotonic()
        if left <= 0:
            return True
        session.terminal.check()
        time.sleep(min(_PAUSE, left))


def _end_canary(session: Session, version: int, servers: Sequence[Any]) -> None:
    from ensemble.versions import change as versions
    from mews.versions import change

    if _state(session).of(version) == "canary":
        for server in servers:
            change(session, server, lambda work: versions.canary(work, version, 0))


def _state(session: Session) -> State:
    from ensemble.versions.state import Place

    return Place(session.run.repository.absolute(), session.config.export.name).state
