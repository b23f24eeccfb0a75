"""Rename, tags, and the plumbing of selections."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import Case


def _without(node: Any, name: str) -> Any:
    """A node minus a node; minus a name, NVTabular 23.08 keeps that column and drops the others."""
    return node - node[[name]]


def _subgraph(o: Any) -> Any:
    from merlin.dag.ops.subgraph import Subgraph

    return (["i", "f"] >> Subgraph("part", ["i", "f"] >> o.LogOp() >> o.Rename(postfix="_log"))) + ["s"]


CASES = [
    Case("subgraph", _subgraph),
    Case("grouping", lambda o: [["s", "t"], "i"] >> o.AddMetadata(tags=["group"])),
    Case("tags-chain", lambda o: ["i"] >> o.AddTags(["a"]) >> o.AddProperties({"p": 1}) >> o.TagAsUserFeatures()),
    Case("tag-item-features", lambda o: ["s", "f"] >> o.TagAsItemFeatures()),
    Case("rename-twice", lambda o: ["i", "f"] >> o.Rename(postfix="_a") >> o.Rename(f=str.upper)),
    Case("rename-empty-postfix", lambda o: ["i"] >> o.Rename(postfix="", name="renamed")),
    Case("select", lambda o: ["i", "f", "s"] >> o.AddMetadata(tags=["x"])),
    Case("rename-postfix", lambda o: ["i", "f"] >> o.LogOp() >> o.Rename(postfix="_log")),
    Case("rename-name", lambda o: ["s"] >> o.Categorify() >> o.Rename(name="category")),
    Case("rename-function", lambda o: ["i"] >> o.Rename(f=lambda name: f"raw_{name}")),
    Case("tags", lambda o: (["s"] >> o.Categorify() >> o.TagAsUserID()) + (["t"] >> o.Categorify() >> o.TagAsItemID())),
    Case("concatenation", lambda o: (["s"] >> o.Categorify()) + (["f"] >> o.FillMissing()) + ["i"]),
    Case("subtraction", lambda o: _without(["i", "f", "f32"] >> o.LogOp(), "f") >> o.Normalize()),
    Case("subset", lambda o: (["i", "f", "f32"] >> o.LogOp())[["f32", "i"]]),
    Case(
        "one-column-twice",
        lambda o: (["f"] >> o.FillMissing() >> o.Rename(postfix="_filled")) + (["f"] >> o.LogOp()),
    ),
    Case("lists-and-scalars", lambda o: (["l", "ls"] >> o.Categorify()) + (["n"] >> o.FillMissing()) + ["i"]),
]
