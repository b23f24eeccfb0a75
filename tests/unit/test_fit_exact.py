"""Exact sums: the same bits for any order and partition, and equal to rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.fit.exact import Total, columns_of, mean, spell, squares, sums, total, unspell, variance

ANY = st.floats(allow_nan=False, allow_infinity=False)
USUAL = st.floats(-(2.0**31), 2.0**31, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 2**-20)


@given(st.lists(ANY, max_size=50))
def test_a_total_is_that_of_rational_numbers(numbers: list[float]) -> None:
    found = Total.of(np.array(numbers, dtype=np.float64))
    assert Fraction(found.sum, 2**1300) == sum(map(Fraction, numbers))
    assert Fraction(found.squares, 2**2600) == sum(Fraction(x) ** 2 for x in numbers)


@given(st.lists(st.floats(allow_nan=False), max_size=60), st.lists(st.integers(0, 60), max_size=5), st.randoms())
def test_order_and_partition_do_not_change_a_total(numbers: list[float], cuts: list[int], random: object) -> None:
    whole = Total.of(np.array(numbers, dtype=np.float64))
    random.shuffle(numbers)  # type: ignore[attr-defined]
    places = [0, *sorted(cuts), 60]
    parts = [Total.of(np.array(numbers[a:b], dtype=np.float64)) for a, b in pairwise(places)]
    assert sum(parts, Total()) == whole


def test_large_blocks_and_wild_ranges_are_exact() -> None:
    random = np.random.default_rng(1)
    numbers = np.concatenate(
        [
            random.normal(size=70_000),
            np.ldexp(random.normal(size=3_000), random.integers(-900, 900, 3_000)),
            [5e-324, -1.7e308],
        ]
    )
    random.shuffle(numbers)
    assert Total.of(numbers).sum == sum(int(Fraction(x) * 2**1300) for x in numbers.tolist())


def test_moments_are_rounded_once() -> None:
    numbers = 1e8 + np.arange(4.0)
    found = Total.of(np.tile(numbers, 1000))
    assert found.mean == 1e8 + 1.5
    assert found.variance(0) == 1.25
    assert Total.of(np.array([0.1] * 10)).mean == 0.1
    assert math.isnan(Total().mean)
    assert Total.of(np.array([1.0, math.inf])).mean == math.inf
    assert math.isnan(Total.of(np.array([-math.inf, math.inf])).mean)
    assert Total.of(np.array([1e308, -1e308, 1e308])).variance() == math.inf


@given(st.integers())
def test_whole_numbers_are_spelled_and_read_again(number: int) -> None:
    assert unspell(spell(number)) == number


def grouped(frame: pl.DataFrame, dtype: str) -> pl.DataFrame:
    aggregates = sums(pl.col("x"), "x", dtype) | squares(pl.col("x"), "x", dtype)
    return frame.lazy().group_by("g").agg(**aggregates).collect()


def merged(tables: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(tables).group_by("g").agg(columns_of("x").sum()).sort("g")


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.none() | st.floats()), max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
    st.randoms(),
)
def test_order_and_partition_do_not_change_groups(
    rows: list[tuple[int, float | None]], cuts: list[int], random: object
) -> None:
    def frame(of: list[tuple[int, float | None]]) -> pl.DataFrame:
        return pl.DataFrame(of, schema={"g": pl.Int64, "x": pl.Float64}, orient="row")

    whole = merged([grouped(frame(rows), "float64")])
    random.shuffle(rows)  # type: ignore[attr-defined]
    places = [0, *sorted(cuts), 40]
    assert merged([grouped(frame(rows[a:b]), "float64") for a, b in pairwise(places)]).equals(whole)


@settings(max_examples=40)
@given(st.lists(USUAL, min_size=2, max_size=20))
def test_groups_of_floats_are_exact_over_the_usual_range(numbers: list[float]) -> None:
    table = merged([grouped(pl.DataFrame({"g": 0, "x": numbers}, schema_overrides={"x": pl.Float64}), "float64")])
    exact = [Fraction(x) for x in numbers]
    middle = sum(exact) / len(exact)
    assert total(table, "x").item() == float(sum(exact))
    assert mean(table, "x").item() == float(middle)
    spread = float(sum((x - middle) ** 2 for x in exact) / (len(exact) - 1))
    assert variance(table, "x").item() == pytest.approx(spread, rel=1e-12, abs=2**-42 * float(max(exact, key=abs) ** 2))


@settings(max_examples=40)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=20))
def test_groups_of_integers_are_exact(numbers: list[int]) -> None:
    table = merged([grouped(pl.DataFrame({"g": 0, "x": numbers}, schema_overrides={"x": pl.Int64}), "int64")])
    exact = [Fraction(x) for x in numbers]
    middle = sum(exact) / len(exact)
    assert mean(table, "x").item() == float(middle)
    assert variance(table, "x").item() == float(sum((x - middle) ** 2 for x in exact) / (len(exact) - 1))


def test_groups_of_nothing_and_of_infinite_numbers() -> None:
    frame = pl.DataFrame(
        {"g": [0, 1, 1, 2, 2, 3, 4, 4], "x": [None, 1.0, math.inf, math.inf, -math.inf, math.nan, 1.0, 1e30]}
    )
    table = merged([grouped(frame, "float64")])
    assert table["x.count"].to_list() == [0, 2, 2, 0, 2]
    assert total(table, "x").to_list()[:2] == [0, math.inf]
    assert mean(table, "x").is_nan().to_list() == [True, False, True, True, False]
    assert variance(table, "x").is_nan().all()
    cancelling = merged([grouped(pl.DataFrame({"g": 0, "x": np.tile(1e8 + np.arange(4.0), 500)}), "float64")])
    assert variance(cancelling, "x", ddof=0).item() == 1.25
