"""NVTabular workflows are read as graphs and written back, with NVTabular itself as the judge."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.compiler import to_polars
from etl.dtypes import from_polars
from etl.errors import CompileError, ConfigError, SchemaError
from etl.fit import fit
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.reader import door, hydrate, read

RAW = (
    Column("user", "int64", tags=("user", "id")),
    Column("item", "string", tags=("item", "id")),
    Column("item2", "string"),
    Column("tags", "string", is_list=True),
    Column("price", "float64", tags=("continuous",)),
    Column("age", "float64", tags=("continuous",)),
    Column("label", "int64", tags=("target",)),
)
ROWS = pl.DataFrame(
    {
        "user": [1, 2, None, 2, 5, 2],
        "item": ["a", "b", "b", "c", None, "b"],
        "item2": ["a", "x", "b", "c", None, "a"],
        "tags": [["x", "y"], ["x"], ["z", "z"], [], ["x", "x", "y"], ["y"]],
        "price": [1.0, None, 2.0, 3.0, 4.0, 5.0],
        "age": [20.0, 30.0, 40.0, None, 60.0, 70.0],
        "label": [0, 1, 0, 1, 0, 1],
    }
)
Fit = Callable[[Any, pl.DataFrame], Any]


@pytest.fixture(scope="module")
def nvt() -> Any:
    return door.nvtabular()


@pytest.fixture
def fit_there(tmp_path: Path) -> Fit:
    """Fit a workflow with NVTabular on rows that went through Parquet, as they do in practice."""

    def fitted(workflow: Any, rows: pl.DataFrame) -> Any:
        with door.quiet():
            return workflow.fit(dataset_of(rows, tmp_path))

    return fitted


def dataset_of(rows: pl.DataFrame, folder: Path) -> Any:
    import merlin.io

    rows.write_parquet(folder / "rows.parquet")
    with door.quiet():
        return merlin.io.Dataset(str(folder / "rows.parquet"), engine="parquet")


def transformed(workflow: Any, rows: pl.DataFrame, folder: Path) -> pl.DataFrame:
    with door.quiet():
        frame = workflow.transform(dataset_of(rows, folder)).compute(scheduler="synchronous")
    return pl.DataFrame({name: frame[name].tolist() for name in frame.columns})


def planned(graph: FeatureGraph, rows: pl.DataFrame) -> pl.DataFrame:
    return to_polars(graph).apply(rows.lazy()).collect()


def assert_same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    """Integers and lists equal, same columns in the same order; floats equal but for a logarithm's last bit.

    NumPy's and our float32 logarithm may differ by one unit of rounding (1e-6 at 10), which Normalize then scales.
    """
    assert one.columns == other.columns
    for name in one.columns:
        if one[name].dtype.is_float():
            np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-6, atol=2e-6)
        else:
            assert one[name].to_list() == other[name].to_list(), name


def chain(graph: FeatureGraph, name: str) -> list[str]:
    ref = next(ref for ref in graph.outputs if ref.column == name)
    found = []
    while (node := next((node for node in graph.nodes if node.id == ref.node), None)) is not None:
        found.append(node.op)
        ref = node.sources(ref.column)[0]
    return [ref.column, *reversed(found)]


def all_operators(nvt: Any, folder: Path) -> Any:
    ops = nvt.ops
    users = ["user"] >> ops.Categorify(out_path=str(folder)) >> ops.TagAsUserID()
    items = [["item", "item2"]] >> ops.Categorify(out_path=str(folder), freq_threshold=1)
    tags = ["tags"] >> ops.Categorify(out_path=str(folder)) >> ops.ListSlice(0, 2, pad=True)
    filled = ["price"] >> ops.FillMissing(add_binary_cols=True)
    logs = filled["price"] >> ops.Clip(max_value=4.0) >> ops.LogOp()
    prices = logs >> ops.Normalize(out_dtype="float32") >> ops.Rename(postfix="_scaled")
    age = ["age"] >> ops.FillMissing(fill_val=-1) >> ops.NormalizeMinMax(out_dtype="float32")
    bins = ["age"] >> ops.FillMissing() >> ops.Bucketize({"age": [25, 50]}) >> ops.Rename(f=lambda name: f"{name}_bin")
    label = ["label"] >> ops.AddMetadata(tags=["target", "binary_classification"])
    return nvt.Workflow(users + items + tags + filled["price_filled"] + prices + age + bins + label)


# What is read


def test_plumbing_leaves_only_operators(nvt: Any) -> None:
    ops = nvt.ops
    both = ["price", "age"] >> ops.FillMissing()
    logs = (both - ["age"]) >> ops.LogOp()
    graph = read(nvt.Workflow(logs + both["age"] + "label"), RAW)
    assert [node.id for node in graph.nodes] == ["fill_missing_1", "log_op_1"]
    assert chain(graph, "price") == ["price", "FillMissing", "LogOp"]
    assert chain(graph, "age") == ["age", "FillMissing"]
    assert chain(graph, "label") == ["label"]
    assert [column.name for column in graph.output_columns] == ["price", "age", "label"]
    assert [column.name for column in graph.inputs] == ["price", "age", "label"]


def test_tags_and_wildcards_select_from_the_inputs(nvt: Any) -> None:
    from nvtabular import ColumnSelector

    numbers = ColumnSelector(tags=["continuous"]) >> nvt.ops.FillMissing()
    assert [column.name for column in read(nvt.Workflow(numbers), RAW).output_columns] == ["price", "age"]
    everything = ColumnSelector("*") >> nvt.ops.AddMetadata(tags=["context"])
    graph = read(nvt.Workflow(everything), RAW)
    assert [column.name for column in graph.output_columns] == [column.name for column in RAW]
    assert all("context" in column.tags for column in graph.output_columns)


def test_a_shared_branch_is_read_once(nvt: Any) -> None:
    filled = ["price"] >> nvt.ops.FillMissing()
    graph = read(nvt.Workflow((filled >> nvt.ops.LogOp() >> nvt.ops.Rename(postfix="_log")) + filled), RAW)
    assert sorted(node.op for node in graph.nodes) == ["FillMissing", "LogOp", "Rename"]
    assert chain(graph, "price_log") == ["price", "FillMissing", "LogOp", "Rename"]


def test_subgraphs_are_opened(nvt: Any) -> None:
    from merlin.dag.ops.subgraph import Subgraph

    users = Subgraph("users", ["user"] >> nvt.ops.Categorify())
    graph = read(nvt.Workflow(users + (["price"] >> nvt.ops.FillMissing())), RAW)
    assert chain(graph, "user") == ["user", "Categorify"]
    assert chain(graph, "price") == ["price", "FillMissing"]


def test_arguments_become_json_values(nvt: Any) -> None:
    ops = nvt.ops
    codes = ["item", "item2"] >> ops.Categorify(max_size={"item": 10, "item2": 20}, dtype=np.int32)
    bins = ["age"] >> ops.Bucketize(lambda name: (20, 30))
    graph = read(nvt.Workflow(codes + bins + (["price"] >> ops.Normalize(out_dtype=np.float32))), RAW)
    params = {node.op: node.params for node in graph.nodes}
    assert params["Categorify"]["max_size"] == {"item": 10, "item2": 20}
    assert params["Categorify"]["dtype"] == "int32"
    assert params["Bucketize"] == {"boundaries": {"age": [20, 30]}}
    assert params["Normalize"] == {"out_dtype": "float32"}
    assert [column.dtype for column in graph.output_columns] == ["int32", "int32", "int32", "float32"]


def test_every_unknown_operator_is_listed(nvt: Any) -> None:
    ops = nvt.ops

    class Shuffle(ops.Operator):  # type: ignore[name-defined,misc]
        """An operator of the user's own."""

    features = (["price"] >> ops.LambdaOp(lambda column: column.rank())) + (["age"] >> Shuffle())
    with pytest.raises(CompileError) as caught:
        read(nvt.Workflow(features + (["user"] >> ops.Categorify(single_table=True))), RAW)
    assert {problem.columns for problem in caught.value.problems} == {("price",), ("age",), ("user",)}
    assert "Shuffle on age" in str(caught.value)


