"""The model stages: train, evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from etl.atomic import atomic_folder
from etl.sources.dataset import Dataset
from mews.pipeline import Context
from mews.session import columns


def train(context: Context) -> dict[str, Any]:
    """Train the configured model on the features of train, stopping early on those of valid."""
    from training.train import train as run_training

    config, run = context.config, context.run
    done = run_training(run.features("train").parent, config.model, run.model, config.seed, context.progress)
    says = f"{config.model.name}, best epoch {done.best_epoch}, {done.samples_per_s:,.0f} samples/s"
    return {"name": config.model.name, "best_epoch": done.best_epoch, "samples_per_s": done.samples_per_s, "says": says}


def evaluate(context: Context) -> dict[str, Any]:
    """Score the test rows offline and judge the scores; they are kept, for serving to be compared with."""
    from training.evaluate import evaluate_model
    from training.predict import predict

    run, config = context.run, context.config
    metrics = evaluate_model(run.model, run.features("test").parent, config.evaluate, progress=context.progress)
    metrics["auc_best"] = _best_auc(context)
    with atomic_folder(run.evaluation) as folder:
        np.save(folder / "scores.npy", predict(run.model, run.features("test")), allow_pickle=False)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    says = f"AUC {metrics['auc']:.4f} [{metrics['auc_low']:.4f}, {metrics['auc_high']:.4f}]"
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
        [name, *(_interval(values, metric) for metric in ("auc", "logloss", "ece"))]
        for name, values in (("model", metrics), *metrics["baselines"].items())
    ]
    if metrics.get("auc_best") is not None:
        rows.append(["best reachable", f"{metrics['auc_best']:.4f}", "", ""])
    return columns(rows, "", "AUC", "log loss", "ECE")


def _interval(values: Mapping[str, Any], metric: str) -> str:
    low, high = values[f"{metric}_low"], values[f"{metric}_high"]
    return f"{values[metric]:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low is not None else "")


def _best_auc(context: Context) -> float | None:
    """The AUC of the true probabilities on the test rows, where the source knows them."""
    from etl.sources.generated import best_auc

    return best_auc(Dataset.load(context.run.split / "test"))
