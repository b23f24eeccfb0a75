"""LambdaOp: its function is run once on stand-ins for columns, or kept for batch when that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from etl.compiler import bridge
from etl.compiler.expr import Col, Refusal
from etl.compiler.lowering import type_of
from etl.compiler.lowering.traced import lower_tree
from etl.graph import OpNode
from etl.reader.carried import carried
from etl.reader.columns import TO_MERLIN, from_merlin
from etl.reader.rules import Rule, add, plain
from etl.reader.trace import Untraceable, trace_column

_BRIDGED = "_mews_bridged"


def prepare(op: Any, bridge_lambdas: bool) -> None:
    """Let a LambdaOp (of a copy of a workflow) declare the types that its function makes, not the input's."""
    if type(op).__name__ not in ("UDF", "LambdaOp"):
        return
    setattr(op, _BRIDGED, bridge_lambdas)
    declare = op.compute_output_schema

    def declared(schema: Any, selector: Any, before: Any = None) -> Any:
        made = declare(schema, selector)
        for name, dtype in _types(op, schema, made.column_names).items():
            made.column_schemas[name] = made.column_schemas[name].with_dtype(dtype)
        return made

    op.compute_output_schema = declared


def _types(op: Any, schema: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the types of outputs as Merlin's; none for a function that cannot be run on such columns."""
    import merlin.dtypes

    columns = {name: from_merlin(schema[name]) for name in schema.column_names}
    inputs = {name: Col(name, type_of(column)) for name, column in columns.items() if column.dtype != "unknown"}
    found = {}
    for name in names:
        try:
            dtype = lower_tree(trace_column(op.f, name), inputs).type.dtype
        except Untraceable:
            dtype = _type_by_running(op, name, columns) if getattr(op, _BRIDGED) else ""
        except Refusal:
            dtype = ""
        if dtype:
            found[name] = getattr(merlin.dtypes, TO_MERLIN.get(dtype, dtype))
    return found


def _type_by_running(op: Any, name: str, columns: dict[str, Any]) -> str:
    """Return the type that a function makes of no rows, or the one that its user declared."""
    import numpy as np
    import polars as pl

    from etl.dtypes import dtype as dtype_named
    from etl.dtypes import from_polars

    if op._dtype is not None:
        return str(np.dtype(op._dtype).name)
    types = {key: dtype_named(column.dtype).polars for key, column in columns.items()}
    try:
        made = bridge.run(bridge.keep(op.f), name, pl.DataFrame(schema=types))
        return from_polars(pl.Series(made).dtype)[0]
    except Exception:  # the user's function: it may need rows
        return ""


def _reason(op: Any) -> str:
    if getattr(op, _BRIDGED, False):
        return ""
    try:
        trace_column(op.f, "x")
    except Untraceable as error:
        return (
            f"its function cannot be recorded: {error}. "
            "read(workflow, bridge_lambdas=True) runs it as Python, in batch only."
        )
    return ""


def _params(op: Any, selector: Any) -> dict[str, Any]:
    names = list(op.column_mapping(selector))
    said = {"tags": sorted(str(plain(tag)) for tag in op._tags), "properties": plain(op._properties)}
    said = {key: value for key, value in said.items() if value}
    try:
        return {"columns": {name: trace_column(op.f, name) for name in names}, **said}
    except Untraceable:
        return {"python": bridge.keep(op.f), **said}


def _make(ops: Any, node: OpNode) -> Any:
    outputs = [column.name for column in node.outputs]

    # Made here, so that cloudpickle writes it into a saved workflow. What the function reads beside its own columns is
    # among them: as a dependency it could only be a raw column.
    class LambdaOp(ops.LambdaOp):  # type: ignore[misc]
        def column_mapping(self, col_selector: Any) -> dict[str, list[str]]:
            return {name: [name] for name in outputs if name in col_selector.names}

    options = {key: node.params.get(key) for key in ("tags", "properties")}
    if "python" in node.params:
        return LambdaOp(bridge.function(node.params["python"]), **options)
    dtypes = {column.dtype for column in node.outputs}
    dtype = {"datetime": "datetime64[us]"}.get(*dtypes, *dtypes) if len(dtypes) == 1 else None
    return LambdaOp(column_function(dict(node.params["columns"])), dtype=dtype, **options)


def column_function(trees: dict[str, Any]) -> Callable[[Any, Any], Any]:
    """Return a function of a column and its frame that does what the tree of the column's name says."""
    run = carried("trees").run
    return lambda column, frame: run(trees[column.name], frame) if column.name in trees else column


def _unmakeable(node: OpNode) -> tuple[str, str] | None:
    if "python" not in node.params:
        return None
    try:
        bridge.function(node.params["python"])
    except Refusal as refusal:
        return refusal.reason, refusal.instead
    return None


add("LambdaOp", Rule(_params, _make, _reason, unmakeable=_unmakeable))
