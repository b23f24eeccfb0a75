"""What a graph must know of each operator, whatever becomes of it: which rows it keeps, what its outputs come from.

One `Operator` for each of NVTabular's, in a module for each family; an operator that is not here has the defaults.
What an operator means is said in etl/compiler/lowering, how it is fitted in etl/fit, how it is read in
etl/reader/rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import polars as pl

from etl.operators.kinds import Kind, Table

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref

Rows = Literal["keeps", "drops", "regroups"]
"""An operator keeps its rows, drops some of them (row by row), or makes others of them (and must see all of them)."""

State = Mapping[str, pl.DataFrame]


def position(node: OpNode, output: str) -> tuple[Ref, ...]:
    """Return the input at the place of `output`; all inputs if there are not as many as outputs."""
    place = [column.name for column in node.outputs].index(output)
    return (node.inputs[place],) if len(node.inputs) == len(node.outputs) else node.inputs


def every_input(node: OpNode, output: str) -> tuple[Ref, ...]:
    """Return all inputs."""
    return node.inputs


def unknown(node: OpNode, output: str) -> int | None:
    """Return None: the output is not categorical."""
    return None


def rows_of_columns(node: OpNode, state: State, kept: Collection[str]) -> State:
    """Return the state without the rows of columns that are gone, in tables that have a `column`."""
    return {
        key: table.filter(pl.col("column").is_in(list(kept))) if "column" in table.columns else table
        for key, table in state.items()
    }


def no_tables(node: OpNode) -> Mapping[str, Table]:
    """Return nothing: the operator has no state."""
    return {}


def tables(**found: Table) -> Callable[[OpNode], Mapping[str, Table]]:
    """Return the tables of a state whose keys are always the same."""
    return lambda node: found


def has_state(node: OpNode) -> bool:
    """Return True if the node has state."""
    return node.state is not None


@dataclass(frozen=True)
class Operator:
    """Facts of one operator.

    `fitted`: it has statistics, and a rule in etl/fit. `rows`: see Rows. `numbered`: its fit rule wants the number of
    every row, in the column names.ROW. `passes_through`: values stay as they are, so a categorical column keeps its
    cardinality. `strict`: it can repeat a fault of NVTabular (see etl/compiler/differences.py). `sources` gives the
    inputs that an output is made from; `cardinality` the number of codes of an output (the largest + 1), once known;
    `without` the state that the outputs `kept` need; `complete` says whether the state has all that fit
    finds. `params` says what its params are, `tables` which tables its state has, by key: a graph with others is
    refused (see etl/graph_check.py). `single` says that it has one output.
    """

    name: str
    summary: str
    fitted: bool = False
    rows: Rows = "keeps"
    numbered: bool = False
    passes_through: bool = False
    strict: bool = False
    sources: Callable[[OpNode, str], tuple[Ref, ...]] = position
    cardinality: Callable[[OpNode, str], int | None] = unknown
    without: Callable[[OpNode, State, Collection[str]], State] = rows_of_columns
    complete: Callable[[OpNode], bool] = has_state
    params: Mapping[str, Kind] = field(default_factory=dict)
    tables: Callable[[OpNode], Mapping[str, Table]] = no_tables
    single: bool = False


OPERATORS: dict[str, Operator] = {}
"""Facts by operator name, filled by the modules of this package."""


def add(*operators: Operator) -> None:
    """Add operators to the table; a name that is there already is refused."""
    for operator in operators:
        if operator.name in OPERATORS:
            raise ValueError(f"two operators called {operator.name!r}")
        OPERATORS[operator.name] = operator


def facts(name: str) -> Operator:
    """Return the facts of the operator `name`; the defaults for one that is not known."""
    return OPERATORS.get(name) or Operator(name, "")


TAGGING: dict[str, str] = {
    "AddMetadata": "Adds tags and properties to columns.",
    "AddTags": "Adds tags to columns.",
    "AddProperties": "Adds properties to columns.",
    "TagAsUserID": "Tags a column as the user's id.",
    "TagAsItemID": "Tags a column as the item's id.",
    "TagAsUserFeatures": "Tags columns as the user's.",
    "TagAsItemFeatures": "Tags columns as the item's.",
}
"""NVTabular's tagging operators; a graph that was read from a workflow calls all of them AddMetadata."""


from etl.operators import categorical, continuous, joins, missing, rows, sequence, statistics, structural, traced  # noqa: E402, F401 - fill OPERATORS
