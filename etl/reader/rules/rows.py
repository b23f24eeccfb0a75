"""DifferenceLag, Dropna, Filter and Groupby."""

from __future__ import annotations

from typing import Any

import numpy as np

from etl.graph import OpNode
from etl.operators.rows import AGGREGATIONS
from etl.reader.carried import carried
from etl.reader.rules import Rule, add, plain, same_arguments
from etl.reader.trace import Untraceable, trace_filter

_DTYPES: dict[str, Any] = {"count": np.int32, "nunique": np.int32}
_DTYPES |= dict.fromkeys(("sum", "mean", "std", "var", "median"), np.float32)


def prepare(op: Any) -> None:
    """Let a Groupby (of a copy of a workflow) declare its columns in a fixed order and with the types that they have.

    NVTabular keeps aggregations in sets, and finds a column's type by taking the input's name out of the output's.
    """
    if type(op).__name__ != "Groupby":
        return
    for aggs in (op.list_aggs, op.conv_aggs):
        for name, wanted in aggs.items():
            aggs[name] = sorted(wanted, key=lambda each: AGGREGATIONS.index(each) if each in AGGREGATIONS else -1)
    declare = op.compute_output_schema

    def declared(schema: Any, selector: Any, before: Any = None) -> Any:
        made = declare(schema, selector, before)
        for name, (column,) in op.column_mapping(selector).items():
            how = name.removeprefix(f"{column}{op.name_sep}") if name not in op.groupby_cols else ""
            dtype = _DTYPES.get(how, schema[column].dtype)
            shape = (None, None) if how == "list" else schema[column].shape
            made.column_schemas[name] = made.column_schemas[name].with_dtype(dtype).with_shape(shape)
        return made

    op.compute_output_schema = declared


def _aggregations(op: Any) -> dict[str, list[str]]:
    wanted = {name: [*op.list_aggs.get(name, ()), *op.conv_aggs.get(name, ())] for name in op.conv_aggs}
    return {name: [each for each in AGGREGATIONS if each in found] for name, found in wanted.items()}


def _groupby_params(op: Any, selector: Any) -> dict[str, Any]:
    ascending = [bool(each) for each in op.ascending] if isinstance(op.ascending, list | tuple) else bool(op.ascending)
    return {
        "groupby_cols": list(op.groupby_cols),
        "sort_cols": list(op.sort_cols),
        "aggs": _aggregations(op),
        "name_sep": op.name_sep,
        "ascending": ascending,
    }


def _groupby_reason(op: Any) -> str:
    if not op.groupby_cols:
        return "it has no groupby_cols."
    found = {each for wanted in op.conv_aggs.values() for each in wanted if each is not list}
    unknown = [str(each) for each in found if each not in AGGREGATIONS]
    return f"the aggregation {', '.join(unknown)} is not known: {', '.join(AGGREGATIONS)} are." if unknown else ""


def _lag_params(op: Any, selector: Any) -> dict[str, Any]:
    return {"partition_cols": list(op.partition_cols), "shift": [int(by) for by in op.shifts]}


def _filter_reason(op: Any) -> str:
    try:
        trace_filter(op.f)
    except Untraceable as error:
        return f"its function cannot be recorded: {error}. Write it with comparisons of columns: df[df['x'] > 0]."
    return ""


def _make_filter(ops: Any, node: OpNode) -> Any:
    run, tree = carried("trees").run, node.params["keep"]
    return ops.Filter(lambda frame: run(tree, frame))


def _make_lag(ops: Any, node: OpNode) -> Any:
    selected = {ref.column for ref in node.inputs}
    outputs = {column.name for column in node.outputs}

    # What is only a key is among the columns it reads; NVTabular would make a difference of it too.
    class DifferenceLag(ops.DifferenceLag):  # type: ignore[misc]
        dependencies = None

        def column_mapping(self, col_selector: Any) -> Any:
            return {name: found for name, found in super().column_mapping(col_selector).items() if name in outputs}

        def transform(self, col_selector: Any, df: Any) -> Any:
            columns = {found for by in self.shifts for found in selected if self._column_name(found, by) in outputs}
            return super().transform(type(col_selector)([n for n in col_selector.names if n in columns]), df)

    return DifferenceLag(node.params["partition_cols"], list(node.params["shift"]))


def _make_groupby(ops: Any, node: OpNode) -> Any:
    outputs = {column.name for column in node.outputs}

    # A key that is not selected is among the columns it reads; NVTabular would return it.
    class Groupby(ops.Groupby):  # type: ignore[misc]
        dependencies = None

        def column_mapping(self, col_selector: Any) -> Any:
            return {name: found for name, found in super().column_mapping(col_selector).items() if name in outputs}

    return Groupby(**node.params)


add("DifferenceLag", Rule(_lag_params, _make_lag))
add("Dropna", Rule(lambda op, selector: {}, same_arguments))
add("Filter", Rule(lambda op, selector: {"keep": plain(trace_filter(op.f))}, _make_filter, _filter_reason))
add("Groupby", Rule(_groupby_params, _make_groupby, _groupby_reason))