def test_missing_columns_are_all_named(nvt: Any) -> None:
    with pytest.raises(SchemaError, match=r"columns pryce, agee.*Did you mean price, age"):
        read(nvt.Workflow(["pryce", "agee", "user"] >> nvt.ops.FillMissing()), RAW)


def test_what_is_no_workflow_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected an nvtabular\.Workflow; received str"):
        read("workflow", RAW)


def test_reading_does_not_change_the_workflow(nvt: Any, fit_there: Fit, tmp_path: Path) -> None:
    workflow = all_operators(nvt, tmp_path)
    first = read(workflow, RAW)
    assert workflow.output_schema is None
    assert read(workflow, RAW) == first
    fit_there(workflow, ROWS)
    before = workflow.output_schema
    read(workflow, RAW)
    assert workflow.output_schema == before


def test_removed_inputs_stay_removed(nvt: Any, fit_there: Fit, tmp_path: Path) -> None:
    workflow = fit_there(all_operators(nvt, tmp_path), ROWS)
    graph = read(workflow, RAW)
    served = read(workflow.remove_inputs(["label"]), RAW)
    assert "label" not in {column.name for column in (*served.inputs, *served.output_columns)}
    assert served.output_columns == graph.remove_inputs(["label"]).output_columns


# Fitted workflows


