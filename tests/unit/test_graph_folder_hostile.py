"""Folders of graphs that somebody made to do harm, with the right fingerprint: they work, or are refused, soon."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.compiler import to_onnx, to_polars
from etl.errors import ArtifactError, MewsError
from etl.graph import FeatureGraph
from etl.operators import OPERATORS, TAGGING
from etl.schema import to_features
from tests.unit.graph_of_every_operator import GRAPHS, write

SECONDS = 20
"""What a graph of a few operators may take at most, on a busy machine."""


def use(folder: Path) -> str:
    """Load a graph and compile it; return "" if it all works, else the error."""
    started, found = time.monotonic(), ""
    try:
        graph = FeatureGraph.load(folder)
        to_features(graph)
        for compile in (to_polars, to_onnx):
            try:
                compile(graph)
            except MewsError as error:
                found = str(error)
    except ArtifactError as error:
        found = str(error)
    assert time.monotonic() - started < SECONDS
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every graph, as it was saved."""
    folder = tmp_path_factory.mktemp("graphs")
    for name, graph in GRAPHS.items():
        graph.save(folder / name)
    return {name: folder / name for name in GRAPHS}


def test_every_operator_is_in_a_graph_that_is_taken(saved: dict[str, Path]) -> None:
    assert {node.op for graph in GRAPHS.values() for node in graph.nodes} >= set(OPERATORS) - set(TAGGING)
    for name, folder in saved.items():
        before = json.loads((folder / "graph.json").read_text())
        write(copy.deepcopy(before), folder)
        assert json.loads((folder / "graph.json").read_text())["fingerprint"] == before["fingerprint"]
        assert FeatureGraph.load(folder) == GRAPHS[name]
        to_polars(GRAPHS[name])


def _node(document: dict[str, Any], op: str) -> dict[str, Any]:
    found: dict[str, Any] = next(node for node in document["nodes"] if node["op"] == op)
    return found


def _param(op: str, **values: Any) -> Any:
    return lambda document: _node(document, op)["params"].update(values)


def _nested(depth: int, leaf: Any = 1) -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


def _many_nodes(document: dict[str, Any]) -> None:
    rename = _node(document, "Rename")
    document["nodes"] += [{**rename, "id": f"more{number}"} for number in range(20_000)]


def _many_columns(document: dict[str, Any]) -> None:
    document["inputs"] += [{**document["inputs"][0], "name": f"c{number}"} for number in range(100_000)]


def _doubled(document: dict[str, Any]) -> None:
    """Square a column as often as there are operators: it is 2**60 products when it is written out."""
    node = _node(document, "LambdaOp")
    node["params"]["columns"]["f"] = ["mul", ["column", "f"], ["column", "f"]]
    above = node["id"]
    for number in range(60):
        refs = [[above, "f"], ["input", "i"]]
        document["nodes"].append({**copy.deepcopy(node), "id": f"more{number}", "inputs": refs})
        above = f"more{number}"
    document["nodes"].append(_last(above))
    document["outputs"].append(["last", "f"])


def _last(above: str) -> dict[str, Any]:
    column = {"name": "f", "dtype": "float64", "is_list": False, "length": None, "tags": [], "cardinality": None}
    node = {"id": "last", "op": "Rename", "inputs": [[above, "f"]], "outputs": [column]}
    return {**node, "params": {}, "state": None}


def _chain(document: dict[str, Any]) -> None:
    document["nodes"] += [{**_last("logop"), "id": "n0", "op": "Clip", "params": {"min_value": 0}}]
    document["nodes"][-1]["inputs"] = [["input", "f"]]
    for number in range(1, 3_000):
        document["nodes"].append({**document["nodes"][-1], "id": f"n{number}", "inputs": [[f"n{number - 1}", "f"]]})
    document["outputs"].append(["n2999", "f"])


