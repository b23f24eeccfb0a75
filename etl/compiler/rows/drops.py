"""Dropna and Filter: fewer rows."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from etl.compiler.expr import Col, Expr, Refusal, Type
from etl.compiler.relational import RULES, RowRule
from etl.dtypes import from_polars
from etl.graph import OpNode


def missing(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return where a column of a plan is missing: NaN in floats, else null; a list never is."""
    return pl.col(name).is_nan() if dtype.is_float() else pl.col(name).is_null()


def _drop_missing(node: OpNode, frame: pl.LazyFrame) -> pl.LazyFrame:
    schema = frame.collect_schema()
    return frame.filter(~missing(ref.column, schema[ref.column]) for ref in node.inputs)


RULES.register("Dropna")(RowRule(_drop_missing))


def _keep(node: OpNode, frame: pl.LazyFrame) -> pl.LazyFrame:
    from etl.compiler.lowering.traced import lower_tree
    from etl.compiler.targets.polars import spell_one

    schema = frame.collect_schema()
    read = [ref.column for ref in node.inputs]
    columns = {name: Col(name, Type(*from_polars(schema[name])), node.id) for name in read}
    return frame.filter(spell_one(lower_tree(node.params["keep"], columns)))


def _check_condition(node: OpNode, inputs: Mapping[str, Expr]) -> None:
    from etl.compiler.lowering.traced import lower_tree

    if node.params.get("keep") == ["value", True]:
        raise Refusal("its function keeps every row.", "Leave it out.")
    condition = lower_tree(node.params.get("keep"), inputs)  # type: ignore[arg-type]
    if condition.type.dtype != "bool":
        raise Refusal(f"its function gives {condition.type.dtype}, not a condition.", "Compare: df['x'] > 0.")


RULES.register("Filter")(RowRule(_keep, _check_condition))