def test_a_fitted_workflow_is_the_unfitted_one_with_state(nvt: Any, fit_there: Fit, tmp_path: Path) -> None:
    workflow = all_operators(nvt, tmp_path)
    unfitted = read(workflow, RAW)
    graph = read(fit_there(workflow, ROWS), RAW)
    assert (unfitted.is_fitted, graph.is_fitted) == (False, True)
    assert unfitted.with_state({node.id: node.state for node in graph.nodes if node.state is not None}) == graph


def test_plans_from_nvtabulars_statistics_agree_with_it(nvt: Any, fit_there: Fit, tmp_path: Path) -> None:
    workflow = fit_there(all_operators(nvt, tmp_path), ROWS)
    graph = read(workflow, RAW)
    assert_same(planned(graph, ROWS).drop("tags"), transformed(workflow, ROWS, tmp_path).drop("tags"))
    assert planned(graph, ROWS)["tags"].list.len().to_list() == [2] * 6  # NVTabular does not pad on a CPU


def test_hydrated_workflow_agrees_with_the_plan_and_reads_as_the_same_graph(
    nvt: Any, fit_there: Fit, tmp_path: Path
) -> None:
    graph = read(fit_there(all_operators(nvt, tmp_path / "there"), ROWS), RAW)
    unseen = ROWS.with_columns(item=pl.Series(["new", None, "b", "ü", "c", "a"]), user=pl.Series([9, 1, 2, 5, None, 2]))
    workflow = hydrate(graph, tmp_path / "here")
    for rows in (ROWS, unseen):
        assert_same(planned(graph, rows), transformed(workflow, rows, tmp_path))
    assert read(workflow, RAW) == graph


def test_nvtabular_saves_and_loads_a_hydrated_workflow(nvt: Any, fit_there: Fit, tmp_path: Path) -> None:
    graph = read(fit_there(all_operators(nvt, tmp_path), ROWS), RAW)
    hydrate(graph).save(str(tmp_path / "saved"))
    gc.collect()
    assert_same(planned(graph, ROWS), transformed(nvt.Workflow.load(str(tmp_path / "saved")), ROWS, tmp_path))


def test_temporary_tables_live_as_long_as_the_workflow() -> None:
    graph = categorify_graph({"freq_threshold": 0})
    workflow = hydrate(graph)
    path = Path(next(iter(workflow.output_node.op.categories.values())))
    assert path.exists()
    del workflow
    gc.collect()
    assert not path.exists()


