"""A workflow, models of every kind, and ensembles of Merlin Systems, as their users make them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.reader import door

NAMES = ("user", "item", "price")


def raw_rows(count: int, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": random.integers(1, 60, count),
            "item": random.choice(["apple", "pear", "plum", "quince"], count),
            "price": random.lognormal(1, 1, count).astype(np.float32),
        }
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Merlin and TensorFlow warn of each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Merlin:
    """What a user of Merlin Systems has: `features` are the workflow's on `rows`, `node` is its TransformWorkflow."""

    rows: pl.DataFrame
    workflow: Any
    features: Any
    labels: np.ndarray
    ops: Any
    ensemble: Callable[[Any], Any]

    @property
    def node(self) -> Any:
        return list(NAMES) >> self.ops["TransformWorkflow"](self.workflow)

    def keras(self, output: str = "click", reads: dict[str, int] | None = None, width: int = 1) -> Any:
        """A small network with random weights; `reads` are vectors beside the codes, by name with their width."""
        import tensorflow as tf

        with quiet():  # Keras draws seeds in a deprecated way once one was set
            layers = tf.keras.layers
            inputs = {name: tf.keras.Input((1,), name=name, dtype="int64") for name in ("user", "item")}
            inputs["price"] = tf.keras.Input((1,), name="price", dtype="float32")
            parts = [layers.Flatten()(layers.Embedding(70, 4)(inputs[name])) for name in ("user", "item")]
            vectors = {name: tf.keras.Input((size,), name=name) for name, size in (reads or {}).items()}
            joined = layers.Concatenate()([*parts, inputs["price"], *vectors.values()])
            made = layers.Dense(width, activation="sigmoid", name=output)(layers.Dense(8, activation="relu")(joined))
            return tf.keras.Model({**inputs, **vectors}, made)


@pytest.fixture(scope="session")
def merlin(tmp_path_factory: pytest.TempPathFactory) -> Merlin:
    with quiet():
        nvtabular = door.nvtabular()
        from merlin.systems.dag.ensemble import Ensemble
        from merlin.systems.dag.ops.fil import PredictForest
        from merlin.systems.dag.ops.pytorch import PredictPyTorch
        from merlin.systems.dag.ops.tensorflow import PredictTensorflow
        from merlin.systems.dag.ops.workflow import TransformWorkflow

        import_all = (PredictForest, PredictPyTorch, PredictTensorflow, TransformWorkflow)
        rows, ops = raw_rows(2000), nvtabular.ops
        codes = ["user", "item"] >> ops.Categorify(out_path=str(tmp_path_factory.mktemp("categories")))
        numbers = ["price"] >> ops.FillMissing() >> ops.LogOp() >> ops.Normalize(out_dtype="float32")
        dataset = nvtabular.Dataset(rows.to_pandas(), cpu=True)
        workflow = nvtabular.Workflow(codes + numbers).fit(dataset)
        features = workflow.transform(dataset).to_ddf().compute()[list(NAMES)]
        chance = 0.2 + 0.5 * (rows["user"].to_numpy() % 3 == 0)
        labels = (np.random.default_rng(1).random(rows.height) < chance).astype(np.int64)
        return Merlin(
            rows,
            workflow,
            features,
            labels,
            {cls.__name__: cls for cls in import_all},
            lambda node: Ensemble(node, workflow.input_schema),
        )


@pytest.fixture(scope="session")
def parquet(merlin: Merlin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("rows") / "rows.parquet"
    merlin.rows.head(200).write_parquet(target)
    return target
