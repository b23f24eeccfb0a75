"""The feature stages: read the NVTabular graph, fit it on the training rows, transform every part."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from etl.errors import ConfigError
from etl.graph import Column, FeatureGraph
from etl.names import ITEM, KNOWN, SAMPLE_WEIGHT, SCORE
from etl.sources.dataset import DataColumn, Dataset
from mews.console import Terminal
from mews.pipeline import Context
from mews.run import PARTS, Run
from mews.stages.lists import check_precision, item_node, learns_lists

_TOLD = 10
TARGETS = {"target", "binary_classification", "regression"}


def fit(context: Context) -> dict[str, Any]:
    """Read the workflow as a FeatureGraph, fit it on train, and save it."""
    from etl import fit as fitting
    from etl import reader, workflow

    dataset = Dataset.load(context.run.split / "train")
    features = context.config.features
    if features.max_history is None:
        features = features.model_copy(update={"max_history": context.config.split.history})
    if features.workflow:
        built = workflow.load(features.workflow)
    else:
        built = workflow.build(features, dataset.columns, dataset.labels)
    graph = reader.read(built, [_column(column) for column in dataset.columns])
    _check(graph, dataset.label, context)
    started = time.monotonic()
    graph, statistics = fitting.fit_statistics(
        graph,
        part_files(context.run, "train"),
        context.progress,
        memory_limit=features.memory_limit,
        on=features.scheduler,
        widen=features.widen,
    )
    seconds = time.monotonic() - started
    graph.save(context.run.graph)
    statistics.save(context.run.graph.parent / "statistics")
    says = f"{len(graph.nodes)} operators, {len(graph.output_columns)} columns, fingerprint {graph.fingerprint[:12]}"
    return {"fit_seconds": seconds, "fingerprint": graph.fingerprint, "says": says}


def label_columns(graph: FeatureGraph) -> list[Column]:
    """Return the feature columns that are tagged as what a model predicts."""
    return [column for column in graph.output_columns if TARGETS & set(column.tags)]


def training_columns(graph: FeatureGraph) -> list[Column]:
    """Return the feature columns that only training reads, so that a request lacks them: labels and weights."""
    return [column for column in graph.output_columns if {*TARGETS, SAMPLE_WEIGHT} & set(column.tags)]


def _check(graph: FeatureGraph, label: str | None, context: Context) -> None:
    """ConfigError, long before the training, when no model could be trained on these features and served."""
    targets = [column.name for column in label_columns(graph)]
    answers = {SCORE, *(f"{SCORE}_{target}" for target in targets)}
    names = {column.name for column in (*graph.inputs, *graph.output_columns)}
    taken = sorted(answers & names)
    if learns_lists(context.config):  # the item itself is in no request
        taken += sorted({ITEM, KNOWN} & (names - {*targets, *graph.raw_columns_of(*targets)}))
    if taken:
        raise ConfigError(
            f"column {taken[0]!r}",
            expected="another name: an output of the served ensemble is called so",
            hint="Rename it in the data, or keep it out of the features (role ignore).",
        )
    if not targets:
        tagged = f'["{label or "your_label"}"] >> nvtabular.ops.AddMetadata(tags=["target"])'
        raise ConfigError(
            "the label of the features",
            expected="one column tagged target",
            received="none",
            hint=f"Add {tagged} to the workflow.",
        )
    if learns_lists(context.config):
        check_precision(context.config)
        item_node(graph, targets[0])
    own = [column.name for column in training_columns(graph)]
    rest = [column for column in graph.output_columns if column.name not in own]
    unread = [column.name for column in rest if not {"categorical", "continuous"} & set(column.tags)]
    hint = "Categorify and Normalize tag their columns; tag others with AddMetadata(tags=[...])"
    if len(unread) == len(rest):
        raise ConfigError(
            "the features",
            expected="columns tagged categorical or continuous",
            received=", ".join(unread) or "none",
            hint=f"{hint}.",
        )
    if unread:
        context.terminal.warn(
            f"the model does not read {', '.join(unread)}: not tagged categorical or continuous. {hint}"
        )


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
            layout=batch.Layout(config.row_group_size, config.compression),
            shuffle=config.shuffle if part == "train" else None,
            engine=config.engine,
            gpu_fallback=config.gpu_fallback,
            out_of_fold=part == "train",
            memory_limit=config.memory_limit,
            widen=config.widen,
        )
        rows[part] = done.rows
        warn_of(done.drift, context.terminal)
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


def warn_of(drift: Sequence[str], terminal: Terminal) -> None:
    """Tell how the columns of one data set's files differ: the first ten lines, and how many there are."""
    for said in drift[:_TOLD]:
        terminal.warn(f"the files' columns differ: {said}")
    if len(drift) > _TOLD:
        terminal.warn(f"the files' columns differ: {len(drift) - _TOLD} more")


def part_files(run: Run, part: str) -> Sequence[Path]:
    """Return the raw Parquet files of train, valid or test, in row order."""
    return Dataset.load(run.split / part).files


def _column(column: DataColumn) -> Column:
    return Column(column.name, column.dtype, is_list=column.is_list)
