"""Small features on disk, as etl/batch.py writes them: Parquet with a fingerprint, Merlin's schema beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from training.config import ModelConfig
from training.tensorflow import merlin_models, quiet
from training.train import Trained, train

FINGERPRINT = "ab" * 32
USERS, ITEMS, TAGS, LENGTH = 40, 30, 12, 3
SMALL = {
    "embedding_dim": 4,
    "bottom": [8, 4],
    "top": [16],
    "batch_size": 128,
    "learning_rate": 0.02,
    "id_dropout": 0.2,
    "l2": 1.0,
}


def rows(count: int, seed: int = 0) -> dict[str, Any]:
    """Rows whose label depends on the user, the tags and the price; tags are padded with code 0."""
    world, random = np.random.default_rng(1), np.random.default_rng(seed)
    user_effect, tag_effect = world.normal(0, 1.2, USERS), world.normal(0, 1.5, TAGS)
    user, item = random.integers(3, USERS, count), random.integers(3, ITEMS, count)
    tags = random.integers(3, TAGS, (count, LENGTH))
    tags[np.arange(LENGTH) >= random.integers(0, LENGTH + 1, (count, 1))] = 0
    shown = np.maximum((tags > 0).sum(1), 1)
    price = random.normal(size=count).astype("float32")
    logit = user_effect[user] + np.where(tags > 0, tag_effect[tags], 0).sum(1) / shown + 0.8 * price - 1
    clicked = (random.random(count) < 1 / (1 + np.exp(-logit))).astype("int8")
    return {"user": user, "item": item, "tags": tags, "price": price, "clicked": clicked}


def write_split(folder: Path, columns: Mapping[str, Any], per_file: int = 1000, fingerprint: str = FINGERPRINT) -> Path:
    """Write one split; 2-D int64 columns become lists. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = pl.List(pl.Int64)
    frame = pl.DataFrame(
        [
            pl.Series(name, list(map(list, v)), dtype=listed) if np.ndim(v) == 2 else pl.Series(name, v)
            for name, v in columns.items()
        ]
    )
    for number, start in enumerate(range(0, max(len(frame), 1), per_file)):
        part = frame[start : start + per_file]
        part.write_parquet(folder / f"part_{number:05d}.parquet", metadata={"mews.fingerprint": fingerprint})
    write_schema(folder, columns)
    return folder


def write_schema(folder: Path, columns: Mapping[str, Any], ragged: bool = False, label: str = "clicked") -> None:
    """Write Merlin's schema for the columns of `rows`, for a second label `bought` and for `weight`.

    Tags and price are the item's.
    """
    merlin_models()
    with quiet():
        from merlin.schema import ColumnSchema, Schema, Tags
        from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

        def codes(name: str, size: int, *tags: Any, **shape: Any) -> Any:
            domain = {"domain": {"min": 0, "max": size - 1, "name": name}}
            return ColumnSchema(name, dtype="int64", tags=[Tags.CATEGORICAL, *tags], properties=domain, **shape)

        lengths = (0, LENGTH) if ragged else (LENGTH, LENGTH)
        known = {
            "user": codes("user", USERS, Tags.USER_ID),
            "item": codes("item", ITEMS, Tags.ITEM_ID),
            "tags": codes("tags", TAGS, Tags.ITEM, dims=((0, None), lengths)),
            "price": ColumnSchema("price", dtype="float32", tags=[Tags.CONTINUOUS, Tags.ITEM]),
            "clicked": ColumnSchema("clicked", dtype="int8"),
            "weight": ColumnSchema("weight", dtype="float32", tags=["sample_weight"]),
            "bought": ColumnSchema("bought", dtype="int8", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION]),
        }
        known[label] = known[label].with_tags([Tags.TARGET, Tags.BINARY_CLASSIFICATION]) if label else None
        metadata = TensorflowMetadata.from_merlin_schema(Schema([known[name] for name in columns if name in known]))
        (folder / ".merlin").mkdir(exist_ok=True)
        metadata.to_json_file(str(folder / ".merlin"))


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, valid and test splits of the same world."""
    folder = tmp_path_factory.mktemp("features")
    for seed, (name, count) in enumerate({"train": 4000, "valid": 1500, "test": 2000}.items()):
        write_split(folder / name, rows(count, seed))
    return folder


@pytest.fixture(scope="session")
def trained(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Train a model once a session, by name."""
    made: dict[str, Trained] = {}

    def get(name: str) -> Trained:
        if name not in made:
            config = ModelConfig(name=name, epochs=6, **SMALL)  # type: ignore[arg-type]
            made[name] = train(features, config, tmp_path_factory.mktemp("models") / name, seed=3)
        return made[name]

    return get
