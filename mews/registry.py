"""`mews models register`, `promote`, `show`, and `mews versions history`: who changed what, and when."""

from __future__ import annotations

import getpass
import json
import platform
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError, MewsError
from mews.register import DIGEST, HEADLINE, NAME, ROWS, SERVED, entry
from mews.session import Session, columns

if TYPE_CHECKING:
    from training.registry.promotion import Judged, Verdict
    from training.registry.store import Store
    from training.registry.version import Version

_MINUTES = len("2026-01-31T12:00")


def register(session: Session, export: bool) -> dict[str, Any]:
    """Bring the run up to date and keep its model as the next version, the challenger; once only for one model."""
    from mews.card import gather, write_card

    run, store = session.run, _store(session)
    store.check()  # before the run is brought up to date, which may take hours
    outcomes = session.bring("export" if export else "evaluate")
    with run.locked(), session.terminal.stage("register"):
        facts = gather(run, session.config)
        known = [one for one in store.versions() if one.tags.get(DIGEST) == facts["fingerprints"]["model"]]
        if known:
            session.terminal.line(f"{store.config.name} version {known[0].number} is this model already")
            return _told(known[0]) | {"registered": False}
        served = outcomes["export"].result["version"] if export else None
        exported = run.repository / session.config.export.name / str(served) if export else None
        card = write_card(run, facts, exported)
        with tempfile.TemporaryDirectory(prefix="mews-register-") as folder:
            version = store.register(entry(session, facts, served, Path(folder)), _event("registered"))
    session.terminal.line(f"{store.config.name} version {version.number} registered as challenger; {card}")
    return _told(version) | {"registered": True}


def promote(session: Session, which: str | None, force: bool, reason: str | None) -> dict[str, Any]:
    """Make a version (the challenger if None) the champion if it is not worse; MewsError says why it was refused."""
    if force and not (reason or "").strip():
        raise ConfigError("--force", expected="--reason with the reason, which is recorded", received="none")
    store = _existing(session)
    with session.run.locked():
        version, champion = store.version(which or "challenger"), store.aliased("champion")
        if champion is not None and champion.number == version.number:
            session.terminal.line(f"version {version.number} is the champion already")
            return _told(version) | {"promoted": False}
        verdict = _verdict(session, store, version, champion)
        _show_verdict(session, verdict)
        noted = {"reason": reason, "forced": not verdict.allowed, "against": verdict.told}
        if not (verdict.allowed or force):
            store.note(version, _event("refused", **noted))
            raise _refused(version, verdict)
        _crown(store, version, champion, noted)
    replaced = f" instead of version {champion.number}" if champion else ""
    session.terminal.line(f"{store.config.name} version {version.number} is the champion{replaced}")
    answer = _told(store.version(version.number))
    return answer | {"promoted": True, "replaced": champion and champion.number, "verdict": verdict.to_json()}


def show(session: Session, which: str | None) -> Any:
    """Print and return one version with its parameters and metrics, or all versions."""
    store = _existing(session)
    if which is None:
        versions = store.versions()
        rows = [
            [str(one.number), " ".join(one.aliases), one.created[:_MINUTES].replace("T", " "), *_kept(one)]
            for one in versions
        ]
        session.terminal.line(columns(rows, "version", "alias", "registered", "by", "model", "exported as", "metrics"))
        return [_told(one) for one in versions]
    version = store.version(which)
    parameters, metrics = store.run(version)
    facts = {**{f"tag {key}": value for key, value in version.tags.items()}, **parameters}
    facts |= {key: f"{value:.6g}" for key, value in metrics.items()}
    session.terminal.line(columns([[key, value] for key, value in facts.items()], "", f"version {version.number}"))
    return _told(version) | {"parameters": parameters, "metrics": metrics}


def card(session: Session) -> dict[str, Any]:
    """Write the model card of the run, and print it."""
    from rich.text import Text

    from mews.card import gather, write_card

    session.bring("evaluate")
    path = write_card(session.run, gather(session.run, session.config))
    text = path.read_text(encoding="utf-8")
    session.terminal.line(Text(text))
    return {"card": str(path), "text": text}


