"""Whether a version is what was exported: the one check that `mews verify`, the server's start and a publish share.

Nothing in a repository is trusted. Every file of a version is opened below the repository without following links,
hashed once, and its identity on the disk is kept: `Verification.changed` tells later, without reading again, whether
anything was touched meanwhile, such as between the check and the moment when Triton had loaded it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ensemble import signing
from ensemble.hashing import FileRecord, hash_descriptor, threads
from ensemble.manifest import Manifest, document, parse
from ensemble.repository import CONFIG, MANIFEST
from ensemble.signing import SIGNATURE, PublicKey
from etl.errors import ArtifactError
from etl.names import FINGERPRINT

_LABEL = "mews."
_LONGEST_CONFIG = 16 * 2**20
"""Bytes of a config.pbtxt."""
_SECOND_NAME = "has a second name (hard link), through which it can be changed"
_State = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Verification:
    """What was found in a version: `files` checked, every problem as one sentence, and the key that signed it."""

    folder: Path
    files: int
    problems: tuple[str, ...] = ()
    signed_by: str = ""
    states: Mapping[Path, _State] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """True when nothing is missing, changed, extra or wrongly signed."""
        return not self.problems

    def raise_if_failed(self) -> None:
        """ArtifactError with every problem."""
        if self.problems:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            hint = "Export it again, or take it from where it was exported."
            raise ArtifactError(f"version {self.folder} is not what was exported:{listed}\n", hint=hint)

    def changed(self) -> list[str]:
        """Return the files that were replaced or written since they were checked, also if they look the same."""
        return [f"{path}: changed after it was checked" for path, state in self.states.items() if _now(path) != state]


def check_version(folder: Path, trusted: Sequence[PublicKey] | None = None) -> Verification:
    """Check the version <repository>/<name>/<version> with its composing models; with `trusted` keys its signature too.

    Problems are: a file that is missing, changed, extra, a link, a device, or has a second name (hard link); a path
    that leaves the version's own folders, in the manifest or in an ONNX file; a part with another fingerprint or
    another name; a signature that is wrong, or of no trusted key. ArtifactError only when the manifest itself cannot be
    read.
    """
    folder = folder.absolute()
    values = document(folder)
    manifest = parse(folder, values)
    root = folder.parent.parent
    problems: list[str] = []
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        problems.append(f"the manifest is of {manifest.name} version {manifest.version}")
    signed_by, unsigned = signing.check(values, folder, trusted)
    own = f"{manifest.name}/{manifest.version}"
    states, damaged = _check_files(root, manifest, own)
    problems += [*unsigned, *damaged, *_check_extra(root, manifest, own)]
    intact = [path for path in manifest.files if root / path in states]
    problems += _check_contents(root, manifest, intact)
    problems += _check_serving(root, manifest)
    return Verification(folder, len(manifest.files), tuple(problems), signed_by, states)


def _check_files(root: Path, manifest: Manifest, own: str) -> tuple[dict[Path, _State], list[str]]:
    """Hash what the manifest names; returns the state of each right file, and the problems of the others."""
    archived = f"{manifest.name}/configs/{manifest.version}.pbtxt"
    problems, paths = [], []
    for path in manifest.files:
        if _leaves(path):
            problems.append(f"{path}: leaves the repository")
        elif path != archived and not path.startswith((f"{own}/", *(f"{model}/" for model in manifest.models))):
            problems.append(f"{path}: is in no folder of this version")
        else:
            paths.append(path)
    states: dict[Path, _State] = {}
    with ThreadPoolExecutor(threads()) as pool:
        checked = pool.map(lambda path: _check(root, path, manifest.files[path]), paths)
        for path, found in zip(paths, checked, strict=True):
            if isinstance(found, str):
                problems.append(f"{path}: {found}")
            else:
                states[root / path] = found
    for path in (f"{own}/{MANIFEST}", f"{own}/{SIGNATURE}", f"{manifest.name}/{CONFIG}"):
        if os.path.lexists(root / path):
            found = _identify(root, path)
            if isinstance(found, str):
                problems.append(f"{path}: {found}")
            else:
                states[root / path] = found
    return states, problems


def _identify(root: Path, path: str) -> str | _State:
    """Return the state of a file that no manifest can name, else what is wrong with it."""
    if link := _link_in(root, path):
        return f"{link} is a symbolic link"
    found = (root / path).lstat()
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    return _SECOND_NAME if found.st_nlink > 1 else _state(found)


def _leaves(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in path or "\0" in path


def _check(root: Path, path: str, expected: FileRecord) -> str | _State:
    """Return the state of a file that is what the manifest says, else what is wrong with it."""
    try:
        descriptor = _open(root, path)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        link = _link_in(root, path)
        return f"{link} is a symbolic link" if link else error.strerror or str(error)
    if isinstance(descriptor, str):
        return descriptor
    try:
        before = os.fstat(descriptor)
        if before.st_nlink > 1:
            return _SECOND_NAME
        if before.st_size != expected.size or hash_descriptor(descriptor) != expected:
            return "changed"
        state = _state(os.fstat(descriptor))
        return state if state == _state(before) else "changed while it was read"
    finally:
        os.close(descriptor)


def _open(root: Path, path: str) -> int | str:
    """Open a regular file below `root`, no part of its path a link; says so if it is of another kind."""
    *folders, name = PurePosixPath(path).parts
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            return "not a regular file"  # to open a device may be to use it
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)


def _state(found: os.stat_result) -> _State:
    """What changes with a file: which one it is, its size, when it was written and when anything of it was changed."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _now(path: Path) -> _State | None:
    try:
        return _state(path.lstat())
    except OSError:
        return None


