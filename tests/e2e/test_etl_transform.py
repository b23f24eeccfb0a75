"""`mews etl fit` and `mews etl transform` on files and workflows that no pipeline knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mews.config import load
from mews.pipeline import STAGES
from tests.e2e.conftest import last_json, leftovers, mews

WORKFLOW = """
import nvtabular

def workflow():
    codes = ["user"] >> nvtabular.ops.Categorify()
    return nvtabular.Workflow(codes + (["price"] >> nvtabular.ops.Normalize()))
"""
ROWS = pl.DataFrame({"user": ["b", "a", None, "b"] * 50, "price": [1.5, 2.0, None, 4.0] * 50})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(WORKFLOW)
    (tmp_path / "rows").mkdir()
    ROWS.write_csv(tmp_path / "rows" / "a.csv")
    ROWS.with_columns(more=1).write_csv(tmp_path / "rows" / "b.csv")
    return tmp_path


def test_a_workflow_is_fitted_and_run_on_csv_files(folder: Path) -> None:
    fitted = mews("etl", "fit", f"{folder / 'mine.py'}:workflow", "--data", folder / "rows", "--out", folder / "fit")
    assert fitted.returncode == 0, fitted.stderr
    assert "warning: the files' columns differ: b.csv: 'more' is extra (a.csv lacks it)" in fitted.stdout
    options = ["--rows-per-file", 150, "--row-group-size", 50, "--shuffle", 3, "--memory-limit", "8GB", "--json"]
    where = ["--graph", folder / "fit", "--data", folder / "rows" / "*.csv", "--out", folder / "out"]
    done = mews("etl", "transform", *where, *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    answer = last_json(done)
    assert (answer["rows"], answer["files"]) == (400, 3)
    assert answer["drift"] == ["b.csv: 'more' is extra (a.csv lacks it)"]
    assert "rows/s" in done.stderr
    parts = sorted((folder / "out").glob("*.parquet"))
    assert [pl.read_parquet_metadata(part)["mews.fingerprint"] for part in parts] == [answer_of(fitted, folder)] * 3
    found = pl.concat([pl.read_parquet(part) for part in parts])["user"].to_list()
    assert sorted(found) == [1] * 100 + [3] * 200 + [4] * 100
    assert found != [3, 4, 1, 3] * 100
    assert not (folder / "runs").exists()
    assert not leftovers(folder)


def answer_of(fitted: Any, folder: Path) -> str:
    from etl.graph import FeatureGraph

    assert str(folder / "fit") in fitted.stdout
    return FeatureGraph.load(folder / "fit" / "graph").fingerprint


def test_options_that_belong_together_and_bad_values_are_named(folder: Path) -> None:
    some = mews("etl", "transform", "--graph", folder, "--out", folder / "out")
    assert (some.returncode, "expected also --data" in some.stderr) == (2, True), some.stderr
    where = ["--graph", folder, "--data", folder / "rows", "--out", folder / "out"]
    limit = mews("etl", "transform", *where, "--engine", "tpu")
    assert limit.returncode == 2
    assert "features.engine" in limit.stderr
    assert not (folder / "out").exists()


def test_what_only_transform_reads_runs_transform_again_and_not_fit() -> None:
    usual = load(None, [])
    for change in ("row_group_size=7", "rows_per_file=7", "shuffle=7", 'memory_limit="8GB"', "compression=lz4"):
        other = load(None, [f"features.{change}"])
        assert STAGES["fit"].settings(other) == STAGES["fit"].settings(usual), change
        assert STAGES["transform"].settings(other) != STAGES["transform"].settings(usual), change
    assert STAGES["fit"].settings(load(None, ["features.max_list_length=7"])) != STAGES["fit"].settings(usual)
