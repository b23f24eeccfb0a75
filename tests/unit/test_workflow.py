"""pipeline.yaml's features become NVTabular graphs; what is wrong in them is said in the user's words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etl import workflow
from etl.config import ChainConfig, FeaturesConfig
from etl.errors import ConfigError
from etl.graph import Column, FeatureGraph
from etl.reader import read


@dataclass(frozen=True)
class RawColumn:
    name: str
    dtype: str
    role: str
    is_list: bool = False
    minimum: float | None = None
    side: str | None = None


SHOP = (
    RawColumn("user", "int64", "user"),
    RawColumn("item", "string", "item"),
    RawColumn("country", "string", "categorical"),
    RawColumn("device", "string", "categorical"),
    RawColumn("tags", "string", "tags", is_list=True),
    RawColumn("price", "float64", "numeric", minimum=0),
    RawColumn("balance", "float64", "numeric"),
    RawColumn("time", "datetime", "timestamp"),
    RawColumn("importance", "float64", "weight"),
    RawColumn("note", "string", "ignore"),
    RawColumn("clicked", "int8", "label"),
)


def graph_of(features: FeaturesConfig, columns: tuple[RawColumn, ...] = SHOP, label: str | None = None) -> FeatureGraph:
    raw = [Column(column.name, column.dtype, column.is_list) for column in columns]
    return read(workflow.build(features, columns, label), raw)


def operators_above(graph: FeatureGraph, name: str) -> list[str]:
    """The operators that made the output `name`, first one first."""
    ref = next(ref for ref in graph.outputs if ref.column == name)
    found: list[str] = []
    while node := next((node for node in graph.nodes if node.id == ref.node), None):
        found.insert(0, node.op)
        ref = node.sources(ref.column)[0]
    return found


def refused(**features: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        graph_of(FeaturesConfig(**features))
    return str(caught.value)


def test_roles_make_the_default_features() -> None:
    graph = graph_of(FeaturesConfig(max_list_length=3), label="clicked")
    assert [column.name for column in graph.output_columns] == [
        *("user", "item", "country", "device", "tags", "price", "balance", "clicked", "importance")
    ]
    assert operators_above(graph, "country") == ["Categorify"]
    assert operators_above(graph, "tags") == ["Categorify", "ListSlice"]
    assert operators_above(graph, "price") == ["FillMissing", "LogOp", "Normalize"]
    assert operators_above(graph, "balance") == ["FillMissing", "Normalize"]
    columns = {column.name: column for column in graph.output_columns}
    assert set(columns["user"].tags) == {"user", "id", "categorical"}
    assert set(columns["item"].tags) == {"item", "id", "categorical"}
    assert set(columns["clicked"].tags) == {"target", "binary_classification"}
    assert (columns["tags"].is_list, columns["tags"].length) == (True, 3)
    assert (columns["price"].dtype, columns["balance"].dtype) == ("float32", "float32")


def test_a_columns_side_is_a_tag() -> None:
    raw = (
        RawColumn("item", "string", "item"),
        RawColumn("age", "float32", "numeric", side="user"),
        RawColumn("country", "string", "categorical", side="user"),
        RawColumn("brand", "string", "categorical", side="item"),
        RawColumn("hour", "int64", "categorical"),
    )
    graph = graph_of(FeaturesConfig(), raw)
    sides = {column.name: set(column.tags) & {"user", "item"} for column in graph.output_columns}
    assert sides == {"item": {"item"}, "age": {"user"}, "country": {"user"}, "brand": {"item"}, "hour": set()}


def test_label_timestamp_and_ignored_columns_are_no_features() -> None:
    graph = graph_of(FeaturesConfig())
    assert not {"clicked", "time", "note"} & {column.name for column in graph.inputs}


def test_a_weight_is_told_to_the_training_and_is_no_feature() -> None:
    graph = graph_of(FeaturesConfig(), label="clicked")
    columns = {column.name: column for column in graph.output_columns}
    assert set(columns["importance"].tags) == {"sample_weight"}


def test_roles_that_do_not_fit_the_type_are_all_listed() -> None:
    wrong = (
        RawColumn("a", "string", "numeric"),
        RawColumn("b", "string", "tags"),
        RawColumn("c", "int64", "user", True),
    )
    with pytest.raises(
        ConfigError, match=r"a \(string\) as numeric; b \(string\) as tags; c \(list of int64\) as user"
    ):
        workflow.chains_from_roles(wrong, FeaturesConfig())


def test_no_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="a column with the role"):
        workflow.chains_from_roles((RawColumn("t", "datetime", "timestamp"),), FeaturesConfig())


def test_chains_take_arguments_joint_groups_and_tags() -> None:
    chains = [
        ChainConfig(columns=[["country", "device"]], ops=[{"Categorify": {"freq_threshold": 2}}], tags=["context"]),
        ChainConfig(columns=["price"], ops=[{"Clip": {"min_value": 0}}, "LogOp"]),
        ChainConfig(columns=["price"], ops=[{"Bucketize": {"boundaries": [1, 10]}}, {"Rename": {"postfix": "_bin"}}]),
    ]
    graph = graph_of(FeaturesConfig(chains=chains), label="clicked")
    joint = next(node for node in graph.nodes if node.op == "Categorify")
    assert joint.params["groups"] == [["country", "device"]]
    assert joint.params["freq_threshold"] == 2
    columns = {column.name: column for column in graph.output_columns}
    assert list(columns) == ["country", "device", "price", "price_bin", "clicked", "importance"]
    assert "context" in columns["country"].tags


def test_a_history_and_the_item_that_follows_share_a_vocabulary() -> None:
    raw = (RawColumn("sku", "string", "item"), RawColumn("seen", "string", "history", True))
    graph = graph_of(FeaturesConfig(max_history=4), raw)
    columns = {column.name: column for column in graph.output_columns}
    assert next(node for node in graph.nodes if node.op == "Categorify").params["groups"] == [["sku", "seen"]]
    assert operators_above(graph, "seen")[:2] == ["Categorify", "ListSlice"]
    assert (columns["seen"].is_list, columns["seen"].length) == (True, 4)
    assert {"item", "id", "target"} <= set(columns["sku"].tags)
    assert "target" not in columns["seen"].tags


def test_operator_typo_gets_a_suggestion() -> None:
    message = refused(chains=[ChainConfig(columns=["country"], ops=["Categorfy"])])
    assert "'Categorfy'" in message
    assert "Did you mean Categorify?" in message


def test_unknown_argument_names_the_allowed_ones() -> None:
    message = refused(chains=[ChainConfig(columns=["country"], ops=[{"Categorify": {"freq_treshold": 2}}])])
    assert "operator Categorify, argument freq_treshold" in message
    assert "max_size" in message
    assert "Did you mean freq_threshold?" in message


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ({"Clip": {}}, "Must specify a min or max value"),
        ("Bucketize", "boundaries"),
        (
            {"Categorify": {"freq_threshold": 2, "max_size": 5}},
            "cannot use freq_threshold param together with max_size",
        ),
        ({"LogOp": None, "Clip": None}, "one name with its arguments"),
        ({"LogOp": {"base": 2}}, "operator LogOp, argument base"),
    ],
)
def test_arguments_that_nvtabular_refuses_are_config_errors(operator: Any, said: str) -> None:
    assert said in refused(chains=[ChainConfig(columns=["price"], ops=[operator])])


def test_unknown_columns_are_all_named() -> None:
    message = refused(chains=[ChainConfig(columns=["contry", ["devise", "item"]], ops=["Categorify"])])
    assert "contry, devise" in message
    assert "Did you mean country, device?" in message


def test_a_column_in_two_chains_needs_a_new_name() -> None:
    message = refused(chains=[ChainConfig(columns=["price"], ops=["LogOp"]), ChainConfig(columns=["price"])])
    assert "Rename" in message


def test_users_function_is_run(tmp_path: Path) -> None:
    file = tmp_path / "features.py"
    file.write_text(
        "import nvtabular as nvt\n"
        "from nvtabular import ops\n"
        "def build():\n"
        "    return nvt.Workflow(['country'] >> ops.Categorify() >> ops.AddMetadata(tags=['context']))\n"
    )
    graph = graph_of(FeaturesConfig(workflow=f"{file}:build"))
    assert [node.op for node in graph.nodes] == ["Categorify", "AddMetadata"]


@pytest.mark.parametrize(
    ("source", "reference", "said"),
    [
        ("", "features.py", "file.py:function"),
        (None, "features.py:build", "nothing there"),
        ("def biuld(): pass", "features.py:build", "Did you mean biuld?"),
        ("def build(): return 1", "features.py:build", "received int"),
        (
            "def build():\n    x = 1\n    return x / 0",
            "features.py:build",
            r"ZeroDivisionError: division by zero (line 3)",
        ),
        ("import nothing_of_that_name", "features.py:build", "No module named 'nothing_of_that_name' (line 1)"),
        ("def build(:", "features.py:build", "SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_users_file_is_said(tmp_path: Path, source: str | None, reference: str, said: str) -> None:
    if source is not None:
        (tmp_path / "features.py").write_text(source)
    with pytest.raises(ConfigError) as caught:
        workflow.load(f"{tmp_path}/{reference}")
    assert said in str(caught.value)


def test_a_logarithm_is_taken_of_counts_and_prices_but_not_of_years() -> None:
    columns = [
        RawColumn("price", "float64", "numeric", minimum=0),
        RawColumn("pieces", "int64", "numeric", minimum=1),
        RawColumn("year", "int64", "numeric", minimum=1870),
        RawColumn("balance", "float64", "numeric"),
    ]
    chains = workflow.chains_from_roles(columns, FeaturesConfig())
    logged = [name for chain in chains if "LogOp" in chain.ops for name in chain.columns]
    assert logged == ["price", "pieces"]
    assert sorted(str(name) for chain in chains for name in chain.columns) == ["balance", "pieces", "price", "year"]