def history(session: Session) -> list[dict[str, Any]]:
    """Print and return every event, oldest first: those of the registry, and what the model repository tells."""
    from mews.versions import exports

    store = _store(session)
    found = [
        {"at": event["at"], "by": event["by"], "where": "registry", "version": version.number, **_what(event)}
        for version in store.versions()
        for event in version.events
    ]
    found += exports(session)
    if not found:
        raise ConfigError(
            f"history of {session.run.folder}",
            expected="registered or exported versions",
            received="none",
            hint="Run `mews models register` or `mews export` first.",
        )
    found.sort(key=lambda one: str(one["at"]))
    keys = ("at", "by", "where", "version", "event", "detail")
    rows = [[_cell(one, key) for key in keys] for one in found]
    session.terminal.line(columns(rows, "at (UTC)", "by", "where", "version", "what", "detail"))
    return found


def _cell(one: Mapping[str, Any], key: str) -> str:
    return str(one[key])[:_MINUTES].replace("T", " ") if key == "at" else str(one[key])


def _what(event: Mapping[str, Any]) -> dict[str, str]:
    told = [f"reason: {event['reason']}"] if event.get("reason") else []
    if against := event.get("against"):
        told.append(f"in spite of: {against}" if event["event"] == "promoted" else against)
    told += [f"instead of version {event['replaced']}"] if event.get("replaced") else []
    return {"event": event["event"], "detail": "; ".join(told)}


def _store(session: Session) -> Store:
    from training.registry.store import Store

    return Store(session.config.registry, session.run.registry)


def _existing(session: Session) -> Store:
    store = _store(session)
    if not store.exists:
        raise ConfigError(
            f"registry {store.uri}",
            expected="registered models",
            received="none",
            hint="Run `mews models register` first.",
        )
    return store


def _verdict(session: Session, store: Store, version: Version, champion: Version | None) -> Verdict:
    from training.registry.promotion import judge

    config = session.config
    with tempfile.TemporaryDirectory(prefix="mews-promote-") as folder:
        mine = _judged(store, version, Path(folder))
        theirs = None if champion is None else _judged(store, champion, Path(folder))
        return judge(mine, theirs, config.registry, config.evaluate.confidence)


def _judged(store: Store, version: Version, folder: Path) -> Judged:
    """What a version was measured to be; without its files, nothing: it is then refused."""
    import numpy as np

    from training.registry.promotion import Judged

    place = folder / str(version.number)
    place.mkdir()
    metrics = store.file_of(version, "evaluation/metrics.json", place)
    arrays = [store.file_of(version, name, place) for name in ("labels/labels.npy", "evaluation/scores.npy")]
    known = {} if metrics is None else json.loads(metrics.read_text(encoding="utf-8"))
    labels, scores = (None if path is None else np.load(path, allow_pickle=False) for path in arrays)
    flat = None if scores is None else scores.reshape(len(scores), -1)[:, 0]
    return Judged(known, version.tags.get(ROWS, ""), labels, flat)


def _crown(store: Store, version: Version, champion: Version | None, noted: Mapping[str, Any]) -> None:
    store.set_alias("champion", version)
    store.note(version, _event("promoted", **noted, replaced=champion and champion.number))
    if champion is not None:
        store.set_alias("previous", champion)
        store.note(champion, _event("replaced", replaced=None, reason=f"version {version.number} was promoted"))
    if "challenger" in version.aliases:
        store.drop_alias("challenger")


def _event(event: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "at": datetime.now(UTC).isoformat(timespec="seconds"), "by": _who(), **more}


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{platform.node()}"
    except (OSError, KeyError):  # a container's user may have no name
        return f"unnamed@{platform.node()}"


def _refused(version: Version, verdict: Verdict) -> MewsError:
    return MewsError(
        f"promotion of version {version.number} refused",
        received=verdict.told,
        hint="--force with --reason promotes it all the same, and records why.",
    )


def _show_verdict(session: Session, verdict: Verdict) -> None:
    if not verdict.compared:
        session.terminal.line("there is no champion to compare with")
        return
    told = [one for one in verdict.compared if one.worse or not one.slice]
    rows = [
        [
            one.metric,
            one.slice or "all rows",
            f"{one.candidate:.4f}",
            f"{one.champion:.4f}",
            f"{one.low:+.4f} to {one.high:+.4f}",
            one.how,
            "worse" if one.worse else "kept",
        ]
        for one in told
    ]
    session.terminal.line(columns(rows, "metric", "of", "candidate", "champion", "difference", "by", ""))
    if kept := len(verdict.compared) - len(told):
        session.terminal.line(f"no collapse in {kept} other comparisons of slices")


def _told(version: Version) -> dict[str, Any]:
    return version.to_json()


def _kept(version: Version) -> list[str]:
    by = str(version.events[0]["by"]) if version.events else "not recorded"
    return [by, *(version.tags.get(tag, "not recorded") for tag in (NAME, SERVED, HEADLINE))]
