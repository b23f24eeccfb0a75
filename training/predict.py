"""Offline predictions with TensorFlow: what the served model is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etl.errors import ArtifactError
from etl.progress import Progress, silent
from training import data
from training.tensorflow import quiet, tensorflow
from training.train import read_training


def predict(model: Path, features: Path, progress: Progress = silent, batch_size: int = 65_536) -> data.Array:
    """Score every row of the split `features` with the SavedModel in `model`; float32 [rows], in row order.

    Memory holds one batch and the scores. ArtifactError when the features come from another graph than the model's.
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
    score, total = load(model, read_features(facts)), data.rows(features)
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


def load(model: Path, features: Sequence[data.Feature]) -> Callable[[dict[str, data.Array]], data.Array]:
    """Return a function from {feature: [rows, width]} to scores [rows] for the SavedModel in `model`."""
    tf, scored = tensorflow(), load_tensors(model, features)

    def score(columns: dict[str, data.Array]) -> data.Array:
        made: data.Array = scored({feature.name: tf.constant(columns[feature.name]) for feature in features}).numpy()
        return made[:, 0]

    return score


def load_tensors(model: Path, features: Sequence[data.Feature]) -> Callable[[dict[str, Any]], Any]:
    """Return the same function on tensors: {feature: [rows, width]} to [rows, 1]."""
    tf, names = tensorflow(), data.tensor_names(features)
    folder = model / "saved_model"
    if not (folder / "saved_model.pb").exists():
        raise ArtifactError(f"model folder {model}", expected="saved_model/", received="none", hint="Run `mews train`.")
    with quiet():
        loaded = tf.saved_model.load(str(folder))
    # `loaded` is named here so that its variables live as long as this function.
    return lambda columns: loaded.score({tensor: columns[name] for name, tensor in names.items()})["score"]
