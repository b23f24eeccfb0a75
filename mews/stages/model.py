"""The model stages: train, evaluate."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from etl.atomic import atomic_folder
from etl.sources.dataset import Dataset
from mews.pipeline import Context
from mews.session import columns

FEW_STEPS = 30
"""With fewer steps of the optimizer no network learns much."""


def train(context: Context) -> dict[str, Any]:
    """Train the configured model on the features of train, stopping early on those of valid."""
    from training.train import train as run_training

    config, run = context.config, context.run
    done = run_training(run.features("train").parent, config.model, run.model, config.seed, context.progress)
    steps = math.ceil(done.rows / config.model.batch_size) * len(done.history)
    if steps < FEW_STEPS:
        context.terminal.warn(
            f"the model was trained in only {steps} steps: {len(done.history)} epochs of {done.rows:,} rows in batches "
            f"of {config.model.batch_size:,}; try a smaller model.batch_size, or more model.epochs"
        )
    says = f"{config.model.name}, best epoch {done.best_epoch}, {done.samples_per_s:,.0f} samples/s"
    return {"name": config.model.name, "best_epoch": done.best_epoch, "samples_per_s": done.samples_per_s, "says": says}


def evaluate(context: Context) -> dict[str, Any]:
    """Score the test rows offline and judge the scores; they are kept, for serving to be compared with."""
    from training.evaluation.clicks import evaluate_model
    from training.predict import predict

    run, config = context.run, context.config
    metrics = evaluate_model(run.model, run.features("test").parent, config.evaluate, progress=context.progress)
    metrics["auc_best"] = _best_auc(context)
    with atomic_folder(run.evaluation) as folder:
        np.save(folder / "scores.npy", predict(run.model, run.features("test")), allow_pickle=False)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    says = f"AUC {with_interval(metrics, 'auc')}"
    return headline(metrics) | {"says": says}


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of `metrics` without its curves."""
    kept = {key: value for key, value in metrics.items() if key not in ("roc", "calibration", "histogram")}
    if "baselines" in kept:
        kept["baselines"] = {name: headline(values) for name, values in metrics["baselines"].items()}
    return kept


def metrics_table(metrics: Mapping[str, Any]) -> Any:
    """Return the model beside its baselines, to print."""
    rows = [
        [name, *(with_interval(values, metric) for metric in ("auc", "logloss", "ece"))]
        for name, values in (("model", metrics), *metrics["baselines"].items())
    ]
    if metrics.get("auc_best") is not None:
        rows.append(["best reachable", f"{metrics['auc_best']:.4f}", "", ""])
    return columns(rows, "", "AUC", "log loss", "ECE")


def with_interval(values: Mapping[str, Any], metric: str) -> str:
    """Return a metric as `0.7123 [0.706, 0.719]`; without the interval where there was no bootstrap."""
    low, high = values[f"{metric}_low"], values[f"{metric}_high"]
    return f"{values[metric]:.4f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def _best_auc(context: Context) -> float | None:
    """The AUC of the true probabilities on the test rows, where the source knows them."""
    from etl.sources.generated import best_auc

    return best_auc(Dataset.load(context.run.split / "test"))
