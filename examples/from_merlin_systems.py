"""An export with Merlin Systems, and what changes: one line.

Run it with `.venv/bin/python examples/from_merlin_systems.py`. The first part makes, on toy data, what a user of Merlin
Systems has: a fitted workflow, a Keras model and an XGBoost forest on its features, and an Ensemble of both. `before`
is their export; `after` is the same with Mews, served and compared with the workflow and the models themselves.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

# Merlin and TensorFlow warn of each other's deprecations; none of it is about this example.
warnings.simplefilter("ignore")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("DASK_DATAFRAME__CONVERT_STRING", "False")
logging.getLogger("tensorflow").setLevel(logging.ERROR)

FEATURES = ["user", "item", "price"]


def clicks(count: int) -> pl.DataFrame:
    """Impressions: a user, an item and a price."""
    random = np.random.default_rng(0)
    user, item = random.integers(0, 300, count), random.choice(["apple", "pear", "plum", "quince"], count)
    return pl.DataFrame({"user": user, "item": item, "price": random.lognormal(3, 1, count).astype("float32")})


def fitted_workflow(rows: pl.DataFrame, folder: Path) -> Any:
    """Return a workflow as NVTabular's users write it."""
    import nvtabular as nvt
    from nvtabular import ops

    codes = ["user", "item"] >> ops.Categorify(out_path=str(folder / "categories"))
    numbers = ["price"] >> ops.FillMissing() >> ops.LogOp() >> ops.Normalize(out_dtype="float32")
    return nvt.Workflow(codes + numbers).fit(nvt.Dataset(rows.to_pandas(), cpu=True))


def keras_model() -> Any:
    """Return a network for the workflow's features; its weights are random, which is enough to compare."""
    import tensorflow as tf

    inputs = {name: tf.keras.Input((1,), name=name, dtype="int64") for name in ("user", "item")}
    inputs["price"] = tf.keras.Input((1,), name="price", dtype="float32")
    codes = [tf.keras.layers.Flatten()(tf.keras.layers.Embedding(400, 8)(inputs[name])) for name in ("user", "item")]
    joined = tf.keras.layers.Concatenate()([*codes, inputs["price"]])
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1, activation="sigmoid", name="click")(joined))


def forest(features: np.ndarray) -> Any:
    """Return a small forest trained on the workflow's features."""
    import xgboost

    return xgboost.XGBRegressor(n_estimators=20).fit(features, features[:, 0] % 7 + features[:, 2])


def ensemble_of(workflow: Any, model: Any, trees: Any) -> Any:
    """Return the graph that Merlin Systems exports: the workflow, and two models on its features."""
    from merlin.systems.dag.ensemble import Ensemble
    from merlin.systems.dag.ops.fil import PredictForest
    from merlin.systems.dag.ops.tensorflow import PredictTensorflow
    from merlin.systems.dag.ops.workflow import TransformWorkflow

    features = FEATURES >> TransformWorkflow(workflow)
    both = (features >> PredictTensorflow(model)) + (features >> PredictForest(trees, workflow.output_schema))
    return Ensemble(both, workflow.input_schema)


def before(ensemble: Any, folder: Path) -> None:
    """Export with Merlin Systems: a Python model that unpickles the graph, and one that unpickles the workflow."""
    ensemble.export(str(folder))


def after(ensemble: Any, folder: Path, rows: pl.DataFrame) -> Any:
    """Export with Mews: the line that changes."""
    import mews

    return mews.export(ensemble, folder, name="executor_model", examples=rows)


def main(folder: Path) -> None:
    """Make everything, export it, serve it, and compare."""
    from ensemble import Client, TritonServer

    rows = clicks(5_000)
    workflow = fitted_workflow(rows, folder)
    features = workflow.transform(rows.to_pandas())[FEATURES].to_numpy(dtype="float32")
    model, trees = keras_model(), forest(features)
    ensemble = ensemble_of(workflow, model, trees)

    before(ensemble, folder / "merlin")
    pickles = sorted(path.name for path in (folder / "merlin").rglob("*.pkl"))
    print(f"Merlin Systems wrote {len(list((folder / 'merlin').iterdir()))} models, and pickles: {', '.join(pickles)}")
    done = after(ensemble, folder / "models", rows.head(500))
    print(f"Exported {done.name} version {done.version}: {', '.join(done.models)}; starting Triton")
    sample = rows.tail(1_000)
    with TritonServer(folder / "models", models=[done.name]) as triton, Client(triton.http_url, done.name) as client:
        answer = client.ask(sample, ("click", "output__0")).outputs
    click, rating = answer["click"], answer["output__0"]

    named = dict(
        zip(FEATURES, workflow.transform(sample.to_pandas())[FEATURES].to_numpy().T.reshape(3, -1, 1), strict=True)
    )
    own = model({name: values.astype("float32" if name == "price" else "int64") for name, values in named.items()})
    own_rating = trees.predict(np.concatenate(list(named.values()), axis=1).astype("float32"))
    largest = max(float(np.abs(click - own.numpy()).max()), float(np.abs(rating[:, 0] - own_rating).max()))
    print(f"Served {len(click):,} rows; largest difference to Merlin's own objects: {largest:.1e}")
    if largest > 1e-5:
        raise SystemExit("that is more than 1e-5")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="from-merlin-systems-") as name:
        main(Path(name))
