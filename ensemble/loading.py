"""What a server is about to load: every exported version among it is checked, before and after."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.manifest import load
from ensemble.repository import CONFIG, MANIFEST, current, versions
from ensemble.signing import PublicKey
from ensemble.verification import Verification, check_version, same_config
from etl.errors import ArtifactError

_BESIDE = re.compile(r"(?P<name>.+)_v(?P<version>\d+)")


def check_models(
    repository: Path, models: Sequence[str] | None, trusted: Sequence[PublicKey] | None = None
) -> list[Verification]:
    """Check the versions that serve when Triton loads `models` (None: every folder); ArtifactError for a bad one.

    A model that Mews did not export is let through, unless `trusted` keys demand that all be signed. Loading every
    folder checks every version of every ensemble, since all of their models start.
    """
    folders = sorted(path.name for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    found: dict[Path, Verification] = {}
    for model in folders if models is None else models:
        for folder in _versions_of(repository, model, every=models is None):
            if folder not in found:
                found[folder] = check_version(folder, trusted)
                found[folder].raise_if_failed()
    if trusted is not None:
        _refuse_strangers(repository, folders if models is None else models, found)
    return list(found.values())


def unchanged(checked: Iterable[Verification]) -> None:
    """ArtifactError for files that were touched since they were checked."""
    for version in checked:
        replace(version, problems=tuple(version.changed())).raise_if_failed()


def _versions_of(repository: Path, model: str, every: bool) -> list[Path]:
    """Return the version folders behind a model: of an ensemble the serving one, or of `<name>_v<version>` that."""
    if beside := _beside(repository, model):
        return [beside]
    known = versions(repository, model)
    if not known:
        return []
    # Without a current version the newest says what is wrong with config.pbtxt.
    serving = known if every else [current(repository, model) or known[-1]]
    return [repository / model / str(version) for version in serving]


def _beside(repository: Path, model: str) -> Path | None:
    """Return the version that `<name>_v<version>` runs, if there is one; ArtifactError if it runs something else."""
    match = _BESIDE.fullmatch(model)
    if match is None:
        return None
    folder = repository / match["name"] / match["version"]
    config = repository / model / CONFIG
    if not (folder / MANIFEST).is_file() or not config.is_file():
        return None
    archived = folder.parent / "configs" / f"{folder.name}.pbtxt"
    if not archived.is_file() or not same_config(config.read_bytes(), archived.read_bytes(), model):
        raise ArtifactError(f"{config} is not the configuration of {match['name']} version {match['version']}")
    return folder


def _refuse_strangers(repository: Path, models: Iterable[str], found: Iterable[Path]) -> None:
    known = {folder.parent.name for folder in found} | {name for folder in found for name in load(folder).models}
    strangers = [model for model in models if model not in known and not _beside(repository, model)]
    if strangers:
        raise ArtifactError(
            f"model {', '.join(map(repr, strangers))} in {repository} is of no exported version",
            expected="only signed versions, since serve.trusted_keys names keys",
            hint="Remove it from the repository, or serve without trusted_keys.",
        )
