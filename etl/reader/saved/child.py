"""Run as a process by process.py: reads an NVTabular folder under limits and writes it as one of our folders."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from etl.errors import CompileError, ConfigError, MewsError
from etl.graph import Column, FeatureGraph
from etl.reader import door
from etl.reader.saved.folder import read_json


def main(request_file: str) -> None:
    """Read what the request asks for; write `graph/` and `answer.json` (notes, and the error if there is one)."""
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    out, notes = Path(request["out"]), list[str]()
    answer: dict[str, Any] = {"notes": notes}
    try:
        # Merlin names TensorFlow's types where it is installed: three of four seconds, for what nothing here asks for.
        sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
        door.nvtabular()
        _limit(request["seconds"], request["memory"])
        _read(request, notes).save(out / "graph")
    except CompileError as error:
        answer["problems"] = [asdict(problem) for problem in error.problems]
    except MewsError as error:
        said = {name: getattr(error, name) for name in ("subject", "expected", "received", "hint")}
        answer["error"] = {"kind": type(error).__name__, **said}
    except MemoryError:
        said = {"expected": f"at most {request['memory']:,} bytes of memory", "received": "more", "hint": ""}
        answer["error"] = {"kind": "ConfigError", "subject": "reading the workflow", **said}
    except Exception as error:  # whatever third-party code makes of a damaged folder
        received = f"{type(error).__name__}: {error}"[:500]
        said = {
            "expected": "what NVTabular saves",
            "received": received,
            "hint": "It is damaged, or of another version.",
        }
        answer["error"] = {"kind": "ConfigError", "subject": f"workflow {request['folder']!r}", **said}
    (out / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _limit(seconds: int, memory: int) -> None:
    """Bound what this process may use from here on; RLIMIT_DATA leaves out what the libraries only mapped."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _read(request: dict[str, Any], notes: list[str]) -> FeatureGraph:
    from etl.reader.saved import graph_json, unpickle

    folder, inputs = Path(request["folder"]), request["inputs"]
    columns = None if inputs is None else [Column(**{**each, "tags": tuple(each["tags"])}) for each in inputs]
    notes += version_notes(folder)
    reading = {"pickle": unpickle.read_pickle, "graph": graph_json.read_graph}[request["kind"]]
    return reading(folder, columns, request["strict"])


def version_notes(folder: Path) -> Iterable[str]:
    """Return what metadata.json says that a reader should know; ConfigError when it is damaged."""
    import nvtabular

    path = folder / "metadata.json"
    if not path.exists():
        return [f"{path} is missing: the version of NVTabular that saved this workflow is not known."]
    versions = read_json(path).get("versions")
    if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
        raise ConfigError(str(path), expected="versions by name", received=repr(versions)[:200])
    saved, ours = versions.get("nvtabular", "unknown"), nvtabular.__version__
    notes = []
    if saved.split(".")[:2] != ours.split(".")[:2]:
        notes.append(f"saved by NVTabular {saved}, read with {ours}: compare some rows before you rely on it.")
    if "cudf" in versions:
        notes.append(
            "saved on a GPU: where NVTabular's results differ between GPU and CPU, those of the CPU are meant."
        )
    return notes


if __name__ == "__main__":
    main(sys.argv[1])