def _deep_logs(document: dict[str, Any]) -> None:
    tree: Any = ["column", "f"]
    for _ in range(140):
        tree = ["expm1", tree]
    _param("LambdaOp", columns={"f": tree})(document)


HOSTILE = {
    "a text for a number": _param("Categorify", num_buckets="many"),
    "more buckets than numbers": _param("Categorify", num_buckets=10**30),
    "buckets that are a list": _param("HashBucket", num_buckets=[3]),
    "a group that is an object": _param("Categorify", groups={"s": 1}),
    "an argument that writes": _param("Categorify", out_path="/tmp/elsewhere"),
    "a dtype with a shape": _param("Categorify", dtype="(100000000,)f8"),
    "a dtype of objects": _param("Normalize", out_dtype="object"),
    "padding without end": _param("ListSlice", start=0, end=10**12),
    "the last of so many": _param("ListSlice", start=-(10**12)),
    "a start that is no number": _param("ListSlice", start=None),
    "a pad value that does not fit": _param("ListSlice", pad_value=2**63),
    "a fill value that does not fit": _param("FillMissing", fill_val=2**63),
    "a fill value that is a list": _param("FillMissing", fill_val=[1]),
    "folds without end": _param("TargetEncoding", kfold=10**12),
    "no fold": _param("TargetEncoding", kfold=0),
    "a million boundaries": _param("Bucketize", boundaries={"f": list(range(10**6))}),
    "boundaries that are NaN": _param("Bucketize", boundaries={"f": [float("nan")]}),
    "boundaries of another column": _param("Bucketize", boundaries={"g": [1]}),
    "a matrix of empty rows": _param("ColumnSimilarity", left_rows=10**9),
    "groups of another column": _param("JoinGroupby", groups=[["nowhere"]]),
    "statistics that are none": _param("JoinGroupby", stats=["exec"]),
    "names that fill the memory": _param("JoinGroupby", groups=[["s" * 900]] * 500, cont_cols=["f" * 900] * 5_000),
    "keys that do not match": _param("JoinExternal", on=["i", "j"]),
    "properties without end": _param("AddMetadata", properties={"x": _nested(100)}),
    "a domain that is a text": _param("AddMetadata", properties={"domain": "all"}),
    "lengths that are texts": _param("AddMetadata", properties={"value_count": {"min": "a"}}),
    "a tree that is a text": _param("LambdaOp", columns={"f": "exec"}),
    "trees that are a list": _param("LambdaOp", columns=[1]),
    "a tree of deep primitives": _deep_logs,
    "an operator that is none": lambda d: _node(d, "Clip").update(op="Shell"),
    "an operator that runs a function": lambda d: _node(d, "LambdaOp").update(params={"python": "os.system"}),
    "a class of another operator": lambda d: _node(d, "Clip").update(op="HashedCross"),
    "outputs that are declared otherwise": lambda d: _node(d, "HashBucket")["outputs"][0].update(dtype="string"),
    "a length without end": lambda d: d["inputs"][-1].update(length=10**12),
    "a cardinality without end": lambda d: d["inputs"][0].update(cardinality=10**400),
    "a name with a NUL": lambda d: d["inputs"][1].update(name="j\0"),
    "a name of two lines": lambda d: d["inputs"][1].update(name="j\n}"),
    "a name that is no text": lambda d: d["inputs"][1].update(name="\ud800"),
    "an id that leaves the folder": lambda d: _node(d, "Clip").update(id="../x"),
    "twenty thousand operators": _many_nodes,
    "a hundred thousand columns": _many_columns,
    "a column that is doubled": _doubled,
    "a chain of thousands": _chain,
    "a file with a NUL": lambda d: _node(d, "Normalize")["state"].update(moments="state/\0"),
    "a file that is a folder": lambda d: _node(d, "Normalize")["state"].update(moments="state"),
    "an absolute file": lambda d: _node(d, "Normalize")["state"].update(moments="/etc/passwd"),
    "a table more": lambda d: _node(d, "Normalize")["state"].update(more=_node(d, "FillMedian")["state"]["medians"]),
    "a table less": lambda d: _node(d, "Normalize").update(state={}),
    "the table of another operator": lambda d: _node(d, "Normalize").update(
        state={"moments": _node(d, "FillMedian")["state"]["medians"]}
    ),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_contents_are_refused(change: Any, tmp_path: Path) -> None:
    GRAPHS["keeps"].save(tmp_path / "graph")
    document = json.loads((tmp_path / "graph" / "graph.json").read_text())
    change(document)
    write(document, tmp_path / "graph")
    assert use(tmp_path / "graph")


def _table(op: str, key: str, change: Any) -> Any:
    """Change a state table, in its file."""

    def changed(document: dict[str, Any], folder: Path) -> None:
        file = folder / _node(document, op)["state"][key]
        table = pl.read_parquet(file)
        file.unlink()
        change(table).write_parquet(file)

    return changed


def _bomb(document: dict[str, Any], folder: Path) -> None:
    file = folder / _node(document, "Categorify")["state"]["s"]
    rows = pl.select(value=pl.repeat("a", 30_000_000, dtype=pl.String), count=pl.repeat(1, 30_000_000))
    rows.write_parquet(file, statistics=False)
    assert file.stat().st_size < 1_000_000


def _link(document: dict[str, Any], folder: Path) -> None:
    file = folder / _node(document, "Normalize")["state"]["moments"]
    file.rename(folder.parent / "moments.parquet")
    file.symlink_to(folder.parent / "moments.parquet")


def _linked_folder(document: dict[str, Any], folder: Path) -> None:
    (folder / "state").rename(folder.parent / "state")
    (folder / "state").symlink_to(folder.parent / "state")


def _pipe(document: dict[str, Any], folder: Path) -> None:
    file = folder / _node(document, "Normalize")["state"]["moments"]
    file.unlink()
    os.mkfifo(file)


HOSTILE_STATE = {
    "a column less": _table("Normalize", "moments", lambda t: t.drop("std")),
    "a column more": _table("Normalize", "moments", lambda t: t.with_columns(x=1)),
    "means that are texts": _table("Normalize", "moments", lambda t: t.with_columns(mean=pl.lit("x"))),
    "no row of its column": _table("Normalize", "moments", lambda t: t.clear()),
    "two rows of one column": _table("Normalize", "moments", lambda t: pl.concat([t, t])),
    "columns without a name": _table("FillMedian", "medians", lambda t: t.with_columns(column=pl.lit(None, pl.String))),
    "negative counts": _table("Categorify", "s", lambda t: t.with_columns(count=pl.lit(-1))),
    "counts that are NaN": _table("Categorify", "s", lambda t: t.with_columns(count=pl.lit(float("nan")))),
    "values that are lists": _table("Categorify", "s", lambda t: t.with_columns(value=pl.lit([1]))),
    "a value twice": _table("Categorify", "s", lambda t: t.with_columns(value=pl.lit("a"))),
    "a type that is none": _table("ReduceDtypeSize", "sizes", lambda t: t.with_columns(dtype=pl.lit("object"))),
    "rows beyond the matrix": _table("ColumnSimilarity", "left", lambda t: t.with_columns(row=pl.col("row") + 9)),
    "rows in no order": _table("ColumnSimilarity", "left", lambda t: t.reverse()),
    "counts beyond the column's type": _table("JoinGroupby", "groups.s", lambda t: t.with_columns(count=2**40)),
    "a fold that is none": _table("TargetEncoding", "folds.s", lambda t: t.with_columns(fold=pl.lit(-1))),
    "a small file of many rows": _bomb,
    "a link to another folder": _link,
    "a folder that is a link": _linked_folder,
    "a pipe": _pipe,
}


@pytest.mark.parametrize("change", HOSTILE_STATE.values(), ids=HOSTILE_STATE)
def test_hostile_state_is_refused(change: Any, tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    GRAPHS["keeps"].save(folder)
    document = json.loads((folder / "graph.json").read_text())
    waits = change is _pipe  # its fingerprint cannot be known without reading it
    change(document, folder)
    if not waits:
        write(document, folder)
    assert use(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5_000, "1" * 100_000, '{"format": 1e999}'])
def test_hostile_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(text)
    with pytest.raises(ArtifactError):
        FeatureGraph.load(tmp_path)


VALUES = st.sampled_from(
    (
        *(None, True, False, 0, -1, 1, 2, 10**6, 10**12, 2**63, 10**30, -(10**30)),
        *(0.5, float("nan"), float("inf"), 1e300, 10**400),
        *("", "x", "s", "f", "i", "../x", "a\0b", "a\nb", "\ud800", "x" * 20_000),
        *("int64", "uint8", "float32", "string", "datetime", "bool"),
        *([], {}, [1], ["s"], [["s"]], {"s": 1}, {"f": [1]}, ["column", "f"], _nested(50), list(range(100))),
    )
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*path, key)
        yield from _places(each, (*path, key))


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def _mutate(document: dict[str, Any], data: st.DataObject) -> None:
    places = [path for path in _places(document) if path[0] in ("inputs", "nodes", "outputs")]
    if not places:
        return
    *path, key = data.draw(st.sampled_from(places))
    parent = _at(document, tuple(path))
    how = data.draw(st.sampled_from(["value", "value", "value", "copy", "drop", "repeat"]))
    if how == "value":
        parent[key] = copy.deepcopy(data.draw(VALUES))
    elif how == "copy":
        parent[key] = copy.deepcopy(_at(document, data.draw(st.sampled_from(places))))
    elif how == "drop":
        del parent[key]
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))


