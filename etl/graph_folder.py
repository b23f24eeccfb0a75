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

FORMAT = "mews-feature-graph"
VERSION = 1
_HINT = "Fit the features again, or copy the folder again."
_LONGEST = 64 * 2**20
"""Bytes of graph.json."""
_ANY_TABLE = 256 * 2**20
_MOST_PACKED = 100
"""A state table may take so many times its file's bytes in memory, if that is more than `_ANY_TABLE` bytes."""


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
    document = _read_json(folder / "graph.json")
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
    files = {node.id: _typed(value["state"], dict | None, "state") for node, value in zip(made, nodes, strict=True)}
    for node in made:
        check_node(node)
        check_keys(node, files[node.id] or {}) if files[node.id] is not None else None
    states = {
        node.id: {key: _read_table(folder, node, key, file) for key, file in files[node.id].items()}
        for node in made
        if files[node.id] is not None
    }
    return graph.with_state(states)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            raise OSError(f"it is no file of at most {_LONGEST} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(document, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
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


def _node(value: Any) -> OpNode:
    """Return an operator without its state."""
    return OpNode(
        id=_typed(value["id"], str, "id"),
        op=_typed(value["op"], str, "op"),
        inputs=tuple(_ref(ref) for ref in _list(value, "inputs")),
        outputs=tuple(_column(column) for column in _list(value, "outputs")),
        params=_typed(value["params"], dict, "params"),
    )


def _read_table(folder: Path, node: OpNode, key: str, file: Any) -> pl.DataFrame:
    """Read a state table, once its columns and its size are known to be those of one."""
    path = (folder / _typed(file, str, "state file")).resolve()
    if path.parent != folder.resolve() / "state" or not path.is_file():
        raise ArtifactError(f"state file {file!r}", expected=f"a file in {folder / 'state'}", received=str(path))
    try:
        schema = pl.read_parquet_schema(path)
        check_schema(node, key, schema)
        rows = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        _refuse_larger(path, rows * sum(map(_width, schema.values())))
        table = pl.read_parquet(path, glob=False)
        texts = [series.str.len_bytes().cast(pl.UInt64).sum() or 0 for series in table if series.dtype == pl.String]
        _refuse_larger(path, int(sum(texts)))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ArtifactError(f"state file {path} cannot be read: {error}", hint=_HINT) from error
    return table


def _width(dtype: pl.DataType) -> int:
    """Return the bytes of one value in memory, without a text's own."""
    return 16 if dtype == pl.String else 8


def _refuse_larger(path: Path, size: int) -> None:
    most = max(_ANY_TABLE, _MOST_PACKED * path.stat().st_size)
    if size > most:
        raise ArtifactError(f"state file {path}", expected=f"at most {most} bytes of values", received=str(size))