def categorify_graph(params: dict[str, Any], key: str = "item") -> FeatureGraph:
    table = pl.DataFrame({"value": ["a", "b"], "count": [2, 1]})
    node = OpNode(
        "categorify_1", "Categorify", (Ref("input", key),), (Column(key, "int64"),), params, state={key: table}
    )
    return FeatureGraph((Column(key, "string"),), (node,), (Ref("categorify_1", key),))


def test_column_names_that_are_no_file_names(tmp_path: Path) -> None:
    graph = categorify_graph({}, key="../a/ü?")
    workflow = hydrate(graph, tmp_path)
    rows = pl.DataFrame({"../a/ü?": ["b", "zz", None]})
    assert transformed(workflow, rows, tmp_path).to_series().to_list() == [4, 2, 1]
    assert all(tmp_path in path.parents for path in tmp_path.rglob("*"))


def test_unfitted_graphs_are_refused(nvt: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a fitted graph"):
        hydrate(read(all_operators(nvt, tmp_path), RAW))


# Real data


def retail(nvt: Any, folder: Path) -> Any:
    ops = nvt.ops
    codes = ["StockCode", "Country"] >> ops.Categorify(out_path=str(folder))
    users = ["CustomerID"] >> ops.Categorify(out_path=str(folder), freq_threshold=50) >> ops.TagAsUserID()
    price = ["UnitPrice"] >> ops.Clip(min_value=0.0) >> ops.LogOp() >> ops.Normalize(out_dtype="float32")
    quantity = ["Quantity"] >> ops.NormalizeMinMax(out_dtype="float32")
    return nvt.Workflow(codes + users + price + quantity)


@pytest.fixture(scope="module")
def sales(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sales") / "sales.parquet"
    pl.read_parquet(real_data / "online-retail" / "online_retail.parquet").head(100_000).write_parquet(path)
    return path


def raw_columns(path: Path) -> Sequence[Column]:
    return [Column(name, *from_polars(kind)) for name, kind in pl.read_parquet_schema(path).items()]


def by_rank(table: pl.DataFrame) -> pl.DataFrame:
    """A vocabulary with ties in ascending order of value; NVTabular leaves their order open."""
    return table.sort("count", "value", descending=[True, False])


def test_real_data_there_and_back(nvt: Any, fit_there: Fit, sales: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(sales)
    workflow = retail(nvt, tmp_path)
    ours = fit(read(workflow, raw_columns(sales)), [sales])
    theirs = read(fit_there(workflow, rows), raw_columns(sales))
    for mine, other in zip(ours.nodes, theirs.nodes, strict=True):
        for key in mine.state or {}:
            if mine.op == "Categorify":
                assert by_rank(other.state[key]).equals(mine.state[key]), key
            else:
                numbers = [table.select(pl.selectors.float()) for table in (mine.state[key], other.state[key])]
                np.testing.assert_allclose(*numbers, rtol=1e-6)  # NVTabular adds float32 up in float32
    # With their order of ties, their results are ours; with ours, the hydrated workflow gives ours.
    assert_same(planned(theirs, rows), transformed(workflow, rows, tmp_path))
    assert_same(planned(ours, rows), transformed(hydrate(ours), rows, tmp_path))


def test_a_fitted_workflow_knows_the_types_of_its_raw_columns(nvt: Any, fit_there: Fit) -> None:
    output = (["item", "tags"] >> nvt.ops.Categorify()) + (["price"] >> nvt.ops.Normalize()) + ["label"]
    workflow = nvt.Workflow(output)
    with pytest.raises(ConfigError, match="a fitted workflow, or the raw columns"):
        read(workflow)
    graph = read(fit_there(workflow, ROWS))
    assert {(c.name, c.dtype, c.is_list) for c in graph.inputs} == {
        ("item", "string", False), ("tags", "string", True), ("price", "float64", False), ("label", "int64", False)
    }  # fmt: skip
    assert graph.is_fitted
    assert graph.raw_columns_of("price", "tags") == tuple(c.name for c in graph.inputs if c.name in ("price", "tags"))
