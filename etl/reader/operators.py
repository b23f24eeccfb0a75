"""The operators that a FeatureGraph knows: one rule each for reading NVTabular's object and for making it again.

To add one: write its rule here, its lowering in etl/compiler/lowering, and, if it is fitted, its rule in etl/fit.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.dtypes import dtype
from etl.graph import TAGGING, OpNode, vocabulary_of

State = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Rule:
    """How one operator is read: arguments, what cannot be read (the reason, or ""), state; and how it is made."""

    params: Callable[[Any, Any], dict[str, Any]]
    make: Callable[[Any, OpNode], Any]
    reason: Callable[[Any], str] = lambda op: ""
    state: Callable[[Any, OpNode, Mapping[str, str]], State] | None = None


def operator_name(op: Any) -> str:
    """Return the name of an NVTabular operator object in a graph."""
    name = type(op).__name__
    return "AddMetadata" if name in TAGGING else name


def plain(value: Any) -> Any:
    """Return an argument as a JSON value: NumPy numbers as Python's, types by name, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type | np.dtype):
        return np.dtype(value).name
    return getattr(value, "value", value)


def _attributes(*names: str) -> Callable[[Any, Any], dict[str, Any]]:
    return lambda op, selector: {name: plain(getattr(op, name)) for name in names}


def _same_arguments(ops: Any, node: OpNode) -> Any:
    return getattr(ops, node.op)(**node.params)


def _out_dtype(op: Any, selector: Any) -> dict[str, Any]:
    return {"out_dtype": None if op.out_dtype is None else np.dtype(op.out_dtype).name}


def _categorify_params(op: Any, selector: Any) -> dict[str, Any]:
    names = ("freq_threshold", "max_size", "num_buckets", "encode_type")
    params = {name: plain(getattr(op, name)) for name in names}
    params["dtype"] = None if op.dtype is None else np.dtype(op.dtype).name
    smallest = 1 if op.encode_type == "combo" else 2
    groups = [list(group.names) for group in selector.subgroups if len(group.names) >= smallest]
    return {**params, "groups": groups} if groups else params


def _categorify_reason(op: Any) -> str:
    if op.single_table:
        return "single_table=True gives nulls and unknown values the codes of real categories."
    if op.vocabs:
        return "vocabularies passed as `vocabs` are not read."
    if op.encode_type == "combo" and op.name_sep != "_":
        return "name_sep must be '_' for a combined column."
    if op.encode_type == "combo" and op.fitted:
        return "the fitted vocabulary of a combined column is not read."
    return ""


def _categorify_state(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
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


def _moments(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    names = [ref.column for ref in node.inputs]
    schema = {"column": pl.String, "count": pl.Int64, "mean": pl.Float64, "std": pl.Float64}
    # NVTabular does not keep the count.
    rows = [(name, None, op.means[name], op.stds[name]) for name in names]
    return {"moments": pl.DataFrame(rows, schema=schema, orient="row")}


def _ranges(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    names = [ref.column for ref in node.inputs]
    columns = {"column": names, "min": [float(op.mins[n]) for n in names], "max": [float(op.maxs[n]) for n in names]}
    return {"ranges": pl.DataFrame(columns)}


def _make_categorify(ops: Any, node: OpNode) -> Any:
    return ops.Categorify(**{name: value for name, value in node.params.items() if name != "groups"})


def _make_list_slice(ops: Any, node: OpNode) -> Any:
    """Return NVTabular's ListSlice; with `pad`, one that pads on the CPU too (NVTabular's own does nothing there)."""
    params = node.params
    if not params["pad"]:
        return ops.ListSlice(**params)

    # Made here and not at the top, so that cloudpickle writes it into a saved workflow, which then needs no Mews.
    class ListSlice(ops.ListSlice):  # type: ignore[misc]
        def transform(self, col_selector: Any, df: Any) -> Any:
            found = type(df)()
            for name in col_selector.names:
                rows = [list(() if row is None else row)[self.start : self.end] for row in df[name]]
                kind = next((type(row[0]) for row in rows if row), float)
                found[name] = [row + [kind(self.pad_value)] * (self.max_elements - len(row)) for row in rows]
            return found

    return ListSlice(**params)


def _list_slice_params(op: Any, selector: Any) -> dict[str, Any]:
    end = None if op.end == np.iinfo(np.int64).max else int(op.end)
    return {"start": int(op.start), "end": end, "pad": bool(op.pad), "pad_value": plain(op.pad_value)}


def _rename_params(op: Any, selector: Any) -> dict[str, Any]:
    # A function has no JSON form; the names it made are those of the node's outputs.
    return {} if op.f else {name: getattr(op, name) for name in ("postfix", "name") if getattr(op, name) is not None}


def _make_rename(ops: Any, node: OpNode) -> Any:
    if node.params:
        return _same_arguments(ops, node)
    names = {ref.column: column.name for ref, column in zip(node.inputs, node.outputs, strict=True)}
    return ops.Rename(f=names.__getitem__)


def _boundaries(op: Any, selector: Any) -> dict[str, Any]:
    return {"boundaries": {name: plain(op.boundaries(name)) for name in selector.names}}


def _metadata(op: Any, selector: Any) -> dict[str, Any]:
    return {"tags": sorted(str(plain(tag)) for tag in op.tags), "properties": plain(op.properties)}


RULES: dict[str, Rule] = {
    "AddMetadata": Rule(_metadata, _same_arguments),
    "Bucketize": Rule(_boundaries, _same_arguments),
    "Categorify": Rule(_categorify_params, _make_categorify, _categorify_reason, _categorify_state),
    "Clip": Rule(_attributes("min_value", "max_value"), _same_arguments),
    "FillMissing": Rule(_attributes("fill_val", "add_binary_cols"), _same_arguments),
    "ListSlice": Rule(_list_slice_params, _make_list_slice),
    "LogOp": Rule(_attributes(), _same_arguments),
    "Normalize": Rule(_out_dtype, _same_arguments, state=_moments),
    "NormalizeMinMax": Rule(_out_dtype, _same_arguments, state=_ranges),
    "Rename": Rule(_rename_params, _make_rename),
}
"""Every operator by its name in a graph."""
