"""Every row comes once, in an order that follows from the seed."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training import data, loader
from training.loader import Loader

from .conftest import rows, write_split

ROWS, SIZE = 2_500, 128


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of 700, 700, 700 and 400 rows; no two rows have the same price."""
    return write_split(tmp_path_factory.mktemp("split") / "train", rows(ROWS), per_file=700)


def read(split: Path, seed: int | None, size: int = SIZE) -> dict[str, np.ndarray]:
    inputs = data.read_inputs(split)
    made = Loader(split, inputs, size, None if seed is None else lambda: seed, "float32")
    batches = [{**columns, "clicked": labels} for columns, labels in made]
    assert [len(batch["price"]) for batch in batches] == [size] * (ROWS // size) + [ROWS % size] * bool(ROWS % size)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@pytest.mark.parametrize("block", [loader._BLOCK_ROWS, 512])
def test_rows_stay_whole_and_come_once(split: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_BLOCK_ROWS", block)
    in_order, shuffled, again, other = (read(split, seed) for seed in (None, 1, 1, 2))
    wanted = rows(ROWS)
    for name, values in in_order.items():
        np.testing.assert_array_equal(values.reshape(wanted[name].shape), wanted[name])
        np.testing.assert_array_equal(shuffled[name], again[name])
    assert not np.array_equal(shuffled["price"], in_order["price"])
    assert not np.array_equal(shuffled["price"], other["price"])
    by_price, places = np.argsort(shuffled["price"][:, 0]), np.argsort(in_order["price"][:, 0])
    for name, values in in_order.items():
        np.testing.assert_array_equal(shuffled[name][by_price], values[places])


def test_a_pass_does_not_end_with_the_last_rows_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_BLOCK_ROWS", 512)
    split, wanted = write_split(tmp_path / "train", rows(ROWS), per_file=ROWS), rows(ROWS)
    for path in split.glob("*.parquet"):
        pl.read_parquet(path).write_parquet(path, row_group_size=100)
    place = {price: number for number, price in enumerate(wanted["price"].ravel().tolist())}
    middles = []
    for seed in range(12):
        places = [place[price] for price in read(split, seed)["price"][:, 0].tolist()]
        middles.append(np.mean(places[-512:]) / ROWS)
    assert 0.35 < np.mean(middles) < 0.65, "the end of a pass is of rows from everywhere"


def test_shapes_and_types_are_those_of_the_features(split: Path) -> None:
    columns, labels = next(iter(Loader(split, data.read_inputs(split), SIZE, None, "int64")))
    shapes = {name: (tuple(tensor.shape), tensor.dtype.name) for name, tensor in columns.items()}
    assert shapes == {
        "user": ((SIZE, 1), "int64"),
        "item": ((SIZE, 1), "int64"),
        "tags": ((SIZE, 3), "int64"),
        "price": ((SIZE, 1), "float32"),
    }
    assert (tuple(labels.shape), labels.dtype.name) == ((SIZE, 1), "int64")


def test_an_unfinished_pass_leaves_no_thread_and_an_error_is_raised(split: Path, tmp_path: Path) -> None:
    inputs = data.read_inputs(split)
    made = Loader(split, inputs, SIZE, lambda: 1, "float32")
    iterator = iter(made)
    next(iterator)
    made.stop()
    next(iter(made))
    del iterator
    broken = write_split(tmp_path / "train", rows(300))
    (broken / "part_00001.parquet").write_bytes(b"not Parquet")
    with pytest.raises(Exception, match="Parquet"):
        list(Loader(broken, inputs, SIZE, None, "float32"))
    for thread in threading.enumerate():
        if thread.name == "loader":
            thread.join(5)
            assert not thread.is_alive()
