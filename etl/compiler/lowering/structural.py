"""Rename and the operators that add tags and properties: values stay as they are."""

from __future__ import annotations

from etl.compiler.expr import Expr
from etl.compiler.lowering import RULES, per_column
from etl.graph import OpNode
from etl.operators import TAGGING


@RULES.register("Rename", *sorted(TAGGING))
@per_column
def keep(node: OpNode, column: str, x: Expr) -> Expr:
    """The column as it is, under the output's name."""
    return x
