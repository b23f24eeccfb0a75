"""What a saved workflow is, and who reads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from etl.errors import ConfigError
from etl.graph import Column, FeatureGraph
from etl.graph_folder import FORMAT
from etl.reader.saved.folder import read_json
from etl.reader.saved.process import read_apart

Say = Callable[[str], None]

PICKLE, GRAPH = "workflow.pkl", "graph.json"
_KINDS = f"a folder with {GRAPH} (Mews or NVTabular) or {PICKLE} (NVTabular), or file.py:function"


def load_workflow(
    path: str | Path,
    trust_pickle: bool = False,
    inputs: Sequence[Column] | None = None,
    say: Say | None = None,
    strict_nvtabular: bool = False,
) -> FeatureGraph:
    """Return the feature graph of a saved workflow, with its statistics if it is fitted.

    `path` is a folder of a FeatureGraph, of NVTabular's `Workflow.save` (23.08: a pickle, read only with
    `trust_pickle`; later: graph.json), or `file.py:function`, whose code is run. `inputs` are the raw columns where the
    workflow does not know them; a FeatureGraph does. `say` is told what is worth knowing, such as other versions
    (without it, a UserWarning). `strict_nvtabular` is etl.reader.read's; a FeatureGraph has been read already.
    Raises ConfigError for what is none of these, damaged or not trusted, CompileError with every operator that a graph
    cannot hold, ArtifactError for a damaged FeatureGraph.
    """
    folder = Path(path)
    if folder.is_dir():
        return _from_folder(folder, trust_pickle, inputs, say or _warn, strict_nvtabular)
    if ".py:" in str(path):
        from etl.reader import read
        from etl.workflow import load

        return read(load(str(path)), inputs, strict_nvtabular=strict_nvtabular)
    received = "nothing there" if not folder.exists() else "a file"
    raise ConfigError(f"workflow {str(path)!r}", expected=_KINDS, received=received)


def _from_folder(
    folder: Path, trust_pickle: bool, inputs: Sequence[Column] | None, say: Say, strict: bool
) -> FeatureGraph:
    # A graph.json first: where both are, it says the same and needs no trust.
    if (folder / GRAPH).is_file():
        document = read_json(folder / GRAPH)
        if document.get("format") == FORMAT:
            return FeatureGraph.load(folder)
        if "format_version" in document:
            return read_apart("graph", folder, inputs, say, strict=strict)
        raise ConfigError(str(folder / GRAPH), expected="a graph of Mews or NVTabular", received="something else")
    if (folder / PICKLE).is_file():
        if not trust_pickle:
            raise ConfigError(
                f"{folder / PICKLE} is a pickle, which can run any code when it is read",
                expected="--trust-pickle (trust_pickle=True) for one whose origin you know",
                hint="Or rebuild it in file.py:function, or save it with an NVTabular that writes graph.json.",
            )
        return read_apart("pickle", folder, inputs, say, strict=strict)
    raise ConfigError(f"workflow {str(folder)!r}", expected=_KINDS, received="a folder with neither")


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)
