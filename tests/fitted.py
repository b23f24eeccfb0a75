"""Every fitted operator with options and data that could make its statistics depend on the order or the partition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.operators import OPERATORS

INPUTS = (
    *(Column(name, "string") for name in "stu"),
    *(Column(name, "float64") for name in "fy"),
    Column("i", "int64"),
    Column("l", "int64", True),
)
ROWS = 2_000


def column(name: str) -> Column:
    return next(column for column in INPUTS if column.name == name)


def node(op: str, *columns: str, outputs: tuple[Column, ...] = (), id: str = "", **params: Any) -> OpNode:
    made = outputs or tuple(column(name) for name in columns)
    return OpNode(id or op, op, tuple(Ref("input", name) for name in columns), made, params)


def codes(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "int64", column(name).is_list, tags=("categorical",)) for name in names)


GROUPED = node(
    "JoinGroupby",
    *("s", "t", "f", "i"),
    outputs=(Column("s_f_mean", "float64"),),
    groups=[["s"], ["s", "t"]],
    cont_cols=["f", "i"],
    stats=["count", "sum", "mean", "std", "var", "min", "max"],
)
ENCODED = node(
    "TargetEncoding",
    *("s", "t", "y"),
    outputs=(Column("TE_s_y", "float64"),),
    groups=[["s"], ["s", "t"]],
    target=["y"],
    kfold=3,
    fold_seed=1,
    p_smooth=20,
)
LOW = node("Categorify", "u", "s", outputs=codes("u", "s"), id="low")
CASES: dict[str, tuple[OpNode, ...]] = {
    "Categorify": (
        node("Categorify", "s", "i", "l", outputs=codes("s", "i", "l")),
        node("Categorify", "s", "f", outputs=codes("s", "f"), id="cut", max_size={"s": 9, "f": 200}),
        node("Categorify", "s", "t", outputs=codes("s", "t"), id="joint", groups=[["s", "t"]], freq_threshold=40),
        node(
            *("Categorify", "s", "t"),
            outputs=(Column("s_t", "int64"),),
            id="combo",
            encode_type="combo",
            groups=[["s", "t"]],
        ),
    ),
    "Normalize": (node("Normalize", "f", "i", "l", outputs=tuple(Column(n, "float64", n == "l") for n in "fil")),),
    "NormalizeMinMax": (node("NormalizeMinMax", "f"),),
    "JoinGroupby": (GROUPED,),
    "TargetEncoding": (ENCODED,),
    "FillMedian": (node("FillMedian", "f", "i", outputs=(column("f"), Column("i", "float64"))),),
    "DataStats": (node("DataStats", "s", "f", "i"),),
    "ReduceDtypeSize": (node("ReduceDtypeSize", "i", "f"),),
    "ValueCount": (node("ValueCount", "l"),),
    "DropLowCardinality": (
        LOW,
        OpNode("DropLowCardinality", "DropLowCardinality", (Ref("low", "u"), Ref("low", "s")), codes("u", "s")),
    ),
}
"""What is fitted in each test of an operator."""

FITTED = [name for name, operator in OPERATORS.items() if operator.fitted or name == "DropLowCardinality"]


def graph(*nodes: OpNode) -> FeatureGraph:
    last = nodes[-1]
    return FeatureGraph(INPUTS, nodes, tuple(Ref(last.id, column.name) for column in last.outputs))


def rows(number: int = ROWS, seed: int = 3) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    f = np.ldexp(random.normal(size=number), random.integers(-30, 30, number))
    f[random.integers(0, number, number // 20)] = np.nan
    f[random.integers(0, number, number // 20)] = random.choice([0.0, -0.0], number // 20)
    return pl.DataFrame(
        {
            "s": [None if n == 0 else f"w{n}" for n in random.integers(0, 40, number)],
            "t": [None if n == 0 else f"w{n}" for n in random.integers(0, 5, number)],
            "u": [f"u{n}" for n in random.integers(0, 2, number)],
            "f": f,
            "i": [None if n % 17 == 0 else n // 2**32 for n in random.integers(-(2**40), 2**40, number).tolist()],
            "y": random.normal(size=number),
            "l": [list(range(n)) if n else None for n in random.integers(0, 7, number)],
        },
        schema={column.name: pl.List(pl.Int64) if column.is_list else TYPES[column.dtype] for column in INPUTS},
    )


TYPES = {"string": pl.String, "float64": pl.Float64, "int64": pl.Int64}
GRAPH = graph(
    *(node for nodes in CASES.values() for node in nodes),
    OpNode("above", "Normalize", (Ref("FillMedian", "f"),), (column("f"),)),
)
"""All of them, and one that waits for another."""


def write(folder: Path, frame: pl.DataFrame, parts: int) -> list[Path]:
    size = -(-frame.height // parts)
    paths = [folder / f"part_{number:03d}.parquet" for number in range(parts)]
    for number, path in enumerate(paths):
        frame[number * size : (number + 1) * size].write_parquet(path)
    return paths
