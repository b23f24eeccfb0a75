"""How a fitted operator is fitted: partial aggregates of one slice of rows, merged in order.

partial(node, rows)     rows as the node sees them -> lazy tables by key, small or as large as the vocabulary
merge(tables)           tables of one key, in the order of their rows -> one; merging merged tables is allowed
finish(node, tables)    merged tables by key -> the node's state (see etl/graph.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from etl.compiler.registry import Registry
from etl.graph import FeatureGraph, OpNode

State = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class FitRule:
    """How one operator is fitted; see the module's docstring."""

    partial: Callable[[OpNode, pl.LazyFrame], dict[str, pl.LazyFrame]]
    merge: Callable[[Sequence[pl.DataFrame]], pl.DataFrame]
    finish: Callable[[OpNode, Mapping[str, pl.DataFrame]], State]
    check: Callable[[FeatureGraph, OpNode], None] = lambda graph, node: None
    """Raises ConfigError for options that no data can satisfy."""
    split_by: Callable[[pl.DataFrame], list[str]] = lambda table: []
    """The columns that make a row of a large table one of a kind: by them it may be split and merged in parts."""
    streams: bool = False
    """Whether the order of the rows is nothing to `partial`, so that Polars' streaming engine may run it."""


RULES: Registry[FitRule] = Registry("fitted operator")
"""The rule of every operator that has `fitted` in etl/operators."""
