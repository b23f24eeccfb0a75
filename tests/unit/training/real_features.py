"""Features that the ETL made: a fitted graph, and splits that it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from etl import batch, reader, workflow
from etl.config import FeaturesConfig
from etl.fit import fit_statistics
from etl.fit.statistics import Statistics
from etl.graph import Column, FeatureGraph
from etl.sources.dataset import DataColumn

ROLES = {"user": "user", "item": "item", "kind": "weight", "price": "numeric", "clicked": "label"}
TYPES = {"user": "string", "item": "string", "kind": "string", "price": "float32", "clicked": "int8"}


def raw(count: int, items: int, seed: int) -> pl.DataFrame:
    """Rows of 20 users and `items` items; whether an item is chosen depends on its number, but not for kind noise."""
    random = np.random.default_rng(seed)
    item, noise = random.integers(0, items, count), random.random(count) < 0.5
    clicked = np.where(noise, item % 2 == 0, item % 2 == 1)
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in random.integers(0, 20, count)],
            "item": [f"i{number}" for number in item],
            "kind": np.where(noise, "noise", "view").tolist(),
            "price": random.random(count).astype("float32"),
            "clicked": clicked.astype("int8"),
        }
    )


@dataclass
class Etl:
    """A folder in which raw files become features."""

    folder: Path
    files: int = 0

    def file(self, frame: pl.DataFrame) -> Path:
        """Write raw rows."""
        self.files += 1
        path = self.folder / f"{self.files}.parquet"
        frame.write_parquet(path)
        return path

    def fit(self, frame: pl.DataFrame) -> tuple[FeatureGraph, Statistics]:
        """Fit the default features of the columns on the rows."""
        columns = [DataColumn(name, role=ROLES[name], dtype=TYPES[name]) for name in ROLES]  # type: ignore[arg-type]
        built = workflow.build(FeaturesConfig(), columns, "clicked")
        graph = reader.read(built, [Column(column.name, column.dtype) for column in columns])
        return fit_statistics(graph, [self.file(frame)])

    def features(self, graph: FeatureGraph, train: pl.DataFrame, valid: pl.DataFrame, name: str) -> Path:
        """Write the splits train and valid, and the graph beside them."""
        folder = self.folder / name
        for split, frame in (("train", train), ("valid", valid)):
            batch.transform(graph, [self.file(frame)], folder / split)
        graph.save(folder / "graph")
        return folder
