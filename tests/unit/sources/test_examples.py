"""Rows as examples with lists: what each list holds, checked against lists that are made row by row."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.config import SplitConfig
from etl.errors import ConfigError, DataError
from etl.sources.dataset import DataColumn, Dataset
from etl.sources.examples import make_examples
from etl.sources.parts import PartWriter
from etl.sources.split import Splits, split

COLUMNS = (
    DataColumn("user", "int64", role="user"),
    DataColumn("visit", "int64", role="session"),
    DataColumn("item", "string", role="item"),
    DataColumn("price", "float32", role="numeric", side="item"),
    DataColumn("country", "string", role="categorical", side="user"),
    DataColumn("row", "int64", role="categorical"),
    DataColumn("time", "int64", role="timestamp"),
    DataColumn("y", "int8", role="label"),
)
KINDS = st.sampled_from(["next_item", "item_set"])
SPLITS = st.sampled_from(["time", "last-per-user", "random"])


def dataset(folder: Path, frame: pl.DataFrame, columns: tuple[DataColumn, ...] = COLUMNS) -> Dataset:
    writer = PartWriter(folder, rows_per_part=17)
    writer.write(frame.select(column.name for column in columns))
    made = Dataset("test", columns, writer.close(), frame.height, {})
    made.save(folder)
    return made


def events(rows: int = 90, seed: int = 0, users: int = 4) -> pl.DataFrame:
    """Several rows of one moment, items had again, items and users that are null."""
    rng = np.random.default_rng(seed)
    item = [None if value == 0 else f"i{value}" for value in rng.integers(0, 12, rows)]
    user = [None if value == 0 else value for value in rng.integers(0, users + 1, rows)]
    return pl.DataFrame(
        {
            "user": user,
            "visit": rng.integers(0, 10, rows),
            "item": item,
            "price": rng.random(rows).astype("float32"),
            "country": [f"c{(value or 0) % 2}" for value in user],
            "row": np.arange(rows),
            "time": rng.integers(0, rows // 3, rows),
            "y": (rng.random(rows) < 0.8).astype("int8"),
        },
        schema_overrides={"user": pl.Int64, "item": pl.String},
    )


def made(
    folder: Path, frame: pl.DataFrame, kind: str, by: str = "time", columns: Any = COLUMNS, **config: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows and the examples of all parts, each with its part's number."""
    settled = SplitConfig(by=by, valid=0.2, test=0.2, context=["row"], **config)
    splits = split(dataset(folder / "all", frame, columns), settled, folder / "rows", 1)
    examples = make_examples(splits, settled, kind, folder / "examples")
    assert Splits.load(folder / "examples") == examples
    return numbered(splits), numbered(examples)


def numbered(splits: Splits) -> list[dict[str, Any]]:
    return [
        {**row, "part": code, "place": place}
        for code, part in enumerate(splits.parts.values())
        for place, row in enumerate(part.scan().collect().iter_rows(named=True))
    ]


