"""FeatureGraph: what it refuses, its fingerprint, its folder, and taking inputs out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl.errors import ArtifactError, ConfigError
from etl.fit import RULES
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.operators import OPERATORS

INPUTS = (Column("s", "string"), Column("t", "string"), Column("f", "float64"))
VOCABULARY = pl.DataFrame({"value": ["a", "日本", "../x"], "count": [3, 2, 1]})
MOMENTS = pl.DataFrame({"column": ["f"], "count": [3], "mean": [0.5], "std": [1.5]})


def graph(state: bool = True) -> FeatureGraph:
    """s and t share a vocabulary; s is renamed; f is normalized."""
    refs = (Ref("input", "s"), Ref("input", "t"))
    codes = (Column("s", "int64", tags=("categorical",)), Column("t", "int64", tags=("categorical", "item")))
    joint = OpNode("c", "Categorify", refs, codes, {"groups": [["s", "t"]]}, {"s_t": VOCABULARY} if state else None)
    normal = OpNode(
        "n", "Normalize", (Ref("input", "f"),), (Column("f", "float64"),), {}, {"moments": MOMENTS} if state else None
    )
    rename = OpNode("r", "Rename", (Ref("c", "s"),), (Column("user", "int64"),), {"name": "user"})
    return FeatureGraph(INPUTS, (joint, normal, rename), (Ref("r", "user"), Ref("c", "t"), Ref("n", "f")))


def test_output_columns_know_their_cardinality_along_the_chain() -> None:
    assert [column.cardinality for column in graph().output_columns] == [6, 6, None]
    assert [column.cardinality for column in graph(state=False).output_columns] == [None, None, None]
    assert [column.name for column in graph().columns_tagged("categorical", "item")] == ["t"]


def test_fitted_is_known() -> None:
    assert graph().is_fitted
    assert not graph(state=False).is_fitted
    assert set(RULES) == {name for name, operator in OPERATORS.items() if operator.fitted}


@pytest.mark.parametrize(
    "make",
    [
        lambda: FeatureGraph((*INPUTS, INPUTS[0]), (), ()),
        lambda: FeatureGraph(INPUTS, (), (Ref("input", "nowhere"),)),
        lambda: FeatureGraph(INPUTS, (), (Ref("input", "s"), Ref("input", "s"))),
        lambda: FeatureGraph((Column("s", "text"),), (), ()),
        lambda: FeatureGraph(INPUTS, (OpNode("../up", "LogOp", (), ()),), ()),
        lambda: FeatureGraph(INPUTS, (OpNode("a", "LogOp", (Ref("b", "f"),), ()), OpNode("b", "LogOp", (), ())), ()),
        lambda: FeatureGraph(INPUTS, (OpNode("a", "LogOp", (), ()), OpNode("a", "LogOp", (), ())), ()),
        lambda: FeatureGraph(INPUTS, (OpNode("input", "LogOp", (), ()),), ()),
        lambda: graph().remove_inputs(["nowhere"]),
    ],
)
def test_what_points_nowhere_or_is_there_twice_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_fingerprint_follows_graph_and_state_only() -> None:
    same, first = graph(), graph()
    assert same.fingerprint == first.fingerprint
    assert same == first
    assert hash(same) == hash(first)
    chunks = first.with_state({"c": {"s_t": pl.concat([VOCABULARY.head(1), VOCABULARY.tail(2)], rechunk=False)}})
    assert chunks.fingerprint == first.fingerprint
    changed = [
        first.with_state({"n": {"moments": MOMENTS.with_columns(mean=pl.lit(0.25))}}),
        first.with_state({"c": {"s_t": VOCABULARY.reverse()}}),
        first.with_state({"c": {"s_t": VOCABULARY.with_columns(value=pl.Series(["a日", "本", "../x"]))}}),
        replace(first, outputs=first.outputs[::-1]),
        first.remove_inputs(["f"]),
        graph(state=False),
    ]
    assert len({each.fingerprint for each in (*changed, first)}) == len(changed) + 1


def test_a_saved_graph_loads_as_it_was(tmp_path: Path) -> None:
    saved = graph()
    saved.save(tmp_path / "graph")
    loaded = FeatureGraph.load(tmp_path / "graph")
    assert loaded == saved
    assert loaded.output_columns == saved.output_columns
    assert (loaded.nodes[0].state or {})["s_t"].equals(VOCABULARY)
    graph(state=False).save(tmp_path / "graph")
    assert not FeatureGraph.load(tmp_path / "graph").is_fitted
    assert not list(tmp_path.glob(".*")), "temporary folders are gone"


def _edit(folder: Path, change: Any) -> None:
    path = folder / "graph.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


TAMPERED = {
    "no graph.json": lambda f: (f / "graph.json").unlink(),
    "truncated json": lambda f: (f / "graph.json").write_text((f / "graph.json").read_text()[:-20]),
    "not an object": lambda f: (f / "graph.json").write_text("[]"),
    "another format": lambda f: _edit(f, lambda d: d.update(format="other")),
    "a newer version": lambda f: _edit(f, lambda d: d.update(version=99)),
    "no inputs": lambda f: _edit(f, lambda d: d.pop("inputs")),
    "inputs of another type": lambda f: _edit(f, lambda d: d.update(inputs={"s": 1})),
    "a name that is a number": lambda f: _edit(f, lambda d: d["inputs"][0].update(name=1)),
    "a length that is a bool": lambda f: _edit(f, lambda d: d["inputs"][0].update(length=True)),
    "a field more": lambda f: _edit(f, lambda d: d["inputs"][0].update(extra=1)),
    "an operator changed": lambda f: _edit(f, lambda d: d["nodes"][1].update(op="LogOp")),
    "a parameter changed": lambda f: _edit(f, lambda d: d["nodes"][1]["params"].update(out_dtype="float32")),
    "a reference forward": lambda f: _edit(f, lambda d: d["nodes"][0].update(inputs=[["r", "user"]])),
    "state outside": lambda f: _edit(f, lambda d: d["nodes"][0]["state"].update(s_t="../other.parquet")),
    "state at an absolute path": lambda f: _edit(f, lambda d: d["nodes"][0]["state"].update(s_t="/etc/passwd")),
    "state that is a number": lambda f: _edit(f, lambda d: d["nodes"][0]["state"].update(s_t=5)),
    "state missing": lambda f: next((f / "state").glob("c.*")).unlink(),
    "state truncated": lambda f: next((f / "state").glob("c.*")).write_bytes(b"PAR1 no"),
    "state changed": lambda f: VOCABULARY.reverse().write_parquet(next((f / "state").glob("c.*"))),
    "state dropped": lambda f: _edit(f, lambda d: d["nodes"][0].update(state=None)),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_a_folder_that_was_changed_is_refused(tamper: Any, tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    graph().save(folder)
    VOCABULARY.write_parquet(tmp_path / "other.parquet")
    tamper(folder)
    with pytest.raises(ArtifactError):
        FeatureGraph.load(folder)


def test_removing_an_input_removes_what_is_made_from_it() -> None:
    smaller = graph().remove_inputs(["s"])
    assert [column.name for column in smaller.inputs] == ["t", "f"]
    assert [ref.column for ref in smaller.outputs] == ["t", "f"]
    assert [node.id for node in smaller.nodes] == ["c", "n"]
    assert list(smaller.nodes[0].state or {}) == ["s_t"], "t still needs the shared vocabulary"
    assert smaller.output_columns[0].cardinality == 6
    assert [node.id for node in graph().remove_inputs(["s", "t"]).nodes] == ["n"]
    assert graph().remove_inputs([]) == graph()


def test_removing_an_input_of_fill_missing_removes_its_flag() -> None:
    refs = (Ref("input", "f"), Ref("input", "s"))
    names = [("f", "float64"), ("s", "string"), ("f_filled", "bool"), ("s_filled", "bool")]
    fill = OpNode("m", "FillMissing", refs, tuple(Column(*name) for name in names), {"add_binary_cols": True})
    whole = FeatureGraph(INPUTS, (fill,), tuple(Ref("m", name) for name, _ in names))
    assert [ref.column for ref in whole.remove_inputs(["s"]).outputs] == ["f", "f_filled"]
