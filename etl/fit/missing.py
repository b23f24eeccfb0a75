"""FillMedian: how often each value occurs, or, of more than `MOST_VALUES` different ones, each range of values.

The ranges are those of DDSketch (Masson, Rim and Lee, VLDB 2019): logarithmic, so the median found is off by
`RELATIVE_ERROR` of itself at most. Whether there are too many values, and what range a value is in, depends on the
values only: any order and any partition of the rows give the same table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import polars as pl

from etl.dtypes import is_float, is_integer
from etl.errors import ConfigError
from etl.fit.rule import RULES, FitRule, State
from etl.fit.zeros import one_zero
from etl.graph import FeatureGraph, OpNode

MOST_VALUES = 200_000
RELATIVE_ERROR = 1e-4
_GAMMA = math.log1p(2 * RELATIVE_ERROR / (1 - RELATIVE_ERROR))
_SCHEMA = {"value": pl.Float64, "range": pl.Int64, "count": pl.Int64}


def _check(graph: FeatureGraph, node: OpNode) -> None:
    for ref in node.inputs:
        column = graph.columns[ref]
        if column.is_list or not (is_float(column.dtype) or is_integer(column.dtype)):
            raise ConfigError(f"FillMedian of {ref.column!r}", expected="numbers", received=column.dtype)


def _counts(node: OpNode, rows: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    found = {}
    for ref in node.inputs:
        value = pl.col(ref.column).cast(pl.Float64)
        counted = rows.select(value=one_zero(value.drop_nulls().drop_nans())).group_by("value").agg(count=pl.len())
        found[ref.column] = counted.select(
            "value", pl.lit(None, pl.Int64).alias("range"), pl.col("count").cast(pl.Int64)
        )
    return found


def _add(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    counts = pl.concat(tables)
    added = counts.group_by("value", "range").agg(pl.col("count").sum())
    is_sketch = added["range"].is_not_null().any()
    if added.height <= MOST_VALUES and not is_sketch:
        return added
    ranged = added.with_columns(range=pl.coalesce("range", _range(pl.col("value"))), value=pl.lit(None, pl.Float64))
    return ranged.group_by("value", "range").agg(pl.col("count").sum())


def _range(x: pl.Expr) -> pl.Expr:
    """Return the number of a value's range: 0 for 0, larger for larger values."""
    size = x.abs()
    # The smallest float64 is about exp(-745): so shifted, the numbers of all sizes are positive.
    number = (size.log() / _GAMMA).ceil().clip(-745 / _GAMMA, 710 / _GAMMA) + math.ceil(745 / _GAMMA) + 1
    return pl.when(size == 0).then(0).otherwise(number.cast(pl.Int64) * x.sign().cast(pl.Int64))


def _middle_of(number: int) -> float:
    """Return the value that is at most RELATIVE_ERROR of itself from every value of a range."""
    if number == 0:
        return 0.0
    power = abs(number) - 1 - math.ceil(745 / _GAMMA)
    if power >= math.floor(710 / _GAMMA):
        return math.copysign(math.inf, number)
    return math.copysign(math.exp(power * _GAMMA) * (1 - RELATIVE_ERROR), number)


def _medians(node: OpNode, tables: Mapping[str, pl.DataFrame]) -> State:
    names = [ref.column for ref in node.inputs]
    found = [_median(_add([tables[name]])) for name in names]  # parts of a table that was split may be finer
    return {
        "medians": pl.DataFrame({"column": names, "median": found}, schema={"column": pl.String, "median": pl.Float64})
    }


def _median(counts: pl.DataFrame) -> float:
    by = "range" if counts["range"].is_not_null().any() else "value"
    ordered = counts.sort(by).with_columns(reached=pl.col("count").cum_sum())
    total = ordered["count"].sum()
    if not total:
        return math.nan
    low, high = (ordered.filter(pl.col("reached") > place)[by][0] for place in ((total - 1) // 2, total // 2))
    if by == "range":
        low, high = _middle_of(low), _middle_of(high)
    return float(low if low == high else low / 2 + high / 2)


RULES.register("FillMedian")(FitRule(_counts, _add, _medians, _check, split_by=lambda _: ["value", "range"]))
