"""JoinExternal and ColumnSimilarity, whose tables are arguments: they are read into the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs

from etl.dtypes import from_polars
from etl.errors import ConfigError
from etl.graph import INPUT, Column, OpNode
from etl.reader import door
from etl.reader.rules import Rule, State, add
from etl.reader.rules.joins import groups_in, listed

Dtypes = Mapping[str, str]


def _external_reason(op: Any) -> str:
    if op.how != "left":
        return f"how={op.how!r} drops rows without a match: join left, and drop them after (Filter, Dropna)."
    return ""


def _external_params(op: Any, selector: Any) -> dict[str, Any]:
    return {"on": listed(op.on), "on_ext": listed(op.on_ext)}


def _external_columns(op: Any, node: OpNode, dtypes: Dtypes) -> tuple[Column, ...]:
    """Return the input columns, then those of the external table as its own types; ConfigError for a clash."""
    table, made = _external(op, node), {column.name: column for column in node.outputs}
    passed = {ref.column for ref in node.inputs}
    if clash := [name for name in table.columns if name in passed and name not in _shared_keys(node)]:
        hint = "Choose columns_ext without them."
        raise ConfigError(
            f"JoinExternal: {', '.join(clash)}", expected="columns of other names than the data's", hint=hint
        )
    found = []
    for name, column in made.items():
        kind = (column.dtype, column.is_list) if name in passed else from_polars(table.schema[name])
        found.append(replace(column, dtype=kind[0], is_list=kind[1], length=column.length if name in passed else None))
    return tuple(found)


def _shared_keys(node: OpNode) -> set[str]:
    return {left for left, right in zip(node.params["on"], node.params["on_ext"], strict=True) if left == right}


def _external(op: Any, node: OpNode) -> pl.DataFrame:
    """Return the external table as NVTabular joins it; ConfigError for keys that occur twice."""
    with door.quiet():
        found = op._ext
    table = pl.from_pandas(found.compute() if hasattr(found, "compute") else found)
    strings = [name for name, kind in table.schema.items() if isinstance(kind, pl.Categorical | pl.Enum)]
    table = table.with_columns(pl.col(strings).cast(pl.String), cs.by_dtype(pl.Null).cast(pl.String))
    on = node.params["on_ext"]
    if missing := [name for name in on if name not in table.columns]:
        raise ConfigError(f"JoinExternal: key {', '.join(missing)}", expected=f"some of: {', '.join(table.columns)}")
    if table.select(on).is_duplicated().any():
        hint = "A row would become several: keep one row for each key."
        raise ConfigError("JoinExternal", expected="every key once in the external table", received="twice", hint=hint)
    lists = [name for name, kind in table.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if lists:
        hint = "Choose columns_ext without them."
        raise ConfigError(f"JoinExternal: {', '.join(lists)}", expected="scalar columns", received="lists", hint=hint)
    return table


def _external_state(op: Any, node: OpNode, dtypes: Dtypes) -> State:
    return {"external": _external(op, node)}


def _make_external(ops: Any, node: OpNode) -> Any:
    table = (node.state or {})["external"].to_pandas()
    return ops.JoinExternal(table, on=list(node.params["on"]), on_ext=list(node.params["on_ext"]))


add(
    "JoinExternal",
    Rule(
        _external_params,
        _make_external,
        reason=_external_reason,
        state=_external_state,
        outputs=_external_columns,
        known=lambda op: True,
    ),
)


def _similarity_params(op: Any, selector: Any) -> dict[str, Any]:
    left, right = _matrices(op)
    return {"groups": groups_in(selector), "left_rows": left.shape[0], "right_rows": right.shape[0]}


def _matrices(op: Any) -> tuple[Any, Any]:
    """Return the matrices as NVTabular compares them: normalised by the metric, on the CPU."""
    op.on_device = False
    with np.errstate(all="ignore"):  # a feature that no row has
        op._initialize_features()
    return op.left_features, op.right_features


def _similarity_state(op: Any, node: OpNode, dtypes: Dtypes) -> State:
    return {side: _entries(matrix) for side, matrix in zip(("left", "right"), _matrices(op), strict=True)}


def _entries(matrix: Any) -> pl.DataFrame:
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    places, values = matrix.indices.astype(np.int64), matrix.data.astype(np.float64)
    return pl.DataFrame({"row": rows, "place": places, "value": values})


def _make_similarity(ops: Any, node: OpNode) -> Any:
    """Return a ColumnSimilarity of the normalised matrices, which gives NaN for rows that they do not have."""
    from scipy.sparse import coo_matrix

    found = []
    for side in ("left", "right"):
        table, height = (node.state or {})[side], int(node.params[f"{side}_rows"])
        width = max(int(str((node.state or {})[each]["place"].max() or 0)) for each in ("left", "right")) + 1
        values, places = table["value"].to_numpy(), (table["row"].to_numpy(), table["place"].to_numpy())
        found.append(coo_matrix((values, places), shape=(height, width)))
    heights = [matrix.shape[0] for matrix in found]

    class ColumnSimilarity(ops.ColumnSimilarity):  # type: ignore[misc]
        def transform(self, col_selector: Any, df: Any) -> Any:
            made = df.copy(deep=False)
            selector = type(col_selector)
            for pair in col_selector.grouped_names:
                places = [df[name].fillna(-1).astype("int64").to_numpy() for name in pair]
                inside = [(place >= 0) & (place < height) for place, height in zip(places, heights, strict=True)]
                known = inside[0] & inside[1]
                rows = type(df)({name: np.where(known, place, 0) for name, place in zip(pair, places, strict=True)})
                found = super().transform(selector(subgroups=[selector(list(pair))]), rows)
                name = f"{pair[0]}_{pair[1]}_sim"
                made[name] = np.where(known, found[name].to_numpy(dtype="float64"), np.nan)
            return made

    return ColumnSimilarity(*found, metric="inner", on_device=False)


def _similarity_unmakeable(node: OpNode) -> tuple[str, str] | None:
    if any(ref.node != INPUT for ref in node.inputs):
        return "NVTabular can only pair raw columns.", "Put the operator first."
    return None


add(
    "ColumnSimilarity",
    Rule(
        _similarity_params,
        _make_similarity,
        state=_similarity_state,
        unmakeable=_similarity_unmakeable,
        known=lambda op: True,
    ),
)
