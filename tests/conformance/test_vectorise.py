"""Columns that take the same way are one tensor in the graph, and the features are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest

from etl.compiler import feature_tensors, to_onnx
from etl.compiler.targets import onnx as target
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.requests import RequestForm

NAN, INF = float("nan"), float("inf")
COLUMNS = [f"c{n}" for n in range(5)]
VALUES = [NAN, INF, -INF, -0.0, 0.0, -1.0, 0.1, 3e38, 1e-40, 77.25, 2.5]


def _graph(dtypes: list[str], clip: list[float]) -> FeatureGraph:
    """Return fill, clip (its own bound for each column), log and normalize over float columns."""
    columns = [Column(name, dtype) for name, dtype in zip(COLUMNS, dtypes, strict=False)]
    nodes, outputs = [], []
    for number, column in enumerate(columns):
        before = Ref(INPUT, column.name)
        moments = {"column": [column.name], "count": [9], "mean": [number / 3], "std": [0.5 + number]}
        steps: list[tuple[str, dict[str, Any], Any]] = [
            ("FillMissing", {"fill_val": float(number), "add_binary_cols": True}, None),
            ("Clip", {"min_value": clip[number]}, None),
            ("LogOp", {}, None),
            ("Normalize", {"out_dtype": "float32"}, {"moments": pl.DataFrame(moments)}),
        ]
        for op, params, state in steps:
            made = Column(column.name, "float32" if op in ("LogOp", "Normalize") else column.dtype)
            filled = Column(f"{column.name}_filled", "bool")
            out = (made, filled) if op == "FillMissing" else (made,)
            nodes.append(OpNode(f"{op}_{column.name}", op, (before,), out, params, state))
            before = Ref(nodes[-1].id, column.name)
        outputs += [before, Ref(f"FillMissing_{column.name}", f"{column.name}_filled")]
    return FeatureGraph(tuple(columns), tuple(nodes), tuple(outputs))


def _run(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = feature_tensors(model)
    return dict(zip(names, session.run(list(names.values()), feeds), strict=True))


@pytest.mark.parametrize(
    ("dtypes", "clip", "concats"),
    [
        (["float32"] * 5, [0.0] * 5, 1),
        (["float32", "float64", "float32", "float64", "float32"], [0.0] * 5, 2),
        (["float32"] * 5, [0.0, 0.0, -0.5, -0.5, 7.0], 2),
        (["float32"], [0.0], 0),
    ],
)
def test_columns_are_joined_and_features_are_the_same(
    dtypes: list[str], clip: list[float], concats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = _graph(dtypes, clip)
    joined = to_onnx(graph)
    monkeypatch.setattr(target, "vectorise", lambda model: model)
    apart = to_onnx(graph)
    assert [node.op_type for node in joined.graph.node].count("Concat") == concats
    assert (len(joined.graph.node) < len(apart.graph.node)) == (concats > 0)
    used = {name for node in joined.graph.node for name in node.input}
    assert {constant.name for constant in joined.graph.initializer} <= used
    for rows in (VALUES, VALUES[:1], []):
        feeds = {c.name: np.array(rows, c.dtype).reshape(-1, 1) for c in graph.inputs}
        expected, received = _run(apart, feeds), _run(joined, feeds)
        assert list(expected) == list(received)
        for name, values in expected.items():
            assert received[name].dtype == values.dtype
            # The last bit of a logarithm, after it was divided.
            np.testing.assert_allclose(received[name], values, rtol=1e-6, atol=1e-7, equal_nan=True)


def test_a_column_that_may_be_left_out_stays_apart() -> None:
    graph = _graph(["float32"] * 3, [0.0] * 3)
    model = to_onnx(graph, None, {"c0": RequestForm(optional=True)})
    first = next(node for node in model.graph.node if node.op_type == "Concat" and node.attribute[0].i == 1)
    assert list(first.input) == ["c1", "c2"]
