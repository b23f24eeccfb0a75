"""Operators that change which rows there are: batch only, for a request's rows must all be answered.

A rule takes the node and a frame of its inputs by column name, and returns the frame of its outputs. An operator that
drops rows one by one leaves other columns of the frame as they are; one that regroups them drops those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from etl.compiler.expr import Expr
from etl.compiler.registry import Registry
from etl.graph import OpNode


@dataclass(frozen=True)
class RowRule:
    """How rows are changed; `check` raises Refusal for arguments or types that cannot be."""

    apply: Callable[[OpNode, pl.LazyFrame], pl.LazyFrame]
    check: Callable[[OpNode, Mapping[str, Expr]], None] = lambda node, inputs: None


RULES: Registry[RowRule] = Registry("operator that changes rows")


def check(node: OpNode, inputs: Mapping[str, Expr]) -> None:
    """Raise Refusal if the rule of `node` does not take its arguments or the types of its inputs."""
    RULES[node.op].check(node, inputs)


from etl.compiler import rows  # noqa: E402, F401 - fills RULES
