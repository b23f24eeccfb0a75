"""The GPU engine is asked for as such, falls back only when told to, and what it cannot run is said before the run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import engine
from etl.batch import transform
from etl.errors import CompileError, ConfigError
from etl.graph import Column, FeatureGraph, OpNode, Ref

TABLE = {"user": pl.DataFrame({"value": ["a", "b"], "count": [2, 1]})}


def graph(**params: Any) -> FeatureGraph:
    node = OpNode("c", "Categorify", (Ref("input", "user"),), (Column("user", "int64"),), params, TABLE)
    return FeatureGraph((Column("user", "string"),), (node,), (Ref("c", "user"),))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    pl.DataFrame({"user": ["a", "b", None, "z"]}).write_parquet(tmp_path / "raw.parquet")
    return tmp_path / "raw.parquet"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "cudf_polars" or found(name))


def test_without_cudf_nothing_is_run(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cudf-polars"):
        transform(graph(), raw, tmp_path / "out", engine="gpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("installed")
def test_operators_that_run_python_are_named_before_the_run(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"Categorify on user \(gpu\): it runs a Python function"):
        transform(graph(num_buckets=4), raw, tmp_path / "out", engine="gpu")
    assert list(engine.refused(graph())) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("installed")
def test_parts_go_to_the_gpu_and_give_the_same(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def collect(frame: pl.LazyFrame, wanted: str, fallback: bool) -> pl.DataFrame:
        asked.append((wanted, fallback, ".python_udf()" in frame.explain()))
        return frame.collect()

    monkeypatch.setattr(engine, "collect", collect)
    transform(graph(), raw, tmp_path / "gpu", engine="gpu")
    assert set(asked) == {("gpu", False, False)}
    monkeypatch.undo()
    transform(graph(), raw, tmp_path / "cpu")
    found = [pl.read_parquet(tmp_path / name / "*.parquet")["user"].to_list() for name in ("gpu", "cpu")]
    assert found == [[3, 4, 1, 2]] * 2


def test_no_gpu_is_an_error_and_no_silent_fallback() -> None:
    if importlib.util.find_spec("cudf_polars"):
        pytest.skip("cudf-polars is installed")
    with pytest.raises((ConfigError, ImportError)):
        engine.collect(pl.LazyFrame({"x": [1]}), "gpu")
