"""How much a row counts in training: its weight column, what a value of that column weighs, and its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.errors import ConfigError, DataError
from etl.graph import FeatureGraph
from etl.operators.categorical import first_code, vocabulary_of
from training import data
from training.config import TrainConfig
from training.tasks import Task
from training.tensorflow import tensorflow


@dataclass(frozen=True)
class Weighting:
    """The weight of a row: `values` by what the weight column holds (the column itself where it is empty) times that
    of its label in `classes`; both empty and no column: every row counts alike.
    """

    column: str | None
    values: Mapping[float, float] = field(default_factory=dict)
    classes: Mapping[int, float] = field(default_factory=dict)

    @property
    def uniform(self) -> bool:
        """Whether every row counts alike."""
        return self.column is None and not self.classes

    def of(self, labels: Any, column: Any | None) -> Any | None:
        """Return the weights float32 [batch, 1] for labels [batch, labels] and weight column [batch, 1]; None: alike.

        Runs inside a graph.
        """
        if self.uniform:
            return None
        found = tensorflow().ones_like(labels[:, :1], "float32")
        if self.column is not None:
            found *= _looked_up(column, self.values) if self.values else column
        return found * _looked_up(labels[:, :1], self.classes) if self.classes else found


def weighting(folder: Path, inputs: data.Inputs, config: TrainConfig, task: Task) -> Weighting:
    """Return how the rows of the split `folder` are weighed.

    ConfigError when the configuration asks for what the features lack; DataError for weights that are negative, null,
    not finite or all zero, and for values of the weight column that `train.feedback` does not name.
    """
    if config.feedback and inputs.weight is None:
        raise ConfigError(
            "train.feedback",
            expected="a column with the role weight in the features",
            received="none",
            hint="Give the column the role `weight` (data.columns), or tag it sample_weight in the workflow.",
        )
    values = _values(folder, inputs.weight, config) if inputs.weight else {}
    return Weighting(inputs.weight, values, _classes(folder, inputs, config, task))


def _values(folder: Path, column: str, config: TrainConfig) -> dict[float, float]:
    """What each value of the column weighs, {} where it holds weights; all values of the split are checked."""
    codes = _codes(folder, column)
    held = pl.scan_parquet(data.parts(folder)).select(pl.col(column)).collect().to_series()
    if codes is not None and not config.feedback:
        raise ConfigError(
            "train.feedback", expected=f"a weight for each value of {column}", received="nothing", hint=_names(codes)
        )
    if not config.feedback:
        _check(held, column)
        return {}
    made = {_number(value, codes, column): weight for value, weight in config.feedback.items()}
    unknown = sorted(set(held.unique().drop_nulls().to_list()) - {float(value) for value in made})
    if unknown or held.null_count():
        named = {code: value for value, code in (codes or {}).items()}
        shown = [str(named.get(int(one), "null or unknown")) if named else f"{one:g}" for one in unknown[:5]]
        raise DataError(
            f"column {column!r} of {folder}",
            expected=f"the values of train.feedback: {', '.join(config.feedback)}",
            received=", ".join(shown) or "null",
        )
    if not any(weight > 0 for weight in made.values()):
        raise ConfigError("train.feedback", expected="a weight above 0", received="only zeros")
    return made


def _codes(folder: Path, column: str) -> dict[str, int] | None:
    """The code of each value of a weight column that is encoded, None for a column of numbers."""
    graph_folder = folder.parent / "graph"
    if not (graph_folder / "graph.json").exists():
        return None
    node = next(
        (
            node
            for node in FeatureGraph.load(graph_folder).nodes
            if node.op == "Categorify" and column in [made.name for made in node.outputs]
        ),
        None,
    )
    if node is None:
        return None
    table, first = (node.state or {})[vocabulary_of(node, column)], first_code(node, column)
    return {str(value): first + row for row, value in enumerate(table["value"].to_list())}


def _number(value: str, codes: Mapping[str, int] | None, column: str) -> float:
    try:
        return float(value) if codes is None else float(codes[value])
    except ValueError:
        raise ConfigError(f"train.feedback.{value}", expected=f"a number, as {column} holds") from None
    except KeyError:
        raise ConfigError(
            f"train.feedback.{value}", expected=f"a value of {column}", hint=_names(codes or {})
        ) from None


def _names(codes: Mapping[str, int]) -> str:
    return f"It has {', '.join(sorted(codes)[:10])}."


def _check(weights: pl.Series, column: str) -> None:
    held = weights.cast(pl.Float64)
    bad = held.is_null() | ~held.is_finite().fill_null(False) | (held < 0).fill_null(True)
    if bad.any() or not held.sum() > 0:
        received = f"{held.filter(bad)[0]}" if bad.any() else "only zeros"
        raise DataError(
            f"weights in {column!r}", expected="finite numbers from 0, not all of them 0", received=received
        )


def _classes(folder: Path, inputs: data.Inputs, config: TrainConfig, task: Task) -> dict[int, float]:
    """The weight of each value of the first label, {} for none."""
    wanted = config.class_weight
    if wanted is None:
        return {}
    if task.label_dtype != "float32":
        raise ConfigError("train.class_weight", expected="a model that predicts classes", received="one of items")
    found, counts = np.unique(data.labels(folder, inputs.label), return_counts=True)
    if wanted == "balanced":
        total, kinds = counts.sum(), len(counts)
        return {int(label): float(total / (kinds * count)) for label, count in zip(found, counts, strict=True)}
    missing = sorted({int(label) for label in found} - set(wanted))
    if missing or not any(wanted[int(label)] > 0 for label in found):
        received = f"none for {missing[0]}" if missing else "only zeros"
        raise ConfigError("train.class_weight", expected="a weight for every label, one above 0", received=received)
    return dict(wanted)


def _looked_up(tensor: Any, weights: Mapping[Any, float]) -> Any:
    """float32 [batch, 1]; few values, so that comparing with each is cheaper than a table."""
    tf = tensorflow()
    keys = tf.constant([list(weights)], "float32")
    return tf.reduce_sum(
        tf.cast(tf.equal(tf.cast(tensor, "float32"), keys), "float32")
        * tf.constant([list(weights.values())], "float32"),
        axis=1,
        keepdims=True,
    )
