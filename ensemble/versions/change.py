"""publish, promote, canary, rollback, delete: each changes a repository and the server on it, or nothing.

Every function returns what it found and did, as JSON values. Given again after a crash, it finishes what it began.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ensemble import repository
from ensemble.labels import Canary
from ensemble.verification import check_version
from ensemble.versions import check, recorded
from ensemble.versions.control import Control
from ensemble.versions.work import Work, abandon, add_beside, known, load_stable, remove, settle, switch, tidy
from etl.errors import ArtifactError, ConfigError, MewsError


def publish(work: Work, version: int | None = None, *, candidate: bool = False) -> dict[str, Any]:
    """Try `version` (the newest if None) beside the stable one, then make it stable; a `candidate` is only kept loaded.

    ArtifactError when it is damaged, answers differently from when it was exported, or is slow; ServerError when the
    server does not take it. Then the version that served before still does.
    """
    with work.place.locked():
        settled = settle(work)
        version = known(work, _newest(work) if version is None else version)
        if work.state.stable == version and (work.control is None or work.serving == version):
            return _told(work, version, "finished" if settled and settled.new == version else "stable already")
        stable = work.state.stable
        if candidate and stable in (None, version):
            raise ConfigError("--candidate", expected="another version that is stable", received=f"version {stable}")
        found = try_beside(work, version)
        if not candidate or stable is None:
            switch(work, version, "publish")
            return _told(work, version, "published", **found)
        work.tell(f"name version {version} the candidate")
        work.place.label(stable, replace(work.state.labels, candidate=version))
        tidy(work)
        return _told(work, version, "candidate", **found)


def promote(work: Work, version: int | None = None) -> dict[str, Any]:
    """Make the canary, or else the candidate, stable; errors as `publish`, ConfigError when there is neither."""
    labels = work.state.labels
    if version is None:
        if labels.switch is not None:  # an earlier promote, interrupted
            version = labels.switch.new
        elif labels.beside:
            version = labels.canary.version if labels.canary else labels.candidate
        else:
            raise ConfigError(
                f"no version of {work.place.name!r} to promote",
                expected="a canary or a candidate",
                hint="`mews versions list` shows them; name one, as in `mews versions promote 3`.",
            )
    return publish(work, version)


def canary(work: Work, version: int, share: float) -> dict[str, Any]:
    """Give `version`, tried beside the stable one first, a share of the requests; a share of 0 ends that.

    Clients read the share from the stable ensemble's parameter `mews.canary`.
    """
    if not 0 <= share <= 1:
        raise ConfigError("--share", expected="a number from 0 to 1", received=f"{share:g}")
    with work.place.locked():
        settle(work)
        state = work.state
        if known(work, version) == state.stable or state.stable is None:
            raise ConfigError(f"version {version}", expected="another than the stable one", received="the stable one")
        found = try_beside(work, version) if share else {}
        state = work.state
        assert state.stable is not None
        labels = replace(state.labels, canary=Canary(version, share) if share else None)
        work.tell(f"write the share {share:g} of version {version}")
        work.place.label(
            state.stable, replace(labels, candidate=None if share and labels.candidate == version else labels.candidate)
        )
        load_stable(work)
        tidy(work)
        return _told(work, version, "canary" if share else "no canary", share=share, **found)


def rollback(work: Work) -> dict[str, Any]:
    """Return to the version that was stable before; ArtifactError when there is none, or it is damaged."""
    with work.place.locked():
        settled = settle(work)
        state = work.state
        if settled is not None and settled.by == "rollback":
            return _told(work, settled.new, "finished")
        version = state.previous
        if version is None:
            raise ArtifactError(
                f"no version of {work.place.name!r} was stable before",
                expected=f"one before {state.stable}",
                hint="Publish the one that you want: `mews versions publish N`.",
            )
        found = try_beside(replace(work, limits=replace(work.limits, requests=0)), version)
        switch(work, version, "rollback")
        return _told(work, version, "rolled back", **found)


def delete(work: Work, version: int) -> dict[str, Any]:
    """Remove a version that has no label; its number is not used again. ConfigError for one that is in use."""
    with work.place.locked():
        settle(work)
        state = work.state.of(known(work, version))
        if state != "stored" or version == work.serving:
            raise ConfigError(
                f"version {version} of {work.place.name!r}",
                expected="one that is not in use",
                received=f"the {state} version",
                hint="Publish another first, or end the canary with --share 0.",
            )
        tidy(work)
        work.tell(f"remove version {version}")
        current = work.state
        left = tuple(each for each in current.labels.previous if each != version)
        if left != current.labels.previous and current.stable is not None:
            work.place.label(current.stable, replace(current.labels, previous=left))
        # The manifest last: until then the version is listed, and can be deleted again.
        remove(work.place, [*work.place.models(version), f"{work.place.name}/{version}"])
        return {"deleted": version, "stable": current.stable}


def try_beside(work: Work, version: int) -> dict[str, Any]:
    """Load `version` beside the stable one and check it there; on failure it is unloaded, and the old one stays."""
    try:
        verified = None
        if work.check or work.trusted is not None:
            work.tell(f"check the files of version {version}")
            verified = check_version(work.place.folder(version), work.trusted)
            verified.raise_if_failed()
        if work.control is None:
            return {}
        work.tell(f"put version {version} beside the stable one")
        add_beside(work, version)
        name = repository.beside(work.place.name, version)
        for model in (*work.place.models(version), name):  # one at a time: what serves needs the other cores
            work.tell(f"load {model}")
            work.control.load(model)
        if verified is not None and (changed := verified.changed()):
            raise ArtifactError(f"version {version} was changed while it was loaded", received="; ".join(changed))
        return _checked(work, work.control, version, name) if work.check else {}
    except MewsError as error:
        abandon(work, error)
        raise


def _checked(work: Work, control: Control, version: int, name: str) -> dict[str, Any]:
    rows = recorded.read(work.place, version)
    work.tell(f"warm up {name}")
    check.warm_up(control, name, rows)
    work.tell("compare its answers with the recorded ones")
    found: dict[str, Any] = {"parity": check.parity(control, name, version, rows, work.limits.parity)}
    if work.limits.requests:
        work.tell("measure its latency")
        serving = work.serving
        stable = None
        if serving is not None and serving in work.state.versions:
            stable = (work.place.name, recorded.read(work.place, serving))
        found |= check.latency(control, name, rows, work.limits, stable)
    return found


def resume(work: Work) -> list[str]:
    """Load what labels keep beside the stable version, after a server's start; returns what could not be loaded."""
    problems = []
    for version in work.state.labels.beside:
        try:
            check_version(work.place.folder(version), work.trusted).raise_if_failed()
            add_beside(work, version)
            if work.control is not None:
                work.control.load(repository.beside(work.place.name, version))
        except MewsError as error:
            problems.append(f"version {version} ({work.state.of(version)}): {error}")
    return problems


def _newest(work: Work) -> int:
    versions = work.state.versions
    if not versions:
        raise ArtifactError(f"no version of {work.place.name!r} in {work.place.repository}", hint="Run `mews export`.")
    return versions[-1]


def _told(work: Work, version: int, did: str, **more: Any) -> dict[str, Any]:
    state = work.state
    canary = state.labels.canary
    return {
        "version": version,
        "did": did,
        "stable": state.stable,
        "previous": state.previous,
        "canary": None if canary is None else {"version": canary.version, "share": canary.share},
        **more,
    }
