"""Small fitted graphs in which every operator is, and what writes them as somebody could who knows the format."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl

from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref, digest

RAW = tuple(
    Column(name, dtype, dtype_list)
    for name, dtype, dtype_list in (
        ("i", "int64", False),
        ("j", "int64", False),
        ("f", "float64", False),
        ("s", "string", False),
        ("d", "datetime", False),
        ("l", "int64", True),
    )
)
_VOCABULARY = pl.DataFrame({"value": ["a", "é"], "count": [3, 2]})
_TUPLES = pl.DataFrame({"value_0": [1, 2], "value_1": ["a", None], "count": [2, 1]})
_SUMS = pl.DataFrame({"value": ["a", None], "count_0": [2, 1], "sum_0": [1.5, 2.0]})
_FOLDS = _SUMS.select(pl.Series("fold", [0, 1]), pl.all())
_ENTRIES = pl.DataFrame({"row": [0, 1], "place": [0, 2], "value": [1.0, 0.5]})
_TREE = [
    "where",
    ["gt", ["log1p", ["column", "f"]], ["value", 0.5]],
    ["mul", ["column", "f"], ["column", "i"]],
    ["value", 1],
]


def _node(op: str, reads: str, makes: str, params: Any = None, state: Any = None, of: str = INPUT) -> OpNode:
    """Return an operator; `reads` and `makes` are `name` or `name:dtype`, a list as `name:[dtype]`."""
    columns = []
    for each in makes.split():
        name, _, dtype = each.partition(":")
        dtype = dtype or "float64"
        columns.append(Column(name, dtype.strip("[]"), dtype.startswith("[")))
    tables = None if state is None else {key: pl.DataFrame(table) for key, table in state.items()}
    return OpNode(op.lower(), op, tuple(Ref(of, name) for name in reads.split()), tuple(columns), params or {}, tables)


def _row(column: str, **values: Any) -> dict[str, list[Any]]:
    return {"column": [column], **{name: [value] for name, value in values.items()}}


KEEPS = (
    _node("Categorify", "s", "s:int64", {"num_buckets": 3, "dtype": None, "groups": []}, {"s": _VOCABULARY}),
    _node("HashBucket", "s", "s:int32", {"num_buckets": {"s": 10}}),
    _node("HashedCross", "s i", "s_X_i:int32", {"num_buckets": 10}),
    _node("Bucketize", "f", "f:int32", {"boundaries": {"f": [0, 0.5, 3]}}),
    _node("Clip", "f", "f", {"min_value": 0, "max_value": None}),
    _node("LogOp", "f", "f:float32"),
    _node("Normalize", "f", "f", {"out_dtype": None}, {"moments": _row("f", count=3, mean=0.5, std=1.5)}),
    _node("NormalizeMinMax", "f", "f", {}, {"ranges": _row("f", min=0.0, max=2.0)}),
    _node("FillMissing", "i", "i:int64 i_filled:bool", {"fill_val": 7, "add_binary_cols": True}),
    _node("FillMedian", "f", "f", {"add_binary_cols": False}, {"medians": _row("f", median=0.5)}),
    _node("ListSlice", "l", "l:[int64]", {"start": -2, "end": None, "pad": True, "pad_value": 0}),
    _node("Rename", "i", "renamed:int64", {"name": "renamed"}),
    _node("AddMetadata", "i", "i:int64", {"tags": ["id"], "properties": {"domain": {"min": 0, "max": 5}, "x": [1]}}),
    _node(
        "DataStats",
        "i",
        "i:int64",
        {},
        {"stats": _row("i", cardinality=3, min=0.0, max=2.0, mean=1.0, std=1.0, per_nan=0.0)},
    ),
    _node("DropLowCardinality", "i", "i:int64", {"min_cardinality": 4}),
    _node(
        "ReduceDtypeSize", "i", "i:int8", {"float_dtype": "float32"}, {"sizes": _row("i", dtype="int8", min=0, max=9)}
    ),
    _node("ValueCount", "l", "l:[int64]", {}, {"lengths": _row("l", min=0, max=4)}),
    _node(
        "JoinGroupby",
        "s f",
        "s_count:int32 s_f_mean:float32",
        {"groups": [["s"]], "cont_cols": ["f"], "stats": ["count", "mean"]},
        {"groups.s": {"value": ["a", "b"], "count": [2, 1], "mean_0": [0.5, None]}},
    ),
    _node(
        "TargetEncoding",
        "s f",
        "TE_s_f:float32",
        {"groups": [["s"]], "target": ["f"], "kfold": 2, "fold_seed": 42, "p_smooth": 20, "target_mean": None},
        {"means": {"column": ["f"], "mean": [0.5]}, "groups.s": _SUMS, "folds.s": _FOLDS},
    ),
    _node(
        "JoinExternal",
        "i",
        "i:int64 x:string",
        {"on": ["i"], "on_ext": ["k"]},
        {"external": {"k": [1, 2], "x": ["a", None]}},
    ),
    _node(
        "ColumnSimilarity",
        "i j",
        "i_j_sim",
        {"groups": [["i", "j"]], "left_rows": 3, "right_rows": 2},
        {"left": _ENTRIES, "right": _ENTRIES},
    ),
    _node("LambdaOp", "f i", "f", {"columns": {"f": _TREE}, "tags": ["continuous"]}),
)
"""Every operator that keeps its rows and can be served, but for what another graph has."""


def _graph(*nodes: OpNode) -> FeatureGraph:
    """Return a graph whose features are the columns of all `nodes`, each under a name of its own."""
    renamed = []
    for node in nodes:
        for column in node.outputs:
            made = Column(f"{node.id}.{column.name}", column.dtype, column.is_list)
            id = f"out{len(renamed)}"
            renamed.append(OpNode(id, "Rename", (Ref(node.id, column.name),), (made,), {"name": made.name}))
    outputs = tuple(Ref(node.id, node.outputs[0].name) for node in renamed)
    return FeatureGraph(RAW, (*nodes, *renamed), outputs)


_COMBINED = _node(
    "Categorify",
    "i s",
    "i_s:int64",
    {"encode_type": "combo", "groups": [["i", "s"]], "max_size": {"i_s": 5}, "freq_threshold": 1},
    {"i_s": _TUPLES.with_columns(active=pl.Series([True, False]))},
)
_CONDITION = ["and", ["ge", ["column", "i"], ["value", 0]], ["not", ["isin", ["column", "s"], ["a", "b"]]]]
_KEPT = _node("Filter", "i f s", "i:int64 f s:string", {"keep": _CONDITION})
_WHOLE = _node("Dropna", "i f s", "i:int64 f s:string", of="filter")
_LAGGED = _node(
    "DifferenceLag", "i f", "f_difference_lag_1:float32", {"partition_cols": ["i"], "shift": [1]}, of="dropna"
)
_AGGREGATES = {"aggs": {"f": ["mean", "list"]}, "name_sep": "_", "ascending": True}
_GROUPED = _node(
    "Groupby",
    "i f s",
    "s:string f_list:[float64] f_mean",
    {"groupby_cols": ["s"], "sort_cols": ["i"], **_AGGREGATES},
    of="dropna",
)
GRAPHS = {
    "keeps": _graph(*KEEPS),
    "combines": _graph(_COMBINED),
    "lags": FeatureGraph(RAW, (_KEPT, _WHOLE, _LAGGED), tuple(Ref("differencelag", c.name) for c in _LAGGED.outputs)),
    "groups": FeatureGraph(RAW, (_KEPT, _WHOLE, _GROUPED), tuple(Ref("groupby", c.name) for c in _GROUPED.outputs)),
}


def fingerprint_of(document: dict[str, Any], folder: Path) -> str:
    """Return the fingerprint that a document has, as anybody can compute it; "" for one that has none."""
    found = {key: copy.deepcopy(document.get(key)) for key in ("inputs", "nodes", "outputs")}
    try:
        for node in found["nodes"] or []:
            for column in node["outputs"]:
                column["cardinality"] = None
            for key, file in (node["state"] or {}).items():
                node["state"][key] = digest(pl.read_parquet(folder / file, glob=False))
        text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    except Exception:  # whatever it is that was changed: the loader is to say so
        return ""


def write(document: dict[str, Any], folder: Path) -> None:
    """Write a changed document to its folder, with the fingerprint that it has now."""
    document["fingerprint"] = fingerprint_of(document, folder)
    (folder / "graph.json").write_text(json.dumps(document))