def _link_in(root: Path, path: str) -> str:
    """Return the first part of `path` below `root` that is a symbolic link, or nothing."""
    parts = PurePosixPath(path).parts
    below = (PurePosixPath(*parts[: count + 1]) for count in range(len(parts)))
    return next((str(part) for part in below if (root / part).is_symlink()), "")


def _check_extra(root: Path, manifest: Manifest, own: str) -> list[str]:
    """What is in the version's folders and not in the manifest; a folder too, for Triton may take it for a version."""
    known = {*manifest.files, f"{own}/{MANIFEST}", f"{own}/{SIGNATURE}"}
    folders = {str(parent) for path in known for parent in PurePosixPath(path).parents}
    problems = []
    for folder in (own, *manifest.models):
        if (root / folder).is_symlink():
            problems.append(f"{folder}: a symbolic link")
            continue
        problems += [f"{path}: not in the manifest" for path in _extra(root, folder, known, folders)]
    return problems


def _extra(root: Path, folder: str, known: set[str], folders: set[str]) -> Iterator[str]:
    for path in sorted((root / folder).rglob("*")):
        name = path.relative_to(root).as_posix()
        if name not in (folders if path.is_dir() and not path.is_symlink() else known):
            yield name


def _check_contents(root: Path, manifest: Manifest, files: Iterable[str]) -> list[str]:
    """Every part says that it is of this version: names and fingerprints in configurations and ONNX files."""
    problems = []
    archived = f"{manifest.name}/configs/{manifest.version}.pbtxt"
    for path in files:
        if path == archived or path in {f"{model}/{CONFIG}" for model in manifest.models}:
            name = manifest.name if path == archived else PurePosixPath(path).parts[0]
            problems += [f"{path}: {problem}" for problem in _config_problems(root / path, name, manifest)]
        elif path.endswith(".onnx"):
            problems += [f"{path}: {problem}" for problem in _onnx_problems(root, path, manifest)]
    return problems


def _config_problems(path: Path, name: str, manifest: Manifest) -> list[str]:
    from ensemble import pbtxt

    try:
        spec = pbtxt.parse(path.read_text(encoding="utf-8"))
    except (ArtifactError, OSError, ValueError) as error:
        return [str(error)]
    found = spec.parameters.get(FINGERPRINT, "(none)")
    problems = [f"it is the configuration of {spec.name!r}"] if spec.name != name else []
    if found != manifest.fingerprint:
        problems.append(f"fingerprint {found}, the manifest has {manifest.fingerprint}")
    foreign = sorted({step.model for step in spec.steps} - set(manifest.models))
    return problems + [f"runs {model!r}, which is not of this version" for model in foreign]


def _onnx_problems(root: Path, path: str, manifest: Manifest) -> list[str]:
    from ensemble.graphs.outline import outline

    try:
        found = outline(root / path)
    except ArtifactError as error:
        return [str(error)]
    problems = []
    fingerprint = found.metadata.get(FINGERPRINT, manifest.fingerprint)  # a graph made elsewhere has none
    if fingerprint != manifest.fingerprint:
        problems.append(f"fingerprint {fingerprint}, the manifest has {manifest.fingerprint}")
    beside = PurePosixPath(path).parent
    outside = sorted(file for file in found.files if _leaves(file) or str(beside / file) not in manifest.files)
    return problems + [f"reads {file!r}, which is no file of this version" for file in outside]


def _check_serving(root: Path, manifest: Manifest) -> list[str]:
    """The ensemble's config.pbtxt is one of the archived configs, with labels or without; any other is a change."""
    path = f"{manifest.name}/{CONFIG}"
    serving = _config(root / path)
    if serving is None:
        return [f"{path}: missing, or no file of at most {_LONGEST_CONFIG} bytes"]
    archived = filter(None, map(_config, sorted((root / manifest.name / "configs").glob("*.pbtxt"))))
    if any(text == serving or same_config(serving, text, manifest.name) for text in archived):
        return []
    return [f"{path}: not the configuration of any exported version"]


def _config(path: Path) -> bytes | None:
    """Return the bytes of a file that may be a config.pbtxt; None for a pipe, a device, or one that is too long."""
    fits = path.is_file() and path.stat().st_size <= _LONGEST_CONFIG
    return path.read_bytes() if fits else None


def same_config(serving: bytes, archived: bytes, name: str) -> bool:
    """Whether `serving` is the config `archived` called `name`, but for labels: parameters `mews.*` of its own."""
    from ensemble import pbtxt

    try:
        found, kept = (pbtxt.parse(text.decode("utf-8")) for text in (serving, archived))
    except (ArtifactError, ValueError):
        return False
    labels = {key for key in found.parameters if key.startswith(_LABEL) and key not in kept.parameters}
    parameters = {key: value for key, value in found.parameters.items() if key not in labels}
    return replace(found, parameters=parameters) == replace(kept, name=name)
