"""A fitted workflow as a step: NVTabular's, or a feature graph from a folder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.dtypes import dtype as dtype_named
from etl.errors import ConfigError
from etl.graph import Column, FeatureGraph
from etl.requests import RequestForm
from mews.dropin.steps import Arrays, Source, Step

LABELS = {"target", "binary_classification", "regression"}
"""The tags of a label."""


def labels(graph: FeatureGraph, named: Collection[str]) -> tuple[str, ...]:
    """Return the raw columns that are labels: those `named`, and those that only features tagged as labels are made of.

    ConfigError for a name that the graph does not have.
    """
    inputs = [column.name for column in graph.inputs]
    if unknown := [name for name in named if name not in inputs]:
        raise ConfigError(f"label_columns {', '.join(unknown)}", expected=f"raw columns: {', '.join(inputs)}")
    tagged = [column.name for column in graph.output_columns if LABELS & set(column.tags)]
    others = [column.name for column in graph.output_columns if column.name not in tagged]
    only = set(graph.raw_columns_of(*tagged)) - set(graph.raw_columns_of(*others))
    return tuple(name for name in inputs if name in only or name in named)


def features_step(
    role: str,
    graph: FeatureGraph,
    whole: FeatureGraph,
    reads: Mapping[str, Source],
    workflow: Any | None,
    forms: Mapping[str, RequestForm],
) -> Step:
    """Return the step of a fitted `graph`, a part of `whole`; `workflow` is NVTabular's own, None for a folder's."""

    def write(target: Path, fingerprint: str, needed: Collection[str]) -> Mapping[str, str]:
        import onnx

        from etl.compiler import feature_tensors, to_onnx

        kept = tuple(ref for ref in graph.outputs if ref.column in needed)
        model = to_onnx(replace(graph, outputs=kept), whole, forms)
        onnx.helper.set_model_props(
            model, {p.key: p.value for p in model.metadata_props} | {"mews.fingerprint": fingerprint}
        )
        onnx.save(model, target)
        return feature_tensors(model)

    own = _polars(graph) if workflow is None else _nvtabular(graph, workflow)
    return Step(role, "the features", reads, write, own, whole.fingerprint, graph)


def _polars(graph: FeatureGraph) -> Callable[[Arrays], Arrays]:
    def own(columns: Arrays) -> Arrays:
        from etl.compiler import to_polars

        frame = to_polars(graph).apply(_frame(columns, graph).lazy()).collect()
        return {c.name: _array(frame.get_column(c.name).to_list(), c) for c in graph.output_columns}

    return own


def _nvtabular(graph: FeatureGraph, workflow: Any) -> Callable[[Arrays], Arrays]:
    def own(columns: Arrays) -> Arrays:
        import warnings

        from etl.reader import door

        nvtabular = door.nvtabular()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas' and NumPy's remarks on NVTabular's code
            try:
                dataset = nvtabular.Dataset(_frame(columns, graph).to_pandas(), cpu=True)
                transformed = _without_labels(workflow, graph).transform(dataset).to_ddf()
                found = transformed.compute(scheduler="synchronous")
            except Exception as error:  # NVTabular's errors have no common base
                hint = "Give `examples` that it can transform, or name what requests do not have in label_columns."
                raise ConfigError("NVTabular cannot transform the examples", received=str(error), hint=hint) from error
        return {c.name: _array(found[c.name].tolist(), c) for c in graph.output_columns if c.name in found}

    return own


def _without_labels(workflow: Any, graph: FeatureGraph) -> Any:
    """The workflow, or a copy of it without the raw columns that the graph does not have."""
    kept = {column.name for column in graph.inputs}
    gone = [name for name in workflow.input_schema.column_names if name not in kept]
    return copy.deepcopy(workflow).remove_inputs(gone) if gone else workflow


def _frame(columns: Arrays, graph: FeatureGraph) -> pl.DataFrame:
    """Columns by name as a frame of the graph's types; what is a frame's Series already stays."""
    found = []
    for column in graph.inputs:
        values = columns[column.name]
        if isinstance(values, pl.Series):
            found.append(values.alias(column.name))
            continue
        inner = dtype_named(column.dtype).polars
        rows = values.tolist() if column.is_list else values[:, 0].tolist()
        found.append(pl.Series(column.name, rows, dtype=pl.List(inner) if column.is_list else inner))
    return pl.DataFrame(found)


def _array(values: list[Any], column: Column) -> Any:
    """A column's values as ONNX Runtime gives them, [rows, width].

    Lists are padded with 0 to their length, which NVTabular on a CPU does not; moments are microseconds.
    """
    if column.dtype == "datetime":
        return np.array(values, dtype="datetime64[us]").astype(np.int64).reshape(-1, 1)
    if not column.is_list:
        missing = "" if column.dtype == "string" else np.nan
        return np.array([missing if value is None else value for value in values]).reshape(-1, 1)
    values = [[] if value is None else value for value in values]
    width = column.length or max((len(value) for value in values), default=0)
    made = np.zeros((len(values), width), dtype=column.dtype)
    for number, value in enumerate(values):
        made[number, : len(value)] = value
    return made
