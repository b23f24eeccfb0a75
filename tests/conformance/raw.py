"""Graphs that show a raw column as it came through the request's door: its codes, or its values with nulls filled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
WIDTH = 5
FILL = {"fill_val": 7.5, "add_binary_cols": False}
WHEN = datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC)
VALUES: dict[str, list[Any]] = {
    **{name: [7, 0, 100, 7, 55] for name in INTEGERS},
    **{name: [0.5, -1.5, 0.0, 1024.0, 3.25] for name in FLOATS},
    "bool": [True, False, True, True, False],
    "string": ["a", "é", "日本", "a", "unknown"],
    "datetime": [WHEN.replace(tzinfo=None, year=year) for year in (2024, 1904, 2400, 2024, 1972)],
}


def node_of(op: str, column: Column, output: Column, params: Mapping[str, Any], state: Any = None) -> OpNode:
    return OpNode(f"{op}_{column.name}", op, (Ref(INPUT, column.name),), (output,), params, state)


def codes(column: Column) -> OpNode:
    """Categorify over the first three values of the column's type."""
    kind = pl.Datetime("us") if column.dtype == "datetime" else getattr(pl, _POLARS.get(column.dtype, ""), None)
    values = pl.Series(list(dict.fromkeys(VALUES[column.dtype][:3])), dtype=kind)
    table = pl.DataFrame({"value": values, "count": [9] * len(values)})
    out = Column(column.name, "int64", column.is_list, column.length)
    return node_of("Categorify", column, out, {}, {column.name: table})


_POLARS = {name: name.replace("uint", "UInt").replace("int", "Int").replace("float", "Float") for name in INTEGERS}
_POLARS |= {"float32": "Float32", "float64": "Float64", "bool": "Boolean", "string": "String"}


def graph_of(*columns: Column) -> FeatureGraph:
    """Return a graph with a key that is never null, the codes of each column, and its values with nulls filled."""
    key = Column("key", "int64")
    nodes, outputs = [codes(key)], [Ref("Categorify_key", "key")]
    for column in columns:
        made = None if column.is_list else node_of("FillMissing", column, column, FILL)
        made = made if column.dtype in FLOATS else codes(column)
        nodes += [made] if made else []
        outputs.append(Ref(made.id if made else INPUT, column.name))
        if column.is_list and column.length is None:
            out = Column(column.name, made.outputs[0].dtype if made else column.dtype, True, WIDTH)
            cut = {"start": 0, "end": WIDTH, "pad": True, "pad_value": 0}
            nodes.append(OpNode(f"slice_{column.name}", "ListSlice", (outputs.pop(),), (out,), cut))
            outputs.append(Ref(nodes[-1].id, column.name))
    return FeatureGraph((key, *columns), tuple(nodes), tuple(outputs))


def frame_of(column: Column, values: list[Any]) -> pl.DataFrame:
    """Return rows of one column beside the key."""
    kind: Any = pl.Datetime("us") if column.dtype == "datetime" else getattr(pl, _POLARS[column.dtype])
    series = pl.Series(column.name, values, dtype=pl.List(kind) if column.is_list else kind)
    return pl.DataFrame({"key": pl.Series([7] * len(values), dtype=pl.Int64), column.name: series})
