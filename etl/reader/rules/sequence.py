"""Operators on lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from etl.graph import Column, OpNode
from etl.reader.rules import Rule, add, plain


def _make_list_slice(ops: Any, node: OpNode) -> Any:
    """Return NVTabular's ListSlice; with `pad`, one that pads on the CPU too (NVTabular's own does nothing there)."""
    params = {name: value for name, value in node.params.items() if name != "strict_nvtabular"}
    if not params["pad"] or node.params.get("strict_nvtabular"):
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


def _outputs(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> tuple[Column, ...]:
    """Under strict_nvtabular a list that should be padded is not, whatever NVTabular's schema says."""
    if not node.params.get("strict_nvtabular"):
        return node.outputs
    return tuple(replace(column, length=None) for column in node.outputs)


add("ListSlice", Rule(_list_slice_params, _make_list_slice, outputs=_outputs))
