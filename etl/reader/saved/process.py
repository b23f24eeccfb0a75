"""The process apart in which somebody else's folder is read, and what comes back from it: one of our folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from etl.errors import CompileError, ConfigError, MewsError, Problem, SchemaError
from etl.graph import Column, FeatureGraph

SECONDS = 600
MEMORY = 8 * 2**30
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_ROOT = Path(__file__).resolve().parents[3]
_KINDS: dict[str, type[MewsError]] = {"ConfigError": ConfigError, "SchemaError": SchemaError}


def read_apart(
    kind: str,
    folder: Path,
    inputs: Sequence[Column] | None,
    say: Callable[[str], None],
    seconds: float = SECONDS,
    memory: int = MEMORY,
    strict: bool = False,
) -> FeatureGraph:
    """Return the graph of an NVTabular folder, read in a process with `seconds` of processor time and `memory` bytes.

    `kind` is "pickle" or "graph". What that process writes is not trusted either: its folder is loaded as any other.
    Raises what the reading raised, and ConfigError where the process was ended.
    """
    with tempfile.TemporaryDirectory(prefix="mews-saved-") as temporary:
        out = Path(temporary)
        columns = None if inputs is None else [asdict(column) for column in inputs]
        request: dict[str, Any] = {"kind": kind, "folder": str(folder.resolve()), "inputs": columns, "out": str(out)}
        request["strict"] = strict
        limits = {"seconds": int(seconds), "memory": memory}
        (out / "request.json").write_text(json.dumps({**request, **limits}), encoding="utf-8")
        done = _run(out, seconds)
        answer = _answer(out / "answer.json", folder, done)
        for line in answer["notes"]:
            say(str(line))
        _raise(answer)
        return FeatureGraph.load(out / "graph")


def _run(out: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    # -P and a folder of its own: nothing that lies where the user stands can take a module's place.
    command = [sys.executable, "-P", "-m", "etl.reader.saved.child", str(out / "request.json")]
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("COV")}
    environment = {**kept, "PYTHONPATH": str(_ROOT), "CUDA_VISIBLE_DEVICES": ""}
    try:
        return subprocess.run(
            command, cwd=out, env=environment, capture_output=True, text=True, timeout=2 * seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError("reading the workflow", expected=f"at most {2 * seconds:g} s", received="more") from error


def _answer(path: Path, folder: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        if done.returncode == 0 and isinstance(answer, dict) and isinstance(answer.get("notes"), list):
            return answer
    except (OSError, ValueError):
        pass
    ended = done.returncode
    why = f"it was ended by {signal.Signals(-ended).name}" if ended < 0 else f"exit code {ended}"
    last = (done.stderr.strip().splitlines() or [""])[-1][:300]
    hint = "It takes more memory or time than is allowed here, or it is damaged."
    raise ConfigError(f"{folder} cannot be read: {why} {last}".rstrip(), hint=hint)


def _raise(answer: dict[str, Any]) -> None:
    """Raise the error in the answer, if there is one."""
    if problems := answer.get("problems"):
        found = ({**problem, "columns": tuple(problem["columns"])} for problem in problems)
        raise CompileError([Problem(**problem) for problem in found])
    if error := answer.get("error"):
        kind = _KINDS.get(error.pop("kind"), ConfigError)
        raise kind(error.pop("subject"), **error)
