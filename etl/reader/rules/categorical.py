"""Categorify."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.dtypes import dtype
from etl.graph import INPUT, OpNode
from etl.operators.categorical import buckets_of, groups_of, vocabulary_of
from etl.reader.rules import Rule, State, add, plain

_SAFE_NAME = re.compile(r"[\w .=-]+")


def _params(op: Any, selector: Any) -> dict[str, Any]:
    names = ("freq_threshold", "max_size", "num_buckets", "encode_type")
    params = {name: plain(getattr(op, name)) for name in names}
    params["dtype"] = None if op.dtype is None else np.dtype(op.dtype).name
    smallest = 1 if op.encode_type == "combo" else 2
    groups = [list(group.names) for group in selector.subgroups if len(group.names) >= smallest]
    return {**params, "groups": groups} if groups else params


def _reason(op: Any) -> str:
    if op.single_table:
        return "single_table=True gives nulls and unknown values the codes of real categories."
    if op.vocabs:
        return "vocabularies passed as `vocabs` are not read."
    if op.encode_type == "combo" and op.name_sep != "_":
        return "name_sep must be '_' for a combined column."
    if op.encode_type == "combo" and op.fitted:
        return "the fitted vocabulary of a combined column is not read."
    return ""


def _state(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    found = {}
    for ref in node.inputs:
        stored, ours = op.storage_name.get(ref.column, ref.column), vocabulary_of(node, ref.column)
        if ours not in found:
            # NVTabular counts integers with nulls as float64 keys.
            kind = dtype(dtypes[ref.column]).polars
            found[ours] = _vocabulary(Path(op.categories[stored]), stored).with_columns(pl.col("value").cast(kind))
    return found


def _vocabulary(path: Path, key: str) -> pl.DataFrame:
    """Read a `unique.<key>.parquet` of NVTabular: a file, or a folder of parts; absent when it saw no value."""
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.parquet"), key=lambda part: int(part.stem.rpartition(".")[2]))
    tables = [pl.read_parquet(file) for file in files if file.exists()]
    if not tables:
        return pl.DataFrame(schema={"value": pl.String, "count": pl.Int64})
    table = pl.concat(tables)
    size = f"{key}_size"
    count = pl.col(size).cast(pl.Int64) if size in table.columns else pl.lit(0, dtype=pl.Int64)
    return table.select(pl.col(key).alias("value"), count.alias("count")).drop_nulls("value")


def _make(ops: Any, node: OpNode) -> Any:
    return ops.Categorify(**{name: value for name, value in node.params.items() if name != "groups"})


def _unmakeable(node: OpNode) -> tuple[str, str] | None:
    if any(buckets_of(node, ref.column) > 1 for ref in node.inputs):
        return "NVTabular hashes unknown values differently.", "Leave out num_buckets to get a workflow."
    if node.params.get("encode_type", "joint") == "combo":
        return "combined columns are not written back.", "Use the graph's own plans."
    if groups_of(node) and any(ref.node != INPUT for ref in node.inputs):
        return "NVTabular can only encode raw columns jointly.", "Put the Categorify first."
    return None


def _restore(op: Any, node: OpNode, tables: Path) -> None:
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


add("Categorify", Rule(_params, _make, _reason, _state, _unmakeable, _restore))
