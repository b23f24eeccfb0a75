"""The stages of models that learn from item lists: evaluate, export and query, where the answer is a list too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from etl.atomic import atomic_folder
from etl.dtypes import is_integer
from etl.errors import ConfigError
from etl.graph import FeatureGraph, OpNode
from etl.names import ITEM, KNOWN, SCORE
from etl.operators.categorical import first_code, vocabulary_of
from etl.sources.dataset import Dataset
from mews.config import PipelineConfig
from mews.pipeline import Context
from mews.run import Run
from training.models.catalog import MODELS

Answers = Mapping[str, npt.NDArray[Any]]
FIRST = 3
"""The code of the first item of a vocabulary."""
ANSWERS = "answers.npz"


def learns_lists(config: PipelineConfig) -> bool:
    """Whether the configured model learns from item lists."""
    return MODELS[config.model.name].task in ("next_item", "item_set")


def evaluate(context: Context) -> dict[str, Any]:
    """Answer the test lists offline and judge the answers; they are kept, for serving to be compared with."""
    from training.evaluation.lists import evaluate_lists

    run, config = context.run, context.config
    features = run.features("test").parent
    judged = evaluate_lists(run.model, features, config.evaluate, context.progress, _owners(run))
    with atomic_folder(run.evaluation) as folder:
        np.savez(folder / ANSWERS, **judged.answers)
        (folder / "metrics.json").write_text(json.dumps(judged.found, indent=1), encoding="utf-8")
    return judged.found | {"says": headline(judged.found)}


def _owners(run: Run) -> npt.NDArray[Any] | None:
    """Whose each test row is, as numbers; None where the data does not say."""
    test = Dataset.load(run.split / "test")
    name = test.only("user") or test.only("session")
    return (
        None if name is None else test.scan().select(pl.col(name).rank("dense")).collect()[name].fill_null(0).to_numpy()
    )


def headline(found: Mapping[str, Any]) -> str:
    """Return the hit rate of the model and of the baselines in one line."""
    ranking = found["ranking"]
    name = next(metric for metric in reversed(ranking["metrics"]) if metric.startswith("hit_rate"))
    told = [("model", ranking["metrics"]), *ranking["baselines"].items()]
    return f"{name.replace('_', ' ')}: " + ", ".join(f"{who} {values[name]['value']:.4f}" for who, values in told)


def check_precision(config: PipelineConfig) -> None:
    """ConfigError for a precision other than float32: what it loses is measured by scores of single rows."""
    if config.export.precision != "float32":
        raise ConfigError(
            "export.precision", expected=f"float32 for the model {config.model.name}", received=config.export.precision
        )


def name_items(model: Path, run: Run) -> None:
    """Let the ONNX file `model` answer with items as they are in the data instead of their codes."""
    from ensemble.graphs.items import with_items
    from etl.onnx_files import move_graph, open_graph, save_graph

    named = model.with_name(f"{model.stem}.{ITEM}.onnx")
    save_graph(with_items(open_graph(model), items(run)), named)
    move_graph(named, model)


def items(run: Run) -> npt.NDArray[Any]:
    """Return the raw item of every code, of integers or of strings; errors as `raw_values` has them."""
    label = json.loads((run.model / "training.json").read_text(encoding="utf-8"))["label"]
    return raw_values(FeatureGraph.load(run.graph), label)


def raw_values(graph: FeatureGraph, label: str) -> npt.NDArray[Any]:
    """Return the raw item of every code of the column `label`; the first three codes are none.

    ConfigError as `item_node`.
    """
    node, kind = item_node(graph, label)
    values = (node.state or {})[vocabulary_of(node, label)].get_column("value")
    if is_integer(kind):
        return np.concatenate([np.zeros(FIRST, kind), values.to_numpy().astype(kind)])
    return np.array(["", "", "", *values.to_list()], dtype=object)


def item_node(graph: FeatureGraph, label: str) -> tuple[OpNode, str]:
    """Return the Categorify that encodes the column `label`, fitted or not, and the type of its items.

    ConfigError for items of another type than integers or strings, or several codes for unknown values.
    """
    node = next(
        (n for n in graph.nodes if n.op == "Categorify" and any(column.name == label for column in n.outputs)), None
    )
    if node is None or first_code(node, label) != FIRST:
        raise ConfigError(
            f"the item {label!r}",
            expected="one Categorify with one code for unknown values",
            received="none" if node is None else "num_buckets",
        )
    kind = next(column.dtype for column in graph.inputs if column.name in graph.raw_columns_of(label))
    if not is_integer(kind) and kind != "string":
        raise ConfigError(f"the item {label!r}", expected="integers or strings", received=kind)
    return node, kind


def offline(run: Run) -> Answers:
    """Return the answers that `evaluate` kept, with raw items."""
    with np.load(run.evaluation / ANSWERS, allow_pickle=False) as found:
        return {SCORE: found[SCORE], ITEM: items(run)[found[ITEM]], KNOWN: found[KNOWN]}


def difference(served: Answers, wanted: Answers) -> float:
    """Return the largest difference of two answers: of the scores, or 1 for each item that is not where it belongs."""
    from training.export.ranked import misplaced

    if not len(wanted[SCORE]):
        return 0.0
    places = misplaced(_plain(served[ITEM]), _plain(wanted[ITEM]), wanted[SCORE])
    known = int((served[KNOWN] != wanted[KNOWN]).sum())
    return max(float(np.abs(served[SCORE] - wanted[SCORE]).max()), float(places + known))


def _plain(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Strings as such, however a client returns them."""
    if values.dtype != object:
        return values
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values.reshape(-1)]
    return np.array(texts).reshape(values.shape)
