"""What `mews compile` writes: a graph as ONNX for serving, or as a folder that runs in batch by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.atomic import atomic_folder
from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.graph import Column, FeatureGraph
    from etl.requests import RequestForm

DESCRIPTION = "features.json"
FORMAT = "mews-compiled-features"
TARGETS = ("onnx", "polars")

_SCRIPT = '''"""Features of Parquet files, as `graph/` computes them: python features.py [--training] IN.parquet ... OUT

Needs Mews (its `etl` package) and Polars; no NVTabular. OUT is a folder of Parquet parts in row order, with Merlin's
schema beside them; it appears whole or not at all. --training is for the rows that the workflow was fitted on, whole
and in the same order: TargetEncoding(kfold > 1) then encodes a row without its own fold.
"""

import sys
from pathlib import Path

from etl.batch import transform
from etl.errors import MewsError
from etl.graph import FeatureGraph


def main(arguments: list[str]) -> int:
    training = arguments[:1] == ["--training"]
    arguments = arguments[training:]
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    *paths, out = map(Path, arguments)
    try:
        if out.exists():
            raise MewsError(f"{out} exists", hint="Choose another folder.")
        graph = FeatureGraph.load(Path(__file__).resolve().parent / "graph")
        done = transform(graph, paths, out, out_of_fold=training)
    except MewsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{done.rows:,} rows in {done.seconds:.1f} s: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''


def write(
    graph: FeatureGraph,
    target: str,
    out: Path,
    replace: bool,
    requests: Mapping[str, RequestForm] | None = None,
) -> list[str]:
    """Write `graph` compiled for `target` to the folder `out`, whole or not at all; return the names of what is in it.

    `requests` says of raw columns how they arrive in a request; batch reads files, and takes none.
    Raises CompileError with every problem, ConfigError for a graph without statistics, an unknown target, or an `out`
    that exists: with `replace`, only what this function wrote is replaced.
    """
    if target not in TARGETS:
        raise ConfigError("target", expected=" or ".join(TARGETS), received=repr(target))
    if not graph.is_fitted:
        hint = "Fit the workflow before it is saved, or in the function that returns it."
        raise ConfigError("compile", expected="a fitted workflow", received="one without statistics", hint=hint)
    if requests and target != "onnx":
        raise ConfigError("requests", expected="--to onnx", received=f"--to {target}, which reads files")
    _check_free(out, replace)
    parts = _onnx(graph, requests or {}) if target == "onnx" else _polars(graph)
    with atomic_folder(out) as folder:
        graph.save(folder / "graph")
        for name, content in parts.items():
            (folder / name).write_bytes(content)
    return ["graph/", *parts]


def strict(graph: FeatureGraph) -> FeatureGraph:
    """Return the graph with the faults of NVTabular that its operators can repeat."""
    from dataclasses import replace

    from etl.operators import facts

    nodes = (
        replace(node, params={**node.params, "strict_nvtabular": True}) if facts(node.op).strict else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _check_free(out: Path, replace: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_ours(out / DESCRIPTION):
        raise ConfigError(
            f"{out} exists", expected="a new folder", received="something that this command did not write"
        )
    if not replace:
        raise ConfigError(f"{out} exists", expected="a new folder, or --replace")


def _is_ours(path: Path) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _polars(graph: FeatureGraph) -> dict[str, bytes]:
    from etl.compiler import to_polars

    to_polars(graph)
    columns = [_column(column) for column in graph.output_columns]
    description = _described(graph, "polars", [_column(column) for column in graph.inputs], columns)
    return {DESCRIPTION: description, "features.py": _SCRIPT.encode()}


def _onnx(graph: FeatureGraph, requests: Mapping[str, RequestForm]) -> dict[str, bytes]:
    from etl.compiler import feature_tensors, to_onnx
    from etl.requests import USUAL

    model = to_onnx(graph, requests=requests)
    by_feature = feature_tensors(model)
    shapes = {value.name: _shape(value) for value in (*model.graph.input, *model.graph.output)}
    inputs = [_input(column, requests.get(column.name, USUAL), shapes) for column in graph.inputs]
    outputs = [
        {**_column(column), "tensor": by_feature[column.name], "shape": shapes[by_feature[column.name]]}
        for column in graph.output_columns
    ]
    return {DESCRIPTION: _described(graph, "onnx", inputs, outputs), "workflow.onnx": model.SerializeToString()}


def _input(column: Column, form: RequestForm, shapes: Mapping[str, list[str | int]]) -> dict[str, Any]:
    """Return one raw column: its own type, then its tensors, each with type and shape, and what says null in them."""
    from etl.names import LENGTH, NULL, OFFSETS

    tensor, *others = form.tensor_names(column)
    arrives = form.arrives_as(column.dtype)
    found = {**_column(column), "tensor": tensor, "tensor_type": arrives, "shape": shapes[tensor]}
    found |= {"null": _null(arrives) if form.null is None else form.null, "optional": form.optional}
    if form.datetime != "us":
        found["datetime"] = form.datetime
    keys = {column.name + LENGTH: "lengths", column.name + OFFSETS: "offsets", column.name + NULL: "mask"}
    for name in others:
        kind = "bool" if keys[name] == "mask" else "int32"
        found[keys[name]] = {"tensor": name, "type": kind, "shape": shapes[name]}
    return found


def _null(arrives: str) -> Any:
    """Return what says null in a tensor of that type, as JSON can hold it; None where nothing does."""
    from etl.dtypes import dtype, is_float

    return "NaN" if is_float(arrives) else dtype(arrives).null


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.dtype,
        "list": column.is_list,
        "length": column.length,
        "cardinality": column.cardinality,
        "tags": list(column.tags),
    }


def _shape(value: Any) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _described(graph: FeatureGraph, target: str, inputs: list[Any], features: list[Any]) -> bytes:
    head = {"format": FORMAT, "version": 1, "target": target, "fingerprint": graph.fingerprint}
    text = json.dumps({**head, "inputs": inputs, "features": features}, indent=1, ensure_ascii=False)
    return f"{text}\n".encode()
