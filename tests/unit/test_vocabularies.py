"""Vocabularies that are given to Categorify, and those of combined columns, as NVTabular leaves them on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from etl.compiler import to_polars
from etl.errors import ConfigError
from etl.fit import fit
from etl.graph import Column, FeatureGraph
from etl.reader import door, hydrate, read

RAW = (Column("s", "string"), Column("t", "string"))
ROWS = pl.DataFrame({"s": ["a", "b", "b", None], "t": ["x", "x", None, None]})


def categorify(**options: Any) -> Any:
    """A workflow of one Categorify on both columns."""
    nvtabular = door.nvtabular()
    with door.quiet():
        return nvtabular.Workflow(options.pop("columns", ["s", "t"]) >> nvtabular.ops.Categorify(**options))


def codes(graph: FeatureGraph, *names: str) -> list[list[int]]:
    made = to_polars(graph).apply(ROWS.lazy()).collect()
    return [made[name].to_list() for name in names]


def fitted(graph: FeatureGraph, folder: Path) -> FeatureGraph:
    ROWS.write_parquet(folder / "rows.parquet")
    return fit(graph, [folder / "rows.parquet"])


def test_given_vocabularies_stay_and_the_others_are_fitted(tmp_path: Path) -> None:
    given = {"s": pd.Series(["z", "b", "a"])}
    graph = read(categorify(vocabs=given, out_path=str(tmp_path / "nvt")), RAW)
    assert not graph.is_fitted, "t is not known yet"
    done = fitted(graph, tmp_path)
    assert done.is_fitted
    assert codes(done, "s", "t") == [[5, 4, 4, 1], [3, 3, 1, 1]]
    again = fitted(done, tmp_path)
    assert again == done
    part = done.remove_inputs(["t"])
    assert codes(part, "s") == [[5, 4, 4, 1]]


def test_a_workflow_of_given_vocabularies_needs_no_fit(tmp_path: Path) -> None:
    paths = {}
    for name, values in {"s": ["b", "a"], "t": ["y", "x"]}.items():
        paths[name] = str(tmp_path / f"{name}.parquet")
        pd.DataFrame({name: values}).to_parquet(paths[name])
    graph = read(categorify(vocabs=paths), RAW)
    assert graph.is_fitted
    assert codes(graph, "s", "t") == [[4, 3, 3, 1], [4, 4, 1, 1]]
    with door.quiet():
        rows = door.nvtabular().Dataset(ROWS.to_pandas(), cpu=True)
        made = hydrate(graph, tmp_path / "workflow").transform(rows).to_ddf().compute()
    assert [made[name].tolist() for name in ("s", "t")] == codes(graph, "s", "t")


@pytest.mark.parametrize(
    ("values", "reason"),
    [(["a", None], "received null"), (["a", "b", "a"], "received a value twice"), (None, "s.parquet")],
)
def test_a_given_vocabulary_without_clear_codes_is_refused(values: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    if values is not None:
        pd.DataFrame({"s": values}).to_parquet(path)
    with pytest.raises(ConfigError, match=reason):
        read(categorify(columns=["s"], vocabs={"s": str(path)}), RAW)


def test_a_given_vocabulary_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    pd.DataFrame({"s": ["one", "two"]}).to_parquet(path)
    with pytest.raises(ConfigError, match="expected values of Int64; received String"):
        read(categorify(columns=["s"], vocabs={"s": str(path)}), [Column("s", "int64")])
    pd.DataFrame({"other": ["one", "two"]}).to_parquet(path)
    with pytest.raises(ConfigError, match="expected columns s"):
        read(categorify(columns=["s"], vocabs={"s": str(path)}), RAW)


def test_a_saved_graph_of_combined_columns_is_the_same(tmp_path: Path) -> None:
    options = {"encode_type": "combo", "name_sep": "+"}
    graph = fitted(read(categorify(columns=[["s", "t"]], **options), RAW), tmp_path)
    assert graph.nodes[0].state is not None
    assert graph.nodes[0].state["s+t"].rows() == [("a", "x", 1), ("b", None, 1), ("b", "x", 1)]
    assert codes(graph, "s+t") == [[3, 5, 4, 1]]
    assert graph.output_columns[0].cardinality == 6
    graph.save(tmp_path / "graph")
    assert FeatureGraph.load(tmp_path / "graph") == graph
    assert FeatureGraph.load(tmp_path / "graph").nodes[0].params["name_sep"] == "+"
