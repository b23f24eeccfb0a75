"""How far a column has moved from a reference table's: population stability index, Kolmogorov-Smirnov, new values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from etl.sources.explore import bins, measures
from etl.sources.explore.facts import commonest, json_value, moment, sample_of
from etl.sources.explore.sample import ROWS, counts, sampled
from etl.sources.explore.tables import Column, Table

STABLE, SHIFTED = 0.1, 0.25
"""The usual bands of the population stability index: below the first stable, above the second a large shift."""
PARTS = 10
VALUES = 30
"""So many of the reference's commonest values are compared one by one, the rest together."""


def drift(table: Table, reference: Table) -> dict[str, Any]:
    """Return {name, rows, files, missing, added, retyped}.

    `missing` are columns of the reference only, `added` of the table only, `retyped` those of another type in each.
    """
    shared = [(one, other) for one in table.columns if (other := reference.column(one.name)) is not None]
    names = {one.name for one in table.columns}
    return {
        "name": reference.name,
        "rows": reference.rows,
        "files": len(reference.files),
        "missing": [one.name for one in reference.columns if one.name not in names],
        "added": [one.name for one in table.columns if reference.column(one.name) is None],
        "retyped": [
            {"column": one.name, "dtype": one.dtype, "reference": other.dtype}
            for one, other in shared
            if one.dtype != other.dtype
        ],
    }


def column_drift(table: Table, reference: Table, column: Column) -> dict[str, Any] | None:
    """Return how `column` differs from the reference's; None if it is not there, is of another kind, or holds nothing
    that can be compared.
    """
    other = reference.column(column.name)
    if other is None or other.kind != column.kind or column.kind in ("null", "other"):
        return None
    is_number = column.kind in ("number", "moment", "list")
    found = _numbers(table, reference, column, other) if is_number else _values(table, reference, column)
    if column.kind in ("category", "list") or (column.integer and other.integer):
        found["new_share"] = _new_share(table, reference, column)
    return found


def band(psi: float) -> str:
    """stable, moderate or large."""
    return "stable" if psi < STABLE else "moderate" if psi <= SHIFTED else "large"


def _nulls(counts: Mapping[Any, int]) -> float:
    return counts.get(None, 0) / max(1, sum(counts.values()))


def _counted(table: Table, group: pl.Expr) -> dict[Any, int]:
    grouped = table.frame.select(group.alias("g")).group_by("g").len().collect(engine="streaming")
    return dict(grouped.iter_rows())


def _index(before: Mapping[Any, int], now: Mapping[Any, int], keys: list[Any]) -> dict[str, Any]:
    """The index over `keys` and null, which is a bin of its own."""
    pairs = [(before.get(key, 0), now.get(key, 0)) for key in [*keys, None]]
    filled = np.array([pair for pair in pairs if pair != (0, 0)], dtype=float).reshape(-1, 2)
    psi = measures.stability_index(filled[:, 0], filled[:, 1])
    return {"psi": psi, "band": band(psi), "null_share": _nulls(now), "reference_null_share": _nulls(before)}


def _numbers(table: Table, reference: Table, column: Column, other: Column) -> dict[str, Any]:
    samples = sample_of(reference, other), sample_of(table, column)
    cuts = bins.quantile_cuts(samples[0], PARTS) if len(samples[0]) else []
    if len(cuts) == 0 and len(samples[0]):
        cuts = [float(np.nextafter(samples[0][0], np.inf))]  # a constant: what is above it is news
    if cuts and len(samples[0]) and samples[0].min() == samples[0].max():
        cuts = [float(samples[0][0]), cuts[-1]]  # … and what is below it
    group = bins.part_of(bins.number(column.name, column.kind), cuts)
    before, now = _counted(reference, group), _counted(table, group)
    found = {"of": "length" if column.kind == "list" else "value"} | _index(before, now, list(range(len(cuts) + 1)))
    found["ks"] = measures.kolmogorov_smirnov(*samples)
    filled = [sample for sample in samples if len(sample)]
    return found | ({"overlay": _overlay(table, reference, column, np.concatenate(filled))} if filled else {})


def _overlay(table: Table, reference: Table, column: Column, both: measures.Floats) -> dict[str, Any]:
    """Histograms of both tables over the same bins."""
    whole = column.integer or column.kind == "list"
    edges = bins.histogram_edges(both, float(both.min()), float(both.max()), whole)
    value = bins.number(column.name, column.kind).alias("v")
    now, before = (bins.histogram(one.frame.select(value), edges) for one in (table, reference))
    shown = [moment(edge) for edge in edges] if column.kind == "moment" else edges
    return {"edges": shown, "current": now["counts"], "reference": before["counts"]}


def _values(table: Table, reference: Table, column: Column) -> dict[str, Any]:
    rows = sampled(reference.frame.select(pl.col(column.name).alias("v")), reference.rows, ROWS)
    top = commonest(rows.drop_nulls(), VALUES)["v"]
    group = bins.place_of(pl.col(column.name), top.to_list())
    before, now = _counted(reference, group), _counted(table, group)
    found = {"of": "value"} | _index(before, now, [*range(len(top)), bins.OTHER])
    shown = [
        {"value": json_value(one), "reference": before.get(index, 0), "current": now.get(index, 0)}
        for index, one in enumerate(top)
    ]
    others = {"value": None, "others": True, "reference": before.get(bins.OTHER, 0), "current": now.get(bins.OTHER, 0)}
    return found | {"values": [*shown, others] if others["reference"] or others["current"] else shown}


def _new_share(table: Table, reference: Table, column: Column) -> float | None:
    """The share of filled rows (of list elements) whose value the reference never has: of a sample of the table's rows
    against all of the reference's.
    """
    rows = sampled(table.frame.select(pl.col(column.name).alias("v")), table.rows, ROWS)
    others = reference.frame.select(pl.col(column.name).alias("v"))
    if column.kind == "list":
        rows, others = (one.drop_nulls().explode("v", empty_as_null=False) for one in (rows, others))
    schema = rows.collect_schema()["v"]
    seen = counts(rows.drop_nulls())
    if not seen.height:
        return None
    inside = others.drop_nulls().select(pl.col("v").cast(schema, strict=False))
    known = counts(inside.join(seen.lazy().select("v"), on="v", how="semi")).select("v")
    new = seen.join(known, on="v", how="anti")["len"].sum()
    return int(new) / int(seen["len"].sum())
