"""A FeatureGraph's folder: graph.json and one Parquet file per state table.

Nothing in the folder is trusted, also where the fingerprint is right: every value's type and size is checked before it
is used (etl/graph_check.py), a state file must lie in the folder and not be larger than its size lets expect, and the
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
from etl.graph_check import check, check_keys, check_node, check_schema, check_sizes
from etl.untrusted import read_json, read_table, typed

FORMAT = "mews-feature-graph"
VERSION = 1
_HINT = "Fit the features again, or copy the folder again."


def save(graph: FeatureGraph, folder: Path) -> None:
    """Write `graph` to `folder`, which is replaced as a whole; ConfigError for one that `load` would refuse."""
    check(graph)
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
    """Read the graph in `folder`; ArtifactError if anything in it is missing, changed, truncated, or no graph's."""
    document = read_json(folder / "graph.json", _HINT)
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        received = f"{document.get('format')!r} version {document.get('version')!r}"
        raise ArtifactError(f"{folder / 'graph.json'}", expected=f"{FORMAT!r} version {VERSION}", received=received)
    try:
        graph = _graph(document, folder)
        check(graph)
        fingerprint = graph.fingerprint
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{folder / 'graph.json'} is not a graph: {error}", hint=_HINT) from error
    if fingerprint != document.get("fingerprint"):
        received = str(document.get("fingerprint"))
        raise ArtifactError(f"fingerprint of {folder}", expected=fingerprint, received=received, hint=_HINT)
    return graph


def _graph(document: Mapping[str, Any], folder: Path) -> FeatureGraph:
    """Return the graph of a document; what is cheap to refuse is refused before a state table is read."""
    inputs, nodes, outputs = (_list(document, name) for name in ("inputs", "nodes", "outputs"))
    sizes = [[*_list(node, "inputs"), *_list(node, "outputs")] for node in nodes]
    check_sizes([inputs, outputs, *sizes])
    made = tuple(_node(value) for value in nodes)
    graph = FeatureGraph(tuple(map(_column, inputs)), made, tuple(map(_ref, outputs)))
    files = {node.id: typed(value["state"], dict | None, "state") for node, value in zip(made, nodes, strict=True)}
    for node in made:
        check_node(node)
        check_keys(node, files[node.id] or {}) if files[node.id] is not None else None
    states = {
        node.id: {key: _read_table(folder, node, key, file) for key, file in files[node.id].items()}
        for node in made
        if files[node.id] is not None
    }
    return graph.with_state(states)


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    found: list[Any] = typed(document[key], list, key)
    return found


def _column(value: Any) -> Column:
    fields = dict(typed(value, dict, "column"))
    return Column(
        name=typed(fields.pop("name"), str, "name"),
        dtype=typed(fields.pop("dtype"), str, "dtype"),
        is_list=typed(fields.pop("is_list"), bool, "is_list"),
        length=typed(fields.pop("length"), int | None, "length"),
        tags=tuple(typed(tag, str, "tag") for tag in typed(fields.pop("tags"), list, "tags")),
        cardinality=typed(fields.pop("cardinality"), int | None, "cardinality"),
        **fields,
    )


def _ref(value: Any) -> Ref:
    node, column = typed(value, list, "reference")
    return Ref(typed(node, str, "node"), typed(column, str, "column"))


def _node(value: Any) -> OpNode:
    """Return an operator without its state."""
    return OpNode(
        id=typed(value["id"], str, "id"),
        op=typed(value["op"], str, "op"),
        inputs=tuple(_ref(ref) for ref in _list(value, "inputs")),
        outputs=tuple(_column(column) for column in _list(value, "outputs")),
        params=typed(value["params"], dict, "params"),
    )


def _read_table(folder: Path, node: OpNode, key: str, file: Any) -> pl.DataFrame:
    """Read a state table, once its columns and its size are known to be those of one."""
    return read_table(folder, file, "state file", _HINT, "state", lambda schema: check_schema(node, key, schema))
