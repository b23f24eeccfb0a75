"""`mews etl fit` with a memory limit and on Dask, and `mews etl update`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from etl.compiler import to_polars
from etl.graph import FeatureGraph
from mews.run import Run
from tests.e2e.conftest import last_json, leftovers, mews, settings

SMALL = settings("data.rows=3000", "data.users=100", "data.items=50")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("etl") / "run"
    done = mews("etl", "fit", "--run", run, *SMALL)
    assert done.returncode == 0, done.stderr
    return run


def test_fit_on_dask_within_a_memory_limit_gives_the_same_graph(fitted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = mews("etl", "fit", "--run", run, "--memory-limit", "1MB", "--scheduler", "dask", "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    assert last_json(done)["fingerprint"] == FeatureGraph.load(Run(fitted).graph).fingerprint
    assert not leftovers(tmp_path)


def test_update_adds_rows_of_any_source_and_moves_no_code(fitted: Path, tmp_path: Path) -> None:
    test = pl.read_parquet(Run(fitted).split / "test" / "*.parquet")
    new = tmp_path / "new"
    new.mkdir()
    test[:100].write_parquet(new / "a.parquet")
    test[100:].with_columns(more=1).write_ipc(new / "b.arrow")
    told = []
    for number, data in enumerate(([new], [new / "a.parquet", f"{new}/*.arrow"])):
        options = [part for each in data for part in ("--data", each)]
        done = mews("etl", "update", "--run", fitted, *options, "--out", tmp_path / str(number), "--json")
        assert done.returncode == 0, done.stderr
        assert "'more' is extra" in done.stderr
        told.append(last_json(done))
    assert told[0]["fingerprint"] == told[1]["fingerprint"]
    assert told[0]["new_rows"] == test.height
    assert json.loads((tmp_path / "0" / "changes" / "changes.json").read_text())["rows"] == told[0]["rows"]
    old, updated = FeatureGraph.load(Run(fitted).graph), FeatureGraph.load(tmp_path / "0" / "graph")
    names = [column.name for column in old.columns_tagged("categorical") if not column.is_list]
    before, after = (to_polars(graph).apply(test.lazy()).collect().select(names) for graph in (old, updated))
    assert names
    assert all(((before[name] == after[name]) | (before[name] == 2)).all() for name in names)
    more = ("--graph", tmp_path / "0" / "graph", "--data", new / "a.parquet", "--out", tmp_path / "2")
    again = mews("etl", "update", *more)
    assert again.returncode == 0, again.stderr


def test_an_update_with_rows_that_do_not_fit_leaves_nothing(fitted: Path, tmp_path: Path) -> None:
    test = pl.read_parquet(Run(fitted).split / "test" / "*.parquet")
    name = FeatureGraph.load(Run(fitted).graph).inputs[0].name
    test.drop(name).write_parquet(tmp_path / "bad.parquet")
    done = mews("etl", "update", "--run", fitted, "--data", tmp_path / "bad.parquet", "--out", tmp_path / "out")
    assert done.returncode != 0
    assert f"bad.parquet: '{name}' is missing" in done.stderr
    test.write_parquet(tmp_path / "good.parquet")
    options = ("--data", tmp_path / "good.parquet", "--out", tmp_path / "out", "--memory-limit", "much")
    refused = mews("etl", "update", "--run", fitted, *options)
    assert (refused.returncode, "memory limit" in refused.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    assert not leftovers(tmp_path)
