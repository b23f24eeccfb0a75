"""What Categorify, the hashes and the joins refuse, and the reason they give."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from etl.compiler import to_onnx, to_polars
from etl.errors import CompileError, ConfigError
from etl.fit import fit
from etl.graph import Column, FeatureGraph, OpNode, Ref

INPUTS = (
    Column("s", "string"),
    Column("i", "int64"),
    Column("f", "float64"),
    Column("y", "int64"),
    Column("l", "string", True),
)
KEYS = pl.DataFrame({"value": ["a", "b"], "count": [2, 1]})
COMBO = {"encode_type": "combo", "groups": [["s", "l"]]}
PAIRS = pl.DataFrame({"value_0": ["a"], "value_1": ["b"], "count": [1]})
TARGET = {"groups": [["s"]], "target": ["y"], "kfold": 1, "p_smooth": 1, "fold_seed": 42}
GROUPBY = {"groups": [["s"]], "cont_cols": ["y"], "stats": ["mean"]}
MEANS = {"groups.s": pl.DataFrame({"value": ["a"], "count": [1], "mean_0": [0.5], "count_0": [1], "sum_0": [1.0]})}
SIMILAR = {"groups": [["i", "f"]], "left_rows": 1, "right_rows": 1}
ENTRY = pl.DataFrame({"row": [0], "place": [0], "value": [1.0]})


def made(op: str, columns: str, output: Column, params: dict[str, Any], state: Any = None) -> FeatureGraph:
    """A graph of one operator on some columns."""
    refs = tuple(Ref("input", name) for name in columns.split())
    node = OpNode("op", op, refs, (output,), params, state)
    return FeatureGraph(INPUTS, (node,), (Ref("op", output.name),))


CODE, HASH = Column("s", "int64"), Column("s", "int32")
MEAN, ENCODED = Column("s_y_mean", "float32"), Column("TE_s_y", "float32")
REFUSED = {
    "codes beyond the type": (
        made("Categorify", "s", Column("s", "int8"), {"dtype": "int8"}, {"s": KEYS[[0] * 200]}),
        "go up to 202, which dtype int8 does not hold",
    ),
    "codes that float16 rounds": (
        made("Categorify", "s", Column("s", "float32"), {"dtype": "float16"}, {"s": KEYS[[0] * 3000]}),
        "dtype float16 does not hold",
    ),
    "combined lists": (
        made("Categorify", "s l", Column("s_l", "int64"), COMBO, {"s_l": PAIRS}),
        "lists cannot be combined",
    ),
    "unfitted combination": (made("Categorify", "s l", Column("s_l", "int64"), COMBO), "not fitted"),
    "combination with the empty string": (
        made(
            "Categorify",
            "s i",
            Column("s_i", "int64"),
            {"encode_type": "combo", "groups": [["s", "i"]]},
            {"s_i": pl.DataFrame({"value_0": [""], "value_1": [1], "count": [1]})},
        ),
        "means null in a request",
    ),
    "single table": (made("Categorify", "s", CODE, {"single_table": True}, {"s": KEYS}), "strict_nvtabular=True"),
    "no buckets": (made("HashBucket", "s", HASH, {"num_buckets": 0}), "num_buckets of 's' is 0"),
    "buckets of another column": (made("HashBucket", "s", HASH, {"num_buckets": {"t": 3}}), "num_buckets of 's' is 0"),
    "too many buckets": (made("HashBucket", "s", HASH, {"num_buckets": 2**31}), r"from 1 to 2\*\*31 - 1"),
    "crossed lists": (
        made("HashedCross", "s l", Column("s_X_l", "int32"), {"num_buckets": 3}),
        "lists cannot be crossed",
    ),
    "unfitted JoinGroupby": (made("JoinGroupby", "s y", MEAN, GROUPBY), "not fitted"),
    "JoinGroupby of another name": (
        made("JoinGroupby", "s y", Column("other", "float32"), GROUPBY, MEANS),
        "makes no column 'other'",
    ),
    "a list as a key": (
        made(
            "JoinGroupby",
            "l y",
            Column("l_y_mean", "float32"),
            GROUPBY | {"groups": [["l"]]},
            {"groups.l": MEANS["groups.s"]},
        ),
        "a list cannot be a key",
    ),
    "keys of another kind": (
        made(
            "JoinGroupby",
            "i y",
            Column("i_y_mean", "float32"),
            GROUPBY | {"groups": [["i"]]},
            {"groups.i": MEANS["groups.s"]},
        ),
        "its vocabulary is of String",
    ),
    "unfitted TargetEncoding": (made("TargetEncoding", "s y", ENCODED, TARGET), "not fitted"),
    "encoding as an integer": (
        made("TargetEncoding", "s y", Column("TE_s_y", "int32"), TARGET | {"out_dtype": "int32"}, MEANS),
        "out_dtype int32 is not supported",
    ),
    "no mean": (
        made(
            "TargetEncoding", "s y", ENCODED, TARGET, MEANS | {"means": pl.DataFrame({"column": ["z"], "mean": [0.0]})}
        ),
        "does not hold the mean of 'y'",
    ),
    "no external table": (
        made("JoinExternal", "s", Column("w", "int64"), {"on": ["s"], "on_ext": ["k"]}),
        "not fitted",
    ),
    "rows that are not integers": (
        made("ColumnSimilarity", "i f", Column("i_f_sim", "float64"), SIMILAR, {"left": ENTRY, "right": ENTRY}),
        "takes the numbers of rows, not float64",
    ),
}


@pytest.mark.parametrize("compiled", [to_polars, to_onnx])
@pytest.mark.parametrize(("graph", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_expressed_is_refused(graph: FeatureGraph, reason: str, compiled: Any) -> None:
    with pytest.raises(CompileError, match=reason) as caught:
        compiled(graph)
    (problem,) = caught.value.problems
    assert problem.operator == graph.nodes[0].op


NOT_FITTED = {
    "single table": (made("Categorify", "s", CODE, {"single_table": True}), "expected single_table=False"),
    "both limits": (made("Categorify", "s", CODE, {"max_size": 9, "freq_threshold": 2}), "max_size or freq_threshold"),
    "too small a combination": (
        made(
            "Categorify", "s i", Column("s_i", "int64"), {"encode_type": "combo", "groups": [["s", "i"]], "max_size": 2}
        ),
        "max_size of 's_i'; expected >= 3",
    ),
    "statistics of strings": (
        made(
            "JoinGroupby",
            "i s",
            Column("i_s_mean", "float32"),
            {"groups": [["i"]], "cont_cols": ["s"], "stats": ["mean"]},
        ),
        "column 's'; expected a scalar column of numbers",
    ),
    "a target that is a list": (
        made("TargetEncoding", "s l", Column("TE_s_l", "float32"), TARGET | {"target": ["l"]}),
        "received a list",
    ),
    "a list as a key": (
        made("TargetEncoding", "l y", Column("TE_l_y", "float32"), TARGET | {"groups": [["l"]]}),
        "key 'l'; expected a scalar column",
    ),
}


@pytest.mark.parametrize(("graph", "reason"), NOT_FITTED.values(), ids=NOT_FITTED)
def test_what_no_data_can_satisfy_is_refused(graph: FeatureGraph, reason: str, tmp_path: Any) -> None:
    rows = pl.DataFrame({"s": ["a"], "i": [1], "f": [1.0], "y": [1], "l": [["a"]]})
    rows.write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ConfigError, match=reason):
        fit(graph, [tmp_path / "rows.parquet"])


def test_a_matrix_that_a_model_cannot_hold_is_for_batch_only() -> None:
    wide = pl.DataFrame({"row": [0] * 2**13, "place": range(2**13), "value": [1.0] * 2**13})
    params = {"groups": [["i", "y"]], "left_rows": 2**14, "right_rows": 2**14}
    graph = made("ColumnSimilarity", "i y", Column("i_y_sim", "float64"), params, {"left": wide, "right": wide})
    rows = pl.DataFrame({"i": [0, 1], "y": [0, 2**14]})
    assert to_polars(graph).apply(rows.lazy()).collect()["i_y_sim"].fill_nan(None).to_list() == [2**13, None]
    with pytest.raises(CompileError, match="Keep the largest values of each row"):
        to_onnx(graph)


def test_many_keys_of_many_values_are_told_apart() -> None:
    """Numbers of tuples are numbered anew before they leave int64."""
    rows = 3000
    parts = {f"value_{place}": [(row * (place + 3)) % (rows - place) for row in range(rows)] for place in range(7)}
    table = pl.DataFrame(parts).unique(maintain_order=True)
    columns = tuple(Column(f"c{place}", "int64") for place in range(7))
    refs = tuple(Ref("input", column.name) for column in columns)
    names = [column.name for column in columns]
    output = Column("_".join(names), "int64")
    params = {"encode_type": "combo", "groups": [names]}
    state = {output.name: table.with_columns(count=pl.lit(1))}
    node = OpNode("op", "Categorify", refs, (output,), params, state)
    graph = FeatureGraph(columns, (node,), (Ref("op", output.name),))
    frame = table.rename(dict(zip(table.columns, names, strict=True)))
    found = to_polars(graph).apply(frame.lazy()).collect()[output.name]
    assert found.to_list() == list(range(3, 3 + table.height))
    other = frame.with_columns(c6=pl.col("c6") + 1)
    assert to_polars(graph).apply(other.lazy()).collect()[output.name].unique().to_list() == [2]
