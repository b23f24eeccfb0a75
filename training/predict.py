"""Offline predictions with TensorFlow: what the served model is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etl.errors import ArtifactError
from etl.names import SCORE
from etl.progress import Progress, silent
from training import data
from training.tensorflow import quiet, tensorflow
from training.train import read_training


def predict(
    model: Path, features: Path, progress: Progress = silent, batch_size: int = 65_536, output: str = SCORE
) -> data.Array:
    """Score every row of the split `features` with the SavedModel in `model`; float32 [rows], in row order.

    `output` names the answer to return. Memory holds one batch and the scores. ArtifactError when the features come
    from another graph than the model's.
    """
    facts = read_training(model)
    found = data.fingerprint(features)
    if found != facts["fingerprint"]:
        raise ArtifactError(
            f"features in {features}",
            expected=f"fingerprint {facts['fingerprint'][:12] or 'none'}, as the model in {model}",
            received=found[:12] or "none",
            hint="Train again on these features.",
        )
    score, total = load(model, read_features(facts), output), data.rows(features)
    scores, done = np.empty(total, "float32"), 0
    for batch in data.batches(features, read_features(facts), batch_size):
        made = score(batch)
        scores[done : done + len(made)] = made
        done += len(made)
        progress("predict", done, total, "rows")
    return scores


def read_features(facts: dict[str, Any]) -> tuple[data.Feature, ...]:
    """The inputs of a model, from its training.json."""
    return tuple(data.Feature.from_json(values) for values in facts["features"])


def load(
    model: Path, features: Sequence[data.Feature], output: str = SCORE
) -> Callable[[dict[str, data.Array]], data.Array]:
    """Return a function from {feature: [rows, width]} to one answer [rows] of the SavedModel in `model`."""
    tf, answers = tensorflow(), load_answers(model, features)

    def score(columns: dict[str, data.Array]) -> data.Array:
        given = {feature.name: tf.constant(columns[feature.name]) for feature in features}
        made: data.Array = answers.call(given)[output].numpy()
        return made[:, 0]

    return score


@dataclass(frozen=True)
class Answers:
    """A SavedModel as a function of tensors: {feature: [rows, width]} -> {name: [rows, ...]}, `score` first."""

    names: tuple[str, ...]
    call: Callable[[dict[str, Any]], dict[str, Any]]


def load_answers(model: Path, features: Sequence[data.Feature]) -> Answers:
    """Open the SavedModel in the folder `model`; ArtifactError when there is none."""
    tf, names = tensorflow(), data.tensor_names(features)
    folder = model / "saved_model"
    if not (folder / "saved_model.pb").exists():
        raise ArtifactError(f"model folder {model}", expected="saved_model/", received="none", hint="Run `mews train`.")
    with quiet():
        loaded = tf.saved_model.load(str(folder))
    # `loaded` is named here so that its variables live as long as this function.
    made = sorted(loaded.signatures["serving_default"].structured_outputs, key=lambda name: (name != SCORE, name))
    return Answers(tuple(made), lambda columns: loaded.score({tensor: columns[name] for name, tensor in names.items()}))