def order_of(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["time"], row["part"], row["place"]


def groups(rows: list[dict[str, Any]], by: tuple[str, ...] = ("user",)) -> dict[Any, list[dict[str, Any]]]:
    """The rows that count, by group, in their order."""
    found = defaultdict(list)
    for row in sorted(rows, key=order_of):
        if row["y"] == 1 and row["item"] is not None and None not in (key := tuple(row[name] for name in by)):
            found[key].append(row)
    return found


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), SPLITS, KINDS, st.integers(1, 6), st.integers(10, 90))
@example(3, "time", "next_item", 2, 60)
@example(4, "random", "item_set", 1, 90)
def test_nothing_that_comes_later_is_in_a_list(seed: int, by: str, kind: str, history: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows, examples = made(Path(folder), events(count, seed), kind, by, group=["user"], history=history)
        except DataError:
            return  # a part without a row or an example, which others show
    source = {row["row"]: row for row in rows}
    for made_of in examples:
        row = source[made_of["row"]]
        assert (row["item"], row["part"], row["y"]) == (made_of["item"], made_of["part"], 1)
        seen = [other for other in rows if other["user"] == row["user"] and other["part"] <= row["part"]]
        if kind == "next_item":
            seen = [one for one in seen if order_of(one) < order_of(row)]
        known = {other["item"] for other in seen if other["y"] == 1 and other is not row}
        assert set(made_of["history"]) <= known
        assert 1 <= len(made_of["history"]) <= history


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), SPLITS, st.integers(1, 6), st.integers(0, 3))
def test_a_history_is_what_the_user_had_before(seed: int, by: str, history: int, least: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows, examples = made(
                Path(folder), events(90, seed), "next_item", by, group=["user"], history=history, min_history=least
            )
        except DataError:
            return
    expected = {}
    for group in groups(rows).values():
        for row in group:
            seen = group[: group.index(row)]
            before = [one["item"] for one in seen if one["part"] <= row["part"]]
            if len(before) >= least:
                expected[row["row"]] = before[-history:]
    assert {one["row"]: one["history"] for one in examples} == expected
    place = {row["row"]: (row["part"], row["place"]) for row in rows}
    order = [place[one["row"]] for one in examples]
    assert order == sorted(order), "examples keep the order of the rows"


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), SPLITS, st.integers(2, 6))
def test_a_set_is_learned_whole_and_asked_item_by_item(seed: int, by: str, history: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows, examples = made(Path(folder), events(90, seed), "item_set", by, group=["user"], history=history)
        except DataError:
            return
    train, pieces = groups([row for row in rows if row["part"] == 0]), defaultdict(list)
    for one in examples:
        assert len({*one["history"], one["item"]}) == len(one["history"]) + 1, "each item once"
        if one["part"] == 0:
            pieces[(one["user"],)].append([*one["history"], one["item"]])
    whole = {key: {row["item"] for row in group} for key, group in train.items()}
    assert {key: sorted(item for one in lists for item in one) for key, lists in pieces.items()} == {
        key: sorted(items) for key, items in whole.items() if len(items) > 1
    }
    for lists in pieces.values():
        sizes = [len(one) for one in lists]
        assert max(sizes) <= history + 1
        assert max(sizes) - min(sizes) <= 1
    for one in examples:
        if one["part"] > 0:
            had = {row["item"] for row in groups(rows)[(one["user"],)] if row["part"] <= one["part"]}
            assert set(one["history"]) <= had - {one["item"]}
            assert len(one["history"]) == min(history, len(had) - 1)


def test_a_visit_is_a_list_of_its_own_if_there_are_visits(tmp_path: Path) -> None:
    rows, examples = made(tmp_path, events(200), "next_item", "random")
    before = {}
    for group in groups(rows, ("visit",)).values():
        for row in group:
            before[row["row"]] = [one["item"] for one in group[: group.index(row)] if one["part"] <= row["part"]]
    assert {one["row"]: one["history"] for one in examples} == {
        row: items[-20:] for row, items in before.items() if items
    }


def test_several_columns_can_make_a_list(tmp_path: Path) -> None:
    rows, examples = made(tmp_path, events(300), "item_set", "random", group=["user", "visit"])
    whole = groups([row for row in rows if row["part"] == 0], ("user", "visit"))
    sets = {key: {row["item"] for row in group} for key, group in whole.items()}
    source = {row["row"]: row for row in rows}
    for one in examples:
        if one["part"] == 0:
            row = source[one["row"]]
            assert {*one["history"], one["item"]} == sets[row["user"], row["visit"]]


def test_an_example_has_the_users_columns_and_the_context_and_no_property_of_the_item(tmp_path: Path) -> None:
    rows, examples = made(tmp_path, events(90), "next_item", group=["user"])
    assert list(examples[0]) == ["user", "country", "row", "time", "history", "item", "part", "place"]
    source = {row["row"]: row for row in rows}
    kept = ("user", "country", "time")
    assert all(
        {name: one[name] for name in kept} == {name: source[one["row"]][name] for name in kept} for one in examples
    )
    train = Splits.load(tmp_path / "examples").train
    roles = {column.name: (column.role, column.is_list) for column in train.columns}
    assert roles["history"] == ("history", True)
    assert roles["item"] == ("item", False)
    assert train.label is None


def test_without_a_label_every_row_counts(tmp_path: Path) -> None:
    columns = tuple(column for column in COLUMNS if column.role != "label")
    rows, examples = made(tmp_path, events(90), "next_item", columns=columns, group=["user"])
    counted = groups([{**row, "y": 1} for row in rows])
    assert len(examples) == sum(
        any(one["part"] <= row["part"] for one in group[: group.index(row)])
        for group in counted.values()
        for row in group
    )


@pytest.mark.parametrize(
    ("dropped", "config", "error", "said"),
    [
        ("item", {}, ConfigError, "role item"),
        ("user session", {}, ConfigError, r"split\.group"),
        ("", {"group": ["usr"]}, ConfigError, "split.group: usr.*user"),
        ("", {"context": ["hour"]}, ConfigError, "split.context: hour"),
        ("", {"min_history": 50, "history": 60}, DataError, "min_history lower"),
    ],
)
def test_what_makes_no_examples_says_why(
    dropped: str, config: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    columns = tuple(column for column in COLUMNS if column.role not in dropped.split())
    splits = split(dataset(tmp_path / "all", events(), columns), SplitConfig(), tmp_path / "rows", 1)
    with pytest.raises(error, match=f"(?s){said}"):
        make_examples(splits, SplitConfig(**config), "next_item", tmp_path / "examples")
    assert not (tmp_path / "examples").exists()


def test_rows_that_are_all_negative_make_no_examples(tmp_path: Path) -> None:
    splits = split(
        dataset(tmp_path / "all", events().with_columns(y=pl.lit(0, pl.Int8))), SplitConfig(), tmp_path / "r", 1
    )
    with pytest.raises(DataError, match="label 1"):
        make_examples(splits, SplitConfig(), "next_item", tmp_path / "examples")


def test_a_column_called_history_is_refused(tmp_path: Path) -> None:
    columns = (*COLUMNS, DataColumn("history", "int64", role="numeric"))
    frame = events().with_columns(history=pl.lit(1, pl.Int64))
    splits = split(dataset(tmp_path / "all", frame, columns), SplitConfig(), tmp_path / "rows", 1)
    with pytest.raises(ConfigError, match="history"):
        make_examples(splits, SplitConfig(), "next_item", tmp_path / "examples")
