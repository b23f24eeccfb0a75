"""A FeatureGraph's folder: graph.json and one Parquet file per state table.

Nothing in the folder is trusted: every value's type is checked, a state file must lie in the folder, and the
fingerprint is computed again from what was read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from etl.atomic import atomic_folder
from etl.errors import ArtifactError, ConfigError
from etl.graph import Column, FeatureGraph, OpNode, Ref, describe
from etl.operators import facts

FORMAT = "mews-feature-graph"
VERSION = 1
_HINT = "Fit the features again, or copy the folder again."


def save(graph: FeatureGraph, folder: Path) -> None:
    """Write `graph` to `folder`, which is replaced as a whole."""
    with atomic_folder(folder) as temporary:
        document = {"format": FORMAT, "version": VERSION, "fingerprint": graph.fingerprint, **describe(graph)}
        for node, described in zip(graph.nodes, document["nodes"], strict=True):
            if node.state is not None:
                described["state"] = _save_state(node, temporary)
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (temporary / "graph.json").write_text(text, encoding="utf-8")


def _save_state(node: OpNode, folder: Path) -> dict[str, str]:
    (folder / "state").mkdir(exist_ok=True)
    files = {}
    for number, (key, table) in enumerate((node.state or {}).items()):
        # A number, not the key: a column may be called "../x" or have a name no file system takes.
        files[key] = f"state/{node.id}.{number}.parquet"
        table.write_parquet(folder / files[key], compression="zstd", statistics=False)
    return files


def load(folder: Path) -> FeatureGraph:
    """Read the graph in `folder`; ArtifactError if anything in it is missing, changed, truncated or not ours."""
    document = _read_json(folder / "graph.json")
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        received = f"{document.get('format')!r} version {document.get('version')!r}"
        raise ArtifactError(f"{folder / 'graph.json'}", expected=f"{FORMAT!r} version {VERSION}", received=received)
    try:
        graph = FeatureGraph(
            tuple(_column(value) for value in _list(document, "inputs")),
            tuple(_node(value, folder) for value in _list(document, "nodes")),
            tuple(_ref(value) for value in _list(document, "outputs")),
        )
        fingerprint = graph.fingerprint
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{folder / 'graph.json'} is not a graph: {error}", hint=_HINT) from error
    if fingerprint != document.get("fingerprint"):
        received = str(document.get("fingerprint"))
        raise ArtifactError(f"fingerprint of {folder}", expected=fingerprint, received=received, hint=_HINT)
    return graph


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint=_HINT) from error
    if not isinstance(document, dict):
        raise ArtifactError(str(path), expected="a JSON object", received=type(document).__name__, hint=_HINT)
    return document


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    found: list[Any] = _typed(document[key], list, key)
    return found


def _typed(value: Any, kind: Any, what: str) -> Any:
    """Return `value` if it is a `kind`; a bool is not an int here."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{what}: expected {kind}, received {value!r}")
    return value


def _column(value: Any) -> Column:
    fields = dict(_typed(value, dict, "column"))
    return Column(
        name=_typed(fields.pop("name"), str, "name"),
        dtype=_typed(fields.pop("dtype"), str, "dtype"),
        is_list=_typed(fields.pop("is_list"), bool, "is_list"),
        length=_typed(fields.pop("length"), int | None, "length"),
        tags=tuple(_typed(tag, str, "tag") for tag in _typed(fields.pop("tags"), list, "tags")),
        cardinality=_typed(fields.pop("cardinality"), int | None, "cardinality"),
        **fields,
    )


def _ref(value: Any) -> Ref:
    node, column = _typed(value, list, "reference")
    return Ref(_typed(node, str, "node"), _typed(column, str, "column"))


def _node(value: Any, folder: Path) -> OpNode:
    state = value["state"]
    if state is not None:
        state = {key: _read_table(folder, file) for key, file in _typed(state, dict, "state").items()}
    facts(_typed(value["op"], str, "op")).check(_typed(value["params"], dict, "params"))
    return OpNode(
        id=_typed(value["id"], str, "id"),
        op=_typed(value["op"], str, "op"),
        inputs=tuple(_ref(ref) for ref in _list(value, "inputs")),
        outputs=tuple(_column(column) for column in _list(value, "outputs")),
        params=_typed(value["params"], dict, "params"),
        state=state,
    )


def _read_table(folder: Path, file: Any) -> pl.DataFrame:
    path = (folder / _typed(file, str, "state file")).resolve()
    if not path.is_relative_to((folder / "state").resolve()):
        raise ArtifactError(f"state file {file!r}", expected=f"a file in {folder / 'state'}", received=str(path))
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"state file {path} cannot be read: {error}", hint=_HINT) from error
