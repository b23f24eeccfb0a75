"""FeatureGraph: an NVTabular workflow as plain data, and its folder on disk.

A graph is a list of operators in the order they run. Every operator names the columns it reads as `Ref(node, column)`:
the node that made the column, and the column's name there. Raw request columns come from the node "input". So the same
name may be used many times along a chain (`price >> FillMissing() >> LogOp()`), as in NVTabular; nothing is ambiguous.

`OpNode.params` holds the arguments of NVTabular's constructor as JSON values. Two keys are ours: Categorify's `groups`,
lists of column names that share a vocabulary (joint) or are encoded together (combo), and `strict_nvtabular`, true
where a fault of NVTabular is to be repeated; absent when there is none.

`OpNode.state` holds one Polars table per key:
    Categorify        <vocabulary>  value, count    in code order: code = row + 2 + buckets; see `vocabulary_of`
                      (value_0, value_1, ... instead of value for combined columns; active after an update that
                      aged values out: those with false keep their row and are unknown)
    JoinGroupby       groups.<key>  value or value_0, ..., count, <stat>_<place of the column in cont_cols>
    TargetEncoding    groups.<key>  value or value_0, ..., count_<place of the target>, sum_<place>
                      folds.<key>   fold and the same, with kfold > 1
                      means         column, mean
    JoinExternal      external      the external table, read with the workflow
    ColumnSimilarity  left, right   row, place, value   the matrices' entries by row, normalised by the metric
    Normalize         moments       column, count, mean, std (ddof 1)
    NormalizeMinMax   ranges        column, min, max
    FillMedian        medians       column, median
    DataStats         stats         column, cardinality (null for floats), min, max, mean, std, per_nan (percent)
    ReduceDtypeSize   sizes         column, dtype, min, max (null but for signed integers)
    ValueCount        lengths       column, min, max (null for scalars)

On disk: `graph.json` (format, version, inputs, nodes, outputs, fingerprint) and `state/<node>.<n>.parquet`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from etl.dtypes import DTYPES
from etl.errors import ConfigError
from etl.operators import facts

INPUT = "input"

_NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(frozen=True)
class Column:
    """One column: its name, the name of its type in etl/dtypes.py, and what Merlin's schema knows of it.

    `length` is the fixed length of a list, None for a ragged one. `cardinality` is the number of codes of a categorical
    column (the largest code + 1), None otherwise.
    """

    name: str
    dtype: str
    is_list: bool = False
    length: int | None = None
    tags: tuple[str, ...] = ()
    cardinality: int | None = None


@dataclass(frozen=True, order=True)
class Ref:
    """The column called `column` as the node `node` made it."""

    node: str
    column: str


@dataclass(frozen=True, eq=False)
class OpNode:
    """One operator: `op` is NVTabular's class name, `params` its arguments as JSON values.

    `state` holds what fit found (tables by key), None before fit and for operators that need none.
    """

    id: str
    op: str
    inputs: tuple[Ref, ...]
    outputs: tuple[Column, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, pl.DataFrame] | None = None

    @property
    def is_fitted(self) -> bool:
        """True when the operator has its state or needs none."""
        return not facts(self.op).fitted or facts(self.op).complete(self)

    def sources(self, output: str) -> tuple[Ref, ...]:
        """Return the inputs that the output column `output` is made from."""
        return facts(self.op).sources(self, output)


@dataclass(frozen=True, eq=False)
class FeatureGraph:
    """Operators in the order they run, from raw columns to features; see the module's docstring.

    Raises ConfigError when a reference points nowhere or forward, or a name is used twice. Two graphs are equal when
    their fingerprints are.
    """

    inputs: tuple[Column, ...]
    nodes: tuple[OpNode, ...]
    outputs: tuple[Ref, ...]

    def __post_init__(self) -> None:
        known = {Ref(INPUT, column.name) for column in self.inputs}
        _refuse_repeated("input column", (column.name for column in self.inputs))
        _refuse_repeated("node", (INPUT, *(node.id for node in self.nodes)))
        _refuse_repeated("output column", (ref.column for ref in self.outputs))
        for node in self.nodes:
            if not _NODE_ID.fullmatch(node.id):
                raise ConfigError("node id", expected="letters, digits, _ and -", received=repr(node.id))
            _refuse_unknown(node.inputs, known, f"{node.op} {node.id}")
            _refuse_repeated(f"output column of {node.id}", (column.name for column in node.outputs))
            known |= {Ref(node.id, column.name) for column in node.outputs}
        _refuse_unknown(self.outputs, known, "graph outputs")
        for node in self.nodes:
            _refuse_other_rows({self.rows[ref.node] for ref in node.inputs}, f"{node.op} {node.id}")
        _refuse_other_rows({self.rows[ref.node] for ref in self.outputs}, "graph outputs")
        for column in (*self.inputs, *(column for node in self.nodes for column in node.outputs)):
            if column.dtype not in DTYPES:
                raise ConfigError(f"column {column.name!r}", expected=", ".join(DTYPES), received=column.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureGraph) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @cached_property
    def columns(self) -> dict[Ref, Column]:
        """Every column by its Ref, cardinalities filled in from the state and carried along the chain."""
        found = {Ref(INPUT, column.name): column for column in self.inputs}
        for node in self.nodes:
            for column in node.outputs:
                codes = facts(node.op).cardinality(node, column.name)
                if codes is None and facts(node.op).passes_through:
                    codes = found[node.sources(column.name)[0]].cardinality
                found[Ref(node.id, column.name)] = replace(column, cardinality=codes)
        return found

    @property
    def output_columns(self) -> tuple[Column, ...]:
        """The feature columns in order, with tags, list lengths and (once fitted) cardinalities."""
        return tuple(self.columns[ref] for ref in self.outputs)

    def columns_tagged(self, *tags: str) -> tuple[Column, ...]:
        """Return the feature columns that carry all of `tags`."""
        return tuple(column for column in self.output_columns if set(tags) <= set(column.tags))

    def raw_columns_of(self, *names: str) -> tuple[str, ...]:
        """Return the raw columns that the feature columns `names` are made from, in the order of the inputs."""
        nodes = {node.id: node for node in self.nodes}
        open_refs = [ref for ref in self.outputs if ref.column in names]
        found: set[str] = set()
        while open_refs:
            ref = open_refs.pop()
            if ref.node == INPUT:
                found.add(ref.column)
            else:
                open_refs += nodes[ref.node].sources(ref.column)
        return tuple(column.name for column in self.inputs if column.name in found)

    @property
    def is_fitted(self) -> bool:
        """True when every operator has its state or needs none."""
        return all(node.is_fitted for node in self.nodes)

    @cached_property
    def rows(self) -> dict[str, str]:
        """By node: the node whose rows its columns have, itself if it changes rows; "input" for those of the data."""
        found = {INPUT: INPUT}
        for node in self.nodes:
            above = next((found[ref.node] for ref in node.inputs), INPUT)
            found[node.id] = above if facts(node.op).rows == "keeps" else node.id
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over the graph and its state; equal on every machine and in every session."""
        text = json.dumps(describe(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def with_state(self, states: Mapping[str, Mapping[str, pl.DataFrame]]) -> FeatureGraph:
        """Return the graph with `states` (tables by key, by node id) in place of what those nodes had."""
        nodes = (replace(node, state=dict(states[node.id])) if node.id in states else node for node in self.nodes)
        return replace(self, nodes=tuple(nodes))

    def remove_inputs(self, names: Collection[str]) -> FeatureGraph:
        """Return the graph without the raw columns `names` and without every column made from them."""
        _refuse_unknown((Ref(INPUT, name) for name in names), self.columns, "columns to remove")
        return self.without({Ref(INPUT, name) for name in names})

    def without(self, refs: Collection[Ref]) -> FeatureGraph:
        """Return the graph without the columns `refs` and without every column made from them."""
        gone, nodes = set(refs), []
        for node in self.nodes:
            made = (column for column in node.outputs if Ref(node.id, column.name) not in gone)
            kept = tuple(column for column in made if not gone & set(node.sources(column.name)))
            gone |= {Ref(node.id, column.name) for column in node.outputs if column not in kept}
            if kept:
                nodes.append(_without(node, gone, kept))
        inputs = tuple(column for column in self.inputs if Ref(INPUT, column.name) not in gone)
        return FeatureGraph(inputs, tuple(nodes), tuple(ref for ref in self.outputs if ref not in gone))

    def save(self, folder: Path) -> None:
        """Write the graph to `folder` (replaced as a whole, atomically)."""
        from etl.graph_folder import save

        save(self, folder)

    @staticmethod
    def load(folder: Path) -> FeatureGraph:
        """Read the graph in `folder`; ArtifactError if a file is missing, changed, truncated or not ours."""
        from etl.graph_folder import load

        return load(folder)


def describe(graph: FeatureGraph) -> dict[str, Any]:
    """Return the graph as JSON values, each state table as the digest of its content."""
    return {
        "inputs": [asdict(column) for column in graph.inputs],
        "nodes": [
            {
                "id": node.id,
                "op": node.op,
                "inputs": [[ref.node, ref.column] for ref in node.inputs],
                "outputs": [asdict(replace(column, cardinality=None)) for column in node.outputs],
                "params": dict(node.params),
                "state": None if node.state is None else {key: digest(table) for key, table in node.state.items()},
            }
            for node in graph.nodes
        ],
        "outputs": [[ref.node, ref.column] for ref in graph.outputs],
    }


def digest(table: pl.DataFrame) -> str:
    """Sha256 (hex) over names, types and values of a state table, independent of chunks and file encodings."""
    found = hashlib.sha256()
    for series in table:
        found.update(f"{series.name}\0{series.dtype}\0{series.len()}\0".encode("utf-8", "surrogatepass"))
        found.update(series.is_null().to_numpy().tobytes())
        if series.dtype == pl.String:
            found.update(series.str.len_bytes().fill_null(0).cast(pl.UInt64).to_numpy().tobytes())
            found.update((series.str.join("").item() or "").encode())
        else:
            found.update(series.fill_null(strategy="zero").to_numpy().tobytes())
    return found.hexdigest()


def _without(node: OpNode, gone: set[Ref], kept: tuple[Column, ...]) -> OpNode:
    """Return `node` with the outputs `kept` only, and without inputs and state that nothing needs any more."""
    state = node.state
    if state is not None:
        state = facts(node.op).without(node, state, [column.name for column in kept])
    needed = {ref for column in kept for ref in node.sources(column.name)}
    unneeded = {ref for column in node.outputs if column not in kept for ref in node.sources(column.name)} - needed
    inputs = tuple(ref for ref in node.inputs if ref not in gone | unneeded)
    return replace(node, inputs=inputs, outputs=kept, state=state)


def _refuse_repeated(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{what} {name!r}", expected="one of that name", received="two")
        seen.add(name)


def _refuse_other_rows(found: Collection[str], where: str) -> None:
    """Raise ConfigError when columns do not have the same rows: an operator dropped or regrouped some of them."""
    if len(found) > 1:
        listed = ", ".join(sorted(found))
        hint = "Pass every column through the operator that changes rows."
        raise ConfigError(f"{where}: its columns", expected="the same rows", received=f"those of {listed}", hint=hint)


def _refuse_unknown(refs: Iterable[Ref], known: Collection[Ref], where: str) -> None:
    for ref in refs:
        if ref not in known:
            listed = ", ".join(sorted({found.column for found in known})) or "none"
            raise ConfigError(f"{where}: column {ref.column!r} of {ref.node!r}", expected=f"one of: {listed}")
