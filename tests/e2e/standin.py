"""A feature graph of nine raw columns fitted on made rows, and a hand-made scorer of a DLRM's size for its features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import nvtabular as nvt
import onnx
import polars as pl
from nvtabular import ops
from onnx import TensorProto, helper, numpy_helper

from etl.compiler import to_onnx
from etl.fit import fit
from etl.graph import Column, FeatureGraph
from etl.reader import read

WIDTH = 16
TAGS = 6
_WORDS = {"country": 40, "device": 4, "category": 300}


def rows(count: int, seed: int = 0) -> pl.DataFrame:
    """Return `count` raw rows: two ids, three strings, two floats with nulls, a number, a list of strings."""
    rng = np.random.default_rng(seed)
    frame: dict[str, object] = {
        "user_id": rng.integers(0, 20_000, count),
        "item_id": rng.zipf(1.3, count) % 5_000,
        **{name: [f"{name}-{code}" for code in rng.zipf(1.5, count) % size] for name, size in _WORDS.items()},
        "price": np.where(rng.random(count) < 0.05, np.nan, rng.lognormal(3, 1, count)).astype(np.float32),
        "age": rng.integers(18, 90, count).astype(np.float32),
        "hour": rng.integers(0, 24, count),
        "tags": [[f"tag-{code}" for code in rng.integers(0, 200, rng.integers(0, 9))] for _ in range(count)],
    }
    return pl.DataFrame(frame).with_columns(pl.col("price").fill_nan(None))


def graph(parquet: Path) -> FeatureGraph:
    """Return the features of `rows`, fitted on the file."""
    kinds = {"user_id": "int64", "item_id": "int64", "price": "float32", "age": "float32", "hour": "int64"}
    columns = [Column(name, kind) for name, kind in kinds.items()]
    columns += [Column(name, "string") for name in _WORDS] + [Column("tags", "string", is_list=True)]
    words = ["user_id", "item_id", *_WORDS] >> ops.Categorify()
    tags = ["tags"] >> ops.Categorify() >> ops.ListSlice(TAGS, pad=True)
    numbers = ["price", "age", "hour"] >> ops.FillMissing() >> ops.LogOp() >> ops.Normalize(out_dtype=np.float32)
    return fit(read(nvt.Workflow(words + tags + numbers), columns), [parquet])


def scorer(features: FeatureGraph, seed: int = 0) -> onnx.ModelProto:
    """Return embeddings, their interactions and two dense layers over the features of `features`."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        values = (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(name: str, *values: int) -> str:
        weights.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def dense(source: str, name: str, inputs: int, outputs: int, activation: str) -> str:
        parameters = [source, weight(f"{name}_w", inputs, outputs), weight(f"{name}_b", outputs)]
        nodes.append(helper.make_node("Gemm", parameters, [f"{name}_x"]))
        nodes.append(helper.make_node(activation, [f"{name}_x"], [name]))
        return name

    axis, numbers, vectors, inputs = constant("axis", 1), [], [], []
    for column in features.output_columns:
        kind = TensorProto.FLOAT if column.cardinality is None else TensorProto.INT64
        inputs.append(helper.make_tensor_value_info(column.name, kind, ["batch", column.length or 1]))
        if column.cardinality is None:
            numbers.append(column.name)
            continue
        table = weight(f"{column.name}_table", column.cardinality, WIDTH)
        nodes.append(helper.make_node("Gather", [table, column.name], [f"{column.name}_rows"]))
        nodes.append(helper.make_node("ReduceSum", [f"{column.name}_rows", axis], [f"{column.name}_v"], keepdims=0))
        vectors.append(f"{column.name}_v")
    nodes.append(helper.make_node("Concat", numbers, ["numbers"], axis=1))
    vectors.append(dense(dense("numbers", "bottom1", len(numbers), 64, "Relu"), "bottom2", 64, WIDTH, "Relu"))
    count = len(vectors)
    nodes.append(helper.make_node("Concat", vectors, ["flat"], axis=1))
    nodes.append(helper.make_node("Reshape", ["flat", constant("grid", -1, count, WIDTH)], ["left"]))
    nodes.append(helper.make_node("Transpose", ["left"], ["right"], perm=[0, 2, 1]))
    nodes.append(helper.make_node("MatMul", ["left", "right"], ["pairs"]))
    nodes.append(helper.make_node("Reshape", ["pairs", constant("line", -1, count * count)], ["interactions"]))
    nodes.append(helper.make_node("Concat", ["interactions", "bottom2"], ["together"], axis=1))
    top = dense("together", "top1", count * count + WIDTH, 128, "Relu")
    dense(dense(top, "top2", 128, 64, "Relu"), "score", 64, 1, "Sigmoid")
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    made = helper.make_graph(nodes, "scorer", inputs, [output], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"mews.fingerprint": features.fingerprint})
    return model


def write(folder: Path, count: int = 20_000) -> tuple[FeatureGraph, Path, Path, Path]:
    """Write raw rows, workflow.onnx and model.onnx to `folder`; returns the graph and the three paths."""
    parquet, workflow, model = folder / "rows.parquet", folder / "workflow.onnx", folder / "model.onnx"
    rows(count).write_parquet(parquet)
    features = graph(parquet)
    onnx.save(to_onnx(features), workflow)
    onnx.save(scorer(features), model)
    return features, parquet, workflow, model
