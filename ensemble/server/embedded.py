"""Where the tritonserver that comes with the nvidia-pytriton wheel is, and what it needs to run.

The wheel holds the server, its Python backend and one stub for each Python version. Triton wants the stub beside
`libtriton_python.so`, and refuses links, so each server gets a backend folder with copies (3 MB).

Models load at a low priority: starting Python and opening a graph keep a core busy for a fifth of a second, and what
serves would wait for it. The kernel may weigh sessions against each other (sched(7), autogroup), processes only within
one: so a stub gets a session of its own at a low weight, and a low priority besides where it may raise that again
(root, CAP_SYS_NICE, or a `ulimit -e` of 20).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.errors import ServerError

_GENTLE = 10  # a tenth of an ordinary process's share: enough to load at all on a machine without a free moment
_ORDINARY = 20  # of RLIMIT_NICE: the niceness 0
_CAP_SYS_NICE = 23
_WRAPPER = """#!/bin/sh
export MEWS_GENTLE={process}
exec setsid sh -c '{{ echo {session} > /proc/self/autogroup; }} 2> /dev/null
exec nice -n {process} "$@"' sh "$0.real" "$@"
"""


@dataclass(frozen=True)
class Program:
    """A tritonserver that can be started: its file, the folder of its backends (None: its own) and its environment."""

    binary: Path
    backends: Path | None
    environment: Mapping[str, str]


def find(folder: Path) -> Program:
    """Return the wheel's server with a backend folder made in `folder`, else the `tritonserver` on PATH.

    ServerError says what to install if there is neither, or no libpython.
    """
    wheel = _wheel()
    if wheel is not None:
        return Program(wheel / "bin" / "tritonserver", make_backends(wheel, folder / "backends"), _environment(wheel))
    installed = shutil.which("tritonserver")
    if installed is None:
        raise ServerError(
            "no Triton server",
            expected="the nvidia-pytriton package, or tritonserver on PATH",
            hint="Run `make setup`, or use a running server (`--triton-url`).",
        )
    return Program(Path(installed), None, dict(os.environ))


def make_backends(wheel: Path, folder: Path) -> Path:
    """Fill `folder` with copies: the Python backend with the stub of this Python, and our onnxruntime backend."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in (wheel / "python_backend_stubs").iterdir()))
        raise ServerError("Triton's Python backend", expected=f"Python {known}", received=f"Python {version}")
    # Files only: Python writes a __pycache__ there when Merlin or a user imports the backend's utilities.
    files = [path for path in (wheel / "backends" / "python").iterdir() if path.is_file()]
    _copy(folder / "python", [*files, stub])
    _start_gently(folder / "python" / stub.name)
    _copy(folder / "onnxruntime", [onnxruntime_backend()])
    return folder


def priority_can_be_raised() -> bool:
    """Return whether a process of ours that lowered its priority may raise it again."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NICE)
    if allowed in (-1, resource.RLIM_INFINITY) or allowed >= _ORDINARY:
        return True
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_SYS_NICE & 1)


def _start_gently(stub: Path) -> None:
    """Let the stub start at a low priority; our backend ends that when its model is loaded (MEWS_GENTLE)."""
    stub.rename(stub.with_name(f"{stub.name}.real"))
    lowered = _GENTLE if priority_can_be_raised() else 0
    stub.write_text(_WRAPPER.format(session=_GENTLE, process=lowered), encoding="ascii")
    stub.chmod(0o755)


def onnxruntime_backend() -> Path:
    """Return the path of `triton_models/backends/onnxruntime/model.py`, found without importing anything."""
    spec = importlib.util.find_spec("triton_models")
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place) / "backends" / "onnxruntime" / "model.py"
        if path.is_file():
            return path
    raise ServerError("triton_models/backends/onnxruntime/model.py is missing", hint="Install Mews again.")


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("pytriton")  # finds the package without running its code
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place) / "tritonserver"
        if (folder / "bin" / "tritonserver").is_file():
            return folder
    return None


def _copy(folder: Path, targets: list[Path]) -> None:
    folder.mkdir(parents=True)
    for target in targets:
        shutil.copy(target, folder)


def _environment(wheel: Path) -> dict[str, str]:
    """Return our environment with what the copied stub needs to find this Python, its packages and its libraries."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    bundled = wheel.parents[1] / "nvidia_pytriton.libs"
    libraries = [str(libpython().parent), str(bundled), environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    return environment


def library_folders() -> tuple[str, ...]:
    """Return where a shared library of this Python may be: its own folder first, then the system's."""
    machine = f"{platform.machine()}-linux-gnu"
    own = (sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib")
    return *own, f"/usr/lib/{machine}", f"/lib/{machine}", "/usr/lib64", "/usr/lib", "/usr/local/lib"


def libpython(folders: Sequence[str] | None = None) -> Path:
    """Return this Python's shared library from `folders` (None: the usual ones); ServerError says how to get it."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{version}.so.1.0"
    for folder in filter(None, library_folders() if folders is None else folders):
        if (path := Path(folder) / name).is_file():
            return path
    raise ServerError(
        f"{name} is missing",
        expected="the shared library of this Python, which Triton's Python backend loads",
        received=f"none beside {sys.executable}",
        hint=f"`apt-get install libpython{version}` for the system's Python, or `uv python install {version}`.",
    )
