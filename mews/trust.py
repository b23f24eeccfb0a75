"""Exported versions checked and signed from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl.errors import ArtifactError, ConfigError
from mews.session import Session


def verify(session: Session, version: str | None, keys: Sequence[Path] | None) -> dict[str, Any]:
    """Check a version, and its signature if there are `keys` (or else serve.trusted_keys); print what is wrong.

    Returns `ok`, `files` (checked), `problems` (sentences), `version` (its folder), `signed_by` (a key's id, or None).
    """
    from ensemble.signing import PublicKey
    from ensemble.verification import check_version

    folder = version_folder(session, version)
    trusted = keys or session.config.serve.trusted_keys
    found: dict[str, Any] = {"ok": False, "files": 0, "problems": [], "version": str(folder), "signed_by": None}
    public = None if trusted is None else [PublicKey.read(path) for path in trusted]
    try:
        checked = check_version(folder, public)
        found |= {"files": checked.files, "problems": list(checked.problems), "signed_by": checked.signed_by or None}
    except ArtifactError as error:
        found["problems"] = [str(error)]
    found["ok"] = not found["problems"]
    for problem in found["problems"]:
        session.terminal.error(problem)
    if found["ok"]:
        signed = f"signed with the key {found['signed_by']}" if found["signed_by"] else "not signed"
        session.terminal.line(f"{folder}: {found['files']} files as they were exported, {signed}")
    return found


def create_keys(session: Session, file: Path) -> dict[str, Any]:
    """Write a new pair of keys and say what each is for."""
    from rich.markup import escape

    from ensemble.signing import KEY_FILE, create

    key = create(file)
    line = session.terminal.line
    line(f"key {key.id}")
    line(f"  sign    {KEY_FILE}={file} mews export --set export.sign=true")
    line(escape(f"  serve   mews serve --set 'serve.trusted_keys=[{file}.pub]'"))
    return {"key": key.id, "private": str(file), "public": f"{file}.pub"}


def sign(session: Session, version: str | None) -> dict[str, Any]:
    """Sign a version that is whole; ArtifactError for one that is not."""
    from dataclasses import replace

    from ensemble import signing
    from ensemble.manifest import document
    from ensemble.repository import writing
    from ensemble.verification import check_version

    key, folder = signing.private_key(), version_folder(session, version)
    with writing(folder.parent.parent):
        checked = check_version(folder)
        own = tuple(problem for problem in checked.problems if not problem.startswith(signing.SIGNATURE))
        replace(checked, problems=own).raise_if_failed()
        public = signing.sign(document(folder), folder, key)
    session.terminal.line(f"{folder}: signed with the key {public.id}")
    return {"version": str(folder), "key": public.id}


def version_folder(session: Session, version: str | None) -> Path:
    """Return the folder of a version: a number of the run's ensemble, the one that serves, or a path.

    A path is that of a version, or of an ensemble: then its stable version is meant.
    """
    from ensemble.repository import current, versions

    repository, name = session.run.repository, session.config.export.name
    if version is not None and not version.isdigit():
        path = Path(version).absolute()
        stable = None if (path / "manifest.json").exists() else current(path.parent, path.name)
        return path if stable is None else path / str(stable)
    known = versions(repository, name)
    number = int(version) if version else current(repository, name)
    if number not in known:
        raise ConfigError(
            f"version {version or 'that serves'} of ensemble {name!r} in {repository}",
            expected=f"one of {', '.join(map(str, known))}" if known else "an exported version",
            hint="Run `mews export` first." if not known else "",
        )
    return (repository / name / str(number)).absolute()
