"""The two towers of a model apart: ONNX graphs of the user's and of the item's vector, and the items' vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.atomic import atomic_file
from etl.errors import ArtifactError, ConfigError
from etl.graph import Column
from training import data
from training.export.foreign import Call, Network
from training.export.onnx import network_to_onnx
from training.models.negatives import read_catalogue
from training.predict import read_features
from training.tensorflow import quiet, tensorflow
from training.train import read_training

VECTOR = "vector"
"""The output of a tower, float32 [batch, dim]."""
FILES = {"user": "query.onnx", "item": "item.onnx"}
"""What the graph of each side is called."""
VECTORS = "item_vectors.parquet"


@dataclass(frozen=True)
class Tower:
    """One side of a trained model: its features, the size of its vectors, and {feature: [rows, width]} -> vectors."""

    features: tuple[data.Feature, ...]
    dim: int
    call: Call


def towers(model: Path) -> dict[str, Tower]:
    """Return the towers `user` and `item` of the folder `model`; ConfigError when its model has none."""
    facts = read_training(model)
    features = read_features(facts)
    folder = model / "saved_model"
    if not (folder / "saved_model.pb").exists():
        raise ArtifactError(f"model folder {model}", expected="saved_model/", received="none", hint="Run `mews train`.")
    with quiet():
        loaded = tensorflow().saved_model.load(str(folder))
    if not all(hasattr(loaded, f"{side}_tower") for side in FILES):
        raise ConfigError(
            f"the model in {model}",
            expected="a model of two towers, such as two_tower, youtube_dnn, triplet or mf",
            received=facts["config"]["name"],
        )
    return {side: _tower(loaded, side, features) for side in FILES}


def towers_to_onnx(model: Path, out: Path) -> dict[str, Path]:
    """Write both towers of the folder `model` as ONNX into the folder `out`; {side: file}.

    Inputs are the features of that side, [batch, 1] or [batch, length]; the output is `vector`, float32 [batch, dim]. A
    user's and an item's dot product ranks as the model's score. MewsError, and no file, when ONNX Runtime and
    TensorFlow differ by more than 1e-5 on random rows.
    """
    fingerprint = read_training(model)["fingerprint"]
    for side, tower in (found := towers(model)).items():
        columns = tuple(
            Column(f.name, f.given, f.length is not None, f.length, f.tags, cardinality=f.cardinality)
            for f in tower.features
        )
        made = (Column(VECTOR, "float32", True, tower.dim),)
        network = Network(columns, (VECTOR,), made, tower.call, f"the {side} tower of {model}")
        network_to_onnx(network, out / FILES[side], fingerprint)
    return {side: out / FILES[side] for side in found}


def write_item_vectors(model: Path, train: Path, target: Path) -> int:
    """Write the vector of every item of the training rows as Parquet, atomically; returns how many.

    Columns: the item's code, called as the feature is, int64; `vector`, float32 [dim]. Features are those of the item's
    last row in the split `train`. ArtifactError when that comes from another graph than the model.
    """
    facts, tower = read_training(model), towers(model)["item"]
    if (found := data.fingerprint(train)) != facts["fingerprint"]:
        raise ArtifactError(
            f"features in {train}",
            expected=f"fingerprint {facts['fingerprint'][:12] or 'none'}, as the model in {model}",
            received=found[:12] or "none",
        )
    item = data.tagged(tower.features, "item_id")
    if item is None:
        raise ConfigError(f"the item tower of {model}", expected="a feature tagged item_id", received="none")
    catalogue = read_catalogue(train, tower.features, item, facts["label"])
    codes = catalogue.items
    vectors = _vectors(tower, {name: values[codes] for name, values in catalogue.features.items()}, len(codes))
    columns = {item.name: codes, VECTOR: pl.Series(vectors, dtype=pl.Array(pl.Float32, tower.dim))}
    with atomic_file(target) as temporary:
        pl.DataFrame(columns).write_parquet(temporary)
    return len(codes)


def _vectors(tower: Tower, features: dict[str, data.Array], rows: int, at_once: int = 65_536) -> data.Array:
    made = np.empty((rows, tower.dim), "float32")
    for start in range(0, rows, at_once):
        part = {name: tensorflow().constant(values[start : start + at_once]) for name, values in features.items()}
        made[start : start + at_once] = tower.call(part)[VECTOR].numpy()
    return made


def _tower(loaded: Any, side: str, features: tuple[data.Feature, ...]) -> Tower:
    tf, names = tensorflow(), data.tensor_names(features)
    own = data.of_side(features, side)

    def call(columns: dict[str, Any]) -> dict[str, Any]:
        function = getattr(loaded, f"{side}_tower")  # by way of the model: the function alone lets its variables go
        return {VECTOR: function({names[f.name]: tf.cast(columns[f.name], f.dtype) for f in own})[VECTOR]}

    with quiet():
        probe = call({f.name: tf.zeros((1, f.width), f.dtype) for f in own})
    return Tower(own, int(probe[VECTOR].shape[1]), call)
