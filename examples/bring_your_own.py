"""An NVTabular workflow and a Merlin model that you have already, served by one Triton ensemble.

Run it with `.venv/bin/python examples/bring_your_own.py`. The first half makes, on toy data, what you would bring: a
fitted `nvtabular.Workflow` and a trained Merlin model. The second half, from "To ONNX", is all that Mews needs.
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
logging.getLogger("tensorflow").setLevel(logging.ERROR)


def clicks(count: int) -> pl.DataFrame:
    """Impressions: two ids, a country, a price that is sometimes missing, and whether there was a click."""
    random = np.random.default_rng(0)
    user, item = random.integers(0, 300, count), random.integers(0, 80, count)
    price = np.where(random.random(count) < 0.05, np.nan, random.lognormal(3, 1, count))
    clicked = random.random(count) < 0.15 + 0.6 * (user % 4 == item % 4)
    country = random.choice(["DE", "FR", "JP", "US"], count)
    columns = {"user_id": user, "item_id": item, "country": country, "price": price, "clicked": clicked.astype("int8")}
    return pl.DataFrame(columns, nan_to_null=True)


def fitted_workflow(rows: Any, folder: Path) -> Any:
    """Return a workflow as NVTabular's users write it."""
    import nvtabular as nvt
    from nvtabular import ops

    codes = ["user_id", "item_id", "country"] >> ops.Categorify(out_path=str(folder / "categories"))
    numbers = ["price"] >> ops.FillMissing() >> ops.LogOp() >> ops.Normalize()
    label = ["clicked"] >> ops.AddMetadata(tags=["target", "binary_classification"])
    return nvt.Workflow(codes + numbers + label).fit(rows)


def trained_model(features: Any) -> Any:
    """Return a model as Merlin Models' users train it."""
    import merlin.models.tf as mm

    model = mm.DLRMModel(
        features.schema,
        embedding_dim=16,
        bottom_block=mm.MLPBlock([32, 16]),
        top_block=mm.MLPBlock([32]),
        prediction_tasks=mm.BinaryOutput("clicked"),
    )
    model.compile(optimizer="adam")
    model.fit(features, batch_size=1024, epochs=3, verbose=0)
    return model


def main(folder: Path) -> None:
    """Make both, export them, serve them, and compare."""
    import merlin.models.tf as mm
    import onnx
    from merlin.io import Dataset

    from ensemble import Client, RequestSchema, TritonServer
    from ensemble.config import ExportConfig
    from ensemble.export.export import export
    from etl.compiler import to_onnx
    from etl.reader import read
    from training.export.onnx import keras_to_onnx

    rows = clicks(20_000)
    print(f"What you have: a workflow fitted on {rows.height:,} rows, and a DLRM trained on its features")
    dataset = Dataset(rows.to_pandas())
    workflow = fitted_workflow(dataset, folder)
    features = workflow.transform(dataset)
    model = trained_model(features)

    print("To ONNX: the workflow, without its label; then the model")
    graph = read(workflow).remove_inputs(["clicked"])
    onnx.save(to_onnx(graph), folder / "workflow.onnx")
    keras_to_onnx(model, graph.output_columns, folder / "model.onnx", graph.fingerprint)

    sample = rows.head(2_000)
    done = export(
        folder / "workflow.onnx",
        folder / "model.onnx",
        folder / "repository",
        ExportConfig(name="clicks"),
        RequestSchema.from_columns(graph.inputs),
        metrics={},
        warmup=sample,
    )
    print(f"Exported {done.name} version {done.version}: {', '.join(done.models)}; starting Triton")
    with TritonServer(folder / "repository", models=["clicks"]) as triton, Client(triton.http_url, "clicks") as client:
        served = client.predict(sample.drop("clicked"))

    transformed = workflow.transform(Dataset(sample.to_pandas()))
    offline = model.predict(mm.Loader(transformed, batch_size=2_000, shuffle=False), verbose=0)[:, 0]
    largest = float(np.abs(served - offline).max())
    print(f"Served {len(served):,} rows; largest difference to workflow.transform + model.predict: {largest:.1e}")
    if largest > 1e-5:
        raise SystemExit("that is more than 1e-5")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bring-your-own-") as name:
        main(Path(name))
