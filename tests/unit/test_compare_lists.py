"""What models of item lists are asked in `mews compare`: lists of what users had before the test rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from etl.config import SplitConfig
from etl.sources.dataset import DataColumn, Dataset
from etl.sources.split import split
from mews.compare.asked import lists_before_test

COLUMNS = (
    DataColumn("user", "string", role="user"),
    DataColumn("sku", "int64", role="item"),
    DataColumn("at", "int64", role="timestamp"),
    DataColumn("city", "string", role="categorical", side="user"),
    DataColumn("clicked", "int8", role="label"),
)
EXAMPLE = (
    *(COLUMNS[place] for place in (0, 2, 3)),
    DataColumn("history", "int64", is_list=True, role="history"),
    COLUMNS[1],
)
"""The columns of a model's examples: the user's own, the list, the item."""
ROWS = [
    ("ann", 3, 30, "Rome", 1),  # later than the next rows: the order is of time
    ("ann", 1, 10, "Bonn", 1),
    ("ann", 2, 20, "Bonn", 0),
    ("bob", 5, 11, "Oslo", 1),
    ("ann", 1, 40, "Rome", 1),
    ("bob", 6, 12, None, 0),
    ("ann", None, 45, "Rome", 1),
    ("ann", 4, 50, "Kyiv", 1),
    ("bob", 7, 13, "Oslo", 1),
    ("cy", 8, 14, "Lima", 0),
]


def parts(folder: Path, rows: list[tuple[object, ...]]) -> list[Dataset]:
    """Train and valid of the rows, divided by time."""
    folder.mkdir()
    names = [column.name for column in COLUMNS]
    types = {column.name: column.polars_type for column in COLUMNS}
    pl.DataFrame(rows, schema=names, orient="row").cast(types).write_parquet(folder / "rows.parquet")
    dataset = Dataset("rows", COLUMNS, (folder / "rows.parquet",), len(rows))
    splits = split(dataset, SplitConfig(by="time", valid=0.2, test=0.1), folder / "split", seed=0)
    return [splits.train, splits.valid]


def test_lists_are_what_each_user_had_in_order_of_time(tmp_path: Path) -> None:
    made = lists_before_test(parts(tmp_path / "data", ROWS), EXAMPLE, pl.Series("user", ["bob", "ann", "cy"]), 20)
    assert made.columns == [column.name for column in EXAMPLE]
    assert made["history"].to_list() == [[], [5, 7], [1, 3, 1], []]
    assert made["user"].to_list() == [None, "bob", "ann", "cy"]
    assert made["city"].to_list() == [None, "Oslo", "Rome", "Lima"], "of the latest row before test"
    assert made["sku"].null_count() == 4


@pytest.mark.parametrize(("longest", "sets", "wanted"), [(2, False, [3, 1]), (20, True, [3, 1]), (1, True, [1])])
def test_the_last_items_are_kept_and_sets_hold_each_once(
    tmp_path: Path, longest: int, sets: bool, wanted: list[int]
) -> None:
    made = lists_before_test(parts(tmp_path / "data", ROWS), EXAMPLE, pl.Series("user", ["ann"]), longest, sets)
    assert made["history"].to_list()[1] == wanted


def test_no_test_row_changes_what_is_asked(tmp_path: Path) -> None:
    others = [
        (user, 9, at, "Rome", 1) if at == 50 else (user, sku, at, city, label) for user, sku, at, city, label in ROWS
    ]
    users = pl.Series("user", ["ann", "bob"])
    asked = [
        lists_before_test(parts(tmp_path / name, rows), EXAMPLE, users, 20)
        for name, rows in (("data", ROWS), ("changed", others))
    ]
    assert 4 not in asked[0]["history"].to_list()[2]
    assert asked[0].equals(asked[1])
