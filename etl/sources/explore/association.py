"""How a column goes with the label: measures on a sample; rates by value, by bin and by missingness on all rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from etl.sources.explore import bins, measures
from etl.sources.explore.facts import json_value, moment, sample_of
from etl.sources.explore.label import Label
from etl.sources.explore.sample import ROWS, sampled
from etl.sources.explore.tables import Column, Table

PARTS = 10
"""Numbers are divided into about so many parts of equal size for the label's rate."""
POOLED = 1_000
"""Cramér's V and mutual information keep so many of the commonest values apart; the others are one."""
OTHER = "all others"


@dataclass(frozen=True)
class _Pair:
    """A column and the label in the sample, nulls of either left out; codes number the column's values."""

    values: pl.Series
    label: pl.Series

    @property
    def numbers(self) -> measures.Floats:
        return self.values.cast(pl.Float64).to_numpy()

    @property
    def target(self) -> measures.Floats:
        return self.label.cast(pl.Float64).to_numpy()


def association(table: Table, column: Column, label: Label, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return {of, measures, strength, strength_by, rows, sampled, rates, missing}, None where nothing can be said.

    `of` is value, or length for lists; `strength` is 0 to 1: |2 AUC - 1| for a binary label, |Spearman| or the
    correlation ratio for a numeric one, Theil's U or the correlation ratio for classes.
    """
    if column.kind in ("null", "other"):
        return None
    missing = _missing(table, column, label)
    pair = _pair(table, column, label)
    if not len(pair.values):
        return {"of": "value", "measures": {}, "strength": None, "rates": [], "missing": missing}
    computed = {"binary": _binary, "numeric": _numeric, "classes": _classes}[label.kind](pair, _is_number(column))
    strength, by = _strength(computed)
    return {
        "of": "length" if column.kind == "list" else "value",
        "measures": computed,
        "strength": strength,
        "strength_by": by,
        "rows": len(pair.values),
        "sampled": table.rows > ROWS,
        "rates": [] if label.kind == "classes" else _rates(table, column, label, found),
        "missing": missing,
    }


def _is_number(column: Column) -> bool:
    return column.kind in ("number", "moment", "list")


def _value(column: Column) -> pl.Expr:
    return bins.number(column.name, column.kind) if _is_number(column) else pl.col(column.name)


def _pair(table: Table, column: Column, label: Label) -> _Pair:
    needed = table.frame.select(list(dict.fromkeys([column.name, label.column])))
    rows = sampled(needed, table.rows, ROWS).select(_value(column).alias("v"), label.expr.alias("y"))
    both = rows.drop_nulls().collect(engine="streaming")
    return _Pair(both["v"], both["y"])


def _codes(values: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    return (values.cast(pl.String).rank("dense").to_numpy() - 1).astype(np.int64)


def _pooled(values: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    codes = _codes(values)
    counts = np.bincount(codes)
    if len(counts) <= POOLED:
        return codes
    kept = np.sort(np.argsort(-counts, kind="stable")[:POOLED])
    place = np.searchsorted(kept, codes)
    return np.where(np.isin(codes, kept), np.minimum(place, POOLED - 1), POOLED)


def _binary(pair: _Pair, is_number: bool) -> dict[str, float | None]:
    target = pair.target
    if is_number:
        numbers = pair.numbers
        return {
            "auc": measures.area(numbers, target),
            "pearson": measures.pearson(numbers, target),
            "spearman": measures.spearman(numbers, target),
        }
    counts = measures.contingency(_pooled(pair.values), target.astype(np.int64))
    bits, share = measures.mutual_information(counts)
    crossed = measures.area(measures.crossed_rates(_codes(pair.values), target), target)
    return {
        "auc": crossed,
        "cramers_v": measures.cramers_v(counts),
        "mutual_information_bits": bits,
        "theils_u": share,
    }


def _numeric(pair: _Pair, is_number: bool) -> dict[str, float | None]:
    if is_number:
        return {
            "pearson": measures.pearson(pair.numbers, pair.target),
            "spearman": measures.spearman(pair.numbers, pair.target),
        }
    crossed = measures.crossed_rates(_codes(pair.values), pair.target)
    return {
        "pearson": measures.pearson(crossed, pair.target),
        "correlation_ratio": measures.correlation_ratio(_pooled(pair.values), pair.target),
    }


def _classes(pair: _Pair, is_number: bool) -> dict[str, float | None]:
    classes = _codes(pair.label)
    if is_number:
        return {"correlation_ratio": measures.correlation_ratio(classes, pair.numbers)}
    counts = measures.contingency(_pooled(pair.values), classes)
    bits, share = measures.mutual_information(counts)
    return {"cramers_v": measures.cramers_v(counts), "mutual_information_bits": bits, "theils_u": share}


def _strength(computed: Mapping[str, float | None]) -> tuple[float | None, str]:
    for name in ("auc", "spearman", "pearson", "theils_u", "correlation_ratio"):
        found = computed.get(name)
        if found is not None:
            return (abs(2 * found - 1) if name == "auc" else abs(found)), name
    return None, ""


def _rates(table: Table, column: Column, label: Label, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The label's mean by part or value, nulls last: {value or low and high, rows, rate, low95, high95}."""
    top = [one["value"] for one in found.get("top", ())]
    if column.kind in ("boolean", "category") or (top and found["distinct"] <= len(top) and column.kind == "number"):
        return _rates_by_value(table, column, label, top)
    sample = sample_of(table, column)
    if not len(sample):
        return []
    cuts = bins.quantile_cuts(sample, PARTS)
    value = _value(column)
    ends = table.frame.select(value.min().alias("low"), value.max().alias("high")).collect(engine="streaming").row(0)
    shown = moment if column.kind == "moment" else float
    whole = column.integer or column.kind == "list"
    ranges = [{"low": shown(low), "high": shown(high)} for low, high in bins.parts(cuts, *ends, whole=whole)]
    by_part = _means(table, bins.part_of(value, cuts), label)
    return [told | by_part[index] for index, told in enumerate(ranges) if index in by_part] + _of_nulls(by_part)


def _rates_by_value(table: Table, column: Column, label: Label, top: list[Any]) -> list[dict[str, Any]]:
    by_value = _means(table, bins.place_of(pl.col(column.name), top), label)
    listed = [{"value": json_value(one)} | by_value[index] for index, one in enumerate(top) if index in by_value]
    if column.kind == "number":
        listed.sort(key=lambda row: row["value"])
    others = [{"value": OTHER, "others": True} | by_value[bins.OTHER]] if bins.OTHER in by_value else []
    return listed + others + _of_nulls(by_value)


def _of_nulls(means: Mapping[Any, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"value": None} | means[None]] if None in means else []


def _means(table: Table, group: pl.Expr, label: Label) -> dict[Any, dict[str, Any]]:
    """The label's mean, rows and 95 % interval by group (Wilson's for a rate, of the normal for a mean); all rows."""
    pairs = table.frame.select(group.alias("g"), label.expr.alias("y")).drop_nulls("y")
    asked = [pl.len().alias("rows"), pl.mean("y").alias("mean"), pl.std("y").alias("std")]
    found: dict[Any, dict[str, Any]] = {}
    for key, rows, mean, std in pairs.group_by("g").agg(asked).collect(engine="streaming").iter_rows():
        half = 1.96 * (std or 0.0) / math.sqrt(rows)
        ends = measures.wilson(mean * rows, rows) if label.kind == "binary" else (mean - half, mean + half)
        found[key] = {"rows": rows, "rate": mean, "low95": ends[0], "high95": ends[1]}
    return found


def _missing(table: Table, column: Column, label: Label) -> dict[str, Any] | None:
    """The label where the column is null and where it is not, and how many standard errors lie between; all rows.

    None for a column that has no nulls or nothing else, and for a label of classes.
    """
    if label.kind == "classes" or column.name == label.column:
        return None
    pairs = table.frame.select(pl.col(column.name).is_null().alias("g"), label.expr.alias("y")).drop_nulls("y")
    asked = [pl.len().alias("rows"), pl.mean("y").alias("mean"), pl.var("y").alias("var")]
    grouped = pairs.group_by("g").agg(asked).collect(engine="streaming").iter_rows(named=True)
    sides = {row["g"]: row for row in grouped}
    if len(sides) < 2:
        return None
    null, filled = sides[True], sides[False]
    difference, rows = null["mean"] - filled["mean"], null["rows"] + filled["rows"]
    # Pooled, as where there is no difference: two sides without variance of their own are the clearest case.
    between = null["rows"] * filled["rows"] / rows * difference**2
    within = sum((side["var"] or 0.0) * (side["rows"] - 1) for side in (null, filled))
    error = math.sqrt((between + within) / rows * (1 / null["rows"] + 1 / filled["rows"]))
    return {
        "rows": null["rows"],
        "rate": null["mean"],
        "rate_filled": filled["mean"],
        "difference": difference,
        "z": difference / error if error else None,
    }
