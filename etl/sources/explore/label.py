"""The label: which of the three kinds it is, decided by its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from etl.errors import ConfigError, SchemaError
from etl.sources.dataset import closest
from etl.sources.explore.facts import json_value
from etl.sources.explore.sample import distinct
from etl.sources.explore.tables import Table

CLASSES = 50
"""A label of strings may have so many distinct values."""


@dataclass(frozen=True)
class Label:
    """A label column: `kind` is binary, numeric or classes; `expr` is 0 and 1, the number, or the class as a string.

    `positive` is the value that counts as 1: the last of the two in their order.
    """

    column: str
    kind: str
    expr: pl.Expr
    positive: Any = None
    negative: Any = None


def find_label(table: Table, name: str) -> Label | None:
    """Return the label called `name`, None if it has one value only; SchemaError if there is no such column,
    ConfigError if it cannot be a label.
    """
    column = table.column(name)
    if column is None:
        known = [one.name for one in table.columns]
        raise SchemaError(f"label {name!r}", expected=f"a column of {table.name}", hint=closest(name, known))
    if column.kind not in ("number", "boolean", "category"):
        raise ConfigError(f"label {name!r}", expected="numbers, booleans or strings", received=f"{column.dtype} values")
    filled = table.frame.select(_filled(name, column.kind == "number").alias("v")).drop_nulls()
    many, _ = distinct(filled, table.rows)
    if many < 2:
        return None
    if many == 2:
        low, high = sorted(filled.unique().collect(engine="streaming")["v"].to_list())
        is_high = (_filled(name, column.kind == "number") == high).cast(pl.Float64)
        return Label(name, "binary", is_high, json_value(high), json_value(low))
    if column.kind == "number":
        return Label(name, "numeric", _filled(name, True).cast(pl.Float64))
    if many > CLASSES:
        raise ConfigError(
            f"label {name!r}", expected=f"numbers, or at most {CLASSES} classes", received=f"{many:,} distinct strings"
        )
    return Label(name, "classes", pl.col(name).cast(pl.String))


def _filled(name: str, is_number: bool) -> pl.Expr:
    value = pl.col(name)
    return pl.when(value.cast(pl.Float64).is_finite()).then(value) if is_number else value


def label_facts(table: Table, label: Label) -> dict[str, Any]:
    """Return {column, kind, rows, nulls, and by kind: positive, negative, rate or mean}; of all rows."""
    asked = [pl.col("y").count().alias("rows"), pl.col("y").null_count().alias("nulls")]
    if label.kind != "classes":
        asked.append(pl.col("y").mean().alias("mean"))
    found = table.frame.select(label.expr.alias("y")).select(asked).collect(engine="streaming").row(0, named=True)
    told = {"column": label.column, "kind": label.kind, "rows": found["rows"], "nulls": found["nulls"]}
    if label.kind == "binary":
        told |= {"positive": label.positive, "negative": label.negative, "rate": found["mean"]}
    return told | ({"mean": found["mean"]} if label.kind == "numeric" else {})