CELLS = st.sampled_from(["drop", "cast", "null", "negative", "nan", "clear", "double", "reverse", "rename", "text"])


def _mutate_state(document: dict[str, Any], folder: Path, data: st.DataObject) -> None:
    files = [(node["op"], file) for node in document["nodes"] for file in (node["state"] or {}).values()]
    if not files:
        return
    file = folder / data.draw(st.sampled_from(sorted(files)))[1]
    table = pl.read_parquet(file)
    name = data.draw(st.sampled_from(table.columns))
    numbers = pl.Series(name, range(table.height))
    changes = {
        "drop": lambda: table.drop(name),
        "cast": lambda: table.with_columns(numbers.cast(data.draw(st.sampled_from(DTYPES)))),
        "null": lambda: table.with_columns(pl.lit(None, table[name].dtype).alias(name)),
        "negative": lambda: table.with_columns(pl.lit(-(2**63), pl.Int64).alias(name)),
        "nan": lambda: table.with_columns(pl.lit(float("nan")).alias(name)),
        "clear": table.clear,
        "double": lambda: pl.concat([table, table]),
        "reverse": table.reverse,
        "rename": lambda: table.rename({name: f"{name}\n"}),
        "text": lambda: table.with_columns(pl.lit("x").alias(name)),
    }
    changed = changes[data.draw(CELLS)]()
    changed.write_parquet(file.with_suffix(".new"))
    file.with_suffix(".new").rename(file)


DTYPES = [pl.Int8, pl.UInt64, pl.Float32, pl.String, pl.Boolean, pl.Datetime("ns"), pl.List(pl.Int64)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_changed_graph_works_or_is_refused(data: st.DataObject, saved: dict[str, Path]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(saved[data.draw(st.sampled_from(sorted(saved)))], Path(temporary) / "graph"))
        document = json.loads((folder / "graph.json").read_text())
        if data.draw(st.integers(0, 3)) == 0:
            _mutate_state(document, folder, data)
        for _ in range(data.draw(st.integers(1, 2))):
            _mutate(document, data)
        write(document, folder)
        use(folder)
