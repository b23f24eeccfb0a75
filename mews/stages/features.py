"""The feature stages: read the NVTabular graph, fit it on the training rows, transform every part."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from etl.graph import Column, FeatureGraph
from etl.sources.dataset import DataColumn, Dataset
from mews.pipeline import Context
from mews.run import PARTS, Run


def fit(context: Context) -> dict[str, Any]:
    """Read the workflow as a FeatureGraph, fit it on train, and save it."""
    from etl import fit as fitting
    from etl import reader, workflow

    dataset = Dataset.load(context.run.clean)
    features = context.config.features
    if features.workflow:
        built = workflow.load(features.workflow)
    else:
        built = workflow.build(features, dataset.columns, dataset.label)
    graph = reader.read(built, [_column(column) for column in dataset.columns])
    started = time.monotonic()
    graph = fitting.fit(graph, part_files(context.run, "train"), context.progress)
    seconds = time.monotonic() - started
    graph.save(context.run.graph)
    says = f"{len(graph.nodes)} operators, {len(graph.output_columns)} columns, fingerprint {graph.fingerprint[:12]}"
    return {"fit_seconds": seconds, "fingerprint": graph.fingerprint, "says": says}


def transform(context: Context) -> dict[str, Any]:
    """Write the features of train, valid and test."""
    from etl import batch

    run, config = context.run, context.config.features
    graph = FeatureGraph.load(run.graph)
    started = time.monotonic()
    rows = {}
    for part in PARTS:
        done = batch.transform(
            graph,
            part_files(run, part),
            run.features(part),
            rows_per_file=config.rows_per_file,
            progress=context.progress,
        )
        rows[part] = done.rows
    seconds = time.monotonic() - started
    total = sum(rows.values())
    summary = {
        "operators": [node.op for node in graph.nodes],
        "columns": [column.name for column in graph.output_columns],
        "rows": rows,
        "transform_seconds": seconds,
        "rows_per_s": total / seconds if seconds else None,
    }
    described = [
        {
            "name": c.name,
            "dtype": c.dtype,
            "is_list": c.is_list,
            "length": c.length,
            "tags": list(c.tags),
            "cardinality": c.cardinality,
        }
        for c in graph.output_columns
    ]
    write_text(run.features_summary, json.dumps(summary | {"columns": described}, indent=1))
    return summary | {"says": f"{total:,} rows, {total / max(seconds, 1e-9) / 1e6:.2f} M rows/s"}


def part_files(run: Run, part: str) -> Sequence[Path]:
    """Return the raw Parquet files of train, valid or test, in row order."""
    return Dataset.load(run.split / part).files


def _column(column: DataColumn) -> Column:
    return Column(column.name, column.dtype, is_list=column.is_list)
