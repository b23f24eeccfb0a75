"""FeatureGraph to a fitted nvtabular.Workflow that holds our statistics."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from etl.errors import CompileError, ConfigError, Problem
from etl.graph import INPUT, FeatureGraph, OpNode, Ref, buckets_of, groups_of
from etl.reader import door
from etl.reader.columns import to_merlin
from etl.reader.operators import RULES

_SAFE_NAME = re.compile(r"[\w .=-]+")


def hydrate(graph: FeatureGraph, folder: Path | None = None) -> Any:
    """Return a fitted nvtabular.Workflow whose transform gives what the graph's plans give.

    Two readings stay NVTabular's own: an empty string is a value, not a null, and a null inside a list is unknown.
    The tables of Categorify are written below `folder`; without one, to a temporary folder that lives as long as the
    workflow. Raises ConfigError for a graph that is not fitted, CompileError for what NVTabular computes otherwise.
    """
    if not graph.is_fitted:
        raise ConfigError("hydrate", expected="a fitted graph", received="one without statistics", hint="Fit it first.")
    problems = [problem for node in graph.nodes if (problem := _refusal(node)) is not None]
    if problems:
        raise CompileError(problems)
    nvtabular = door.nvtabular()
    target = Path(tempfile.mkdtemp(prefix="mews-workflow-")) if folder is None else folder
    # NVTabular caches these tables by path: another graph must never be read from the same one.
    tables = target / "categories" / graph.fingerprint[:12]
    with door.quiet():
        made: dict[str, Any] = {}
        for node in graph.nodes:
            op = RULES[node.op].make(nvtabular.ops, node)
            _restore(op, node, graph, tables)
            made[node.id] = _source(graph, node.inputs, made, groups_of(node)) >> op
        workflow = nvtabular.Workflow(_source(graph, graph.outputs, made))
        workflow.fit_schema(to_merlin(graph.inputs))
    if folder is None:
        weakref.finalize(workflow, shutil.rmtree, target, ignore_errors=True)
    return workflow


def _refusal(node: OpNode) -> Problem | None:
    names = tuple(ref.column for ref in node.inputs)
    reason, instead = "", ""
    if node.op not in RULES:
        reason, instead = "the operator is not NVTabular's.", "Use the graph's own plans."
    elif node.op == "Categorify" and any(buckets_of(node, name) > 1 for name in names):
        reason, instead = "NVTabular hashes unknown values differently.", "Leave out num_buckets to get a workflow."
    elif node.op == "Categorify" and node.params.get("encode_type", "joint") == "combo":
        reason, instead = "combined columns are not written back.", "Use the graph's own plans."
    elif groups_of(node) and any(ref.node != INPUT for ref in node.inputs):
        reason, instead = "NVTabular can only encode raw columns jointly.", "Put the Categorify first."
    return Problem(node.op, names, "nvtabular.Workflow", reason, instead) if reason else None


def _source(graph: FeatureGraph, refs: Sequence[Ref], made: dict[str, Any], groups: Iterable[list[str]] = ()) -> Any:
    """Return a Merlin node with the columns `refs` in order, joint groups kept together."""
    from merlin.dag import ColumnSelector, Node

    names = [ref.column for ref in refs]
    if all(ref.node == INPUT for ref in refs):
        grouped = [list(group) for group in groups]
        single = [name for name in names if not any(name in group for group in grouped)]
        return Node(ColumnSelector([*single, *grouped]))
    pieces = [_piece(graph, source, refs, made) for source in dict.fromkeys(ref.node for ref in refs)]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    return whole[names] if len(pieces) > 1 else whole


def _piece(graph: FeatureGraph, source: str, refs: Sequence[Ref], made: dict[str, Any]) -> Any:
    from merlin.dag import ColumnSelector, Node

    names = [ref.column for ref in refs if ref.node == source]
    if source == INPUT:
        return Node(ColumnSelector(names))
    outputs = next([column.name for column in node.outputs] for node in graph.nodes if node.id == source)
    return made[source] if names == outputs else made[source][names]


def _restore(op: Any, node: OpNode, graph: FeatureGraph, tables: Path) -> None:
    """Give a new NVTabular operator the statistics of `node`."""
    if node.state is None:
        return
    if node.op == "Categorify":
        _restore_categorify(op, node, tables)
    elif node.op == "Normalize":
        rows = node.state["moments"].rows(named=True)
        op.means = {row["column"]: row["mean"] for row in rows}
        op.stds = {row["column"]: row["std"] for row in rows}
    else:
        rows = node.state["ranges"].rows(named=True)
        op.mins = {row["column"]: row["min"] for row in rows}
        op.maxs = {row["column"]: row["max"] for row in rows}
    op.fitted = True


def _restore_categorify(op: Any, node: OpNode, tables: Path) -> None:
    tables.mkdir(parents=True, exist_ok=True)
    op.out_path = str(tables.parent.parent)
    op.storage_name = {name: "_".join(group) for group in groups_of(node) for name in group}
    for number, (key, table) in enumerate((node.state or {}).items()):
        file = key if _SAFE_NAME.fullmatch(key) else str(number)
        path = tables / f"{node.id}.unique.{file}.parquet"
        _write_vocabulary(table, key, path)
        op.categories[key] = str(path)


def _write_vocabulary(table: pl.DataFrame, key: str, path: Path) -> None:
    """Write one vocabulary as NVTabular does: the code is the index; one bucket for unknown values."""
    import pandas

    values = table["value"]
    integers = values.dtype.is_integer()
    # pandas' Int64 matches a plain integer column and one that became float64 for its nulls, without rounding keys.
    series = pandas.Series(values.to_list(), dtype="Int64" if integers else None if table.height else object)
    frame = pandas.DataFrame({key: series, f"{key}_size": table["count"].to_numpy()})
    frame.index = pandas.RangeIndex(start=3, stop=3 + len(frame))
    frame.to_parquet(path, compression=None)
