"""The model stages: train, evaluate."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from etl.atomic import atomic_folder
from etl.graph import FeatureGraph
from etl.sources.dataset import Dataset
from mews.pipeline import Context
from mews.session import columns
from mews.stages import lists

_LONG = ("roc", "calibration", "histogram", "slices", "beyond_accuracy")
_RANKING = ("reason", "protocol", "users", "users_held_out", "items", "metrics", "baselines")
FEW_STEPS = 30
"""With fewer steps of the optimizer no network learns much."""


def train(context: Context) -> dict[str, Any]:
    """Train the configured model on the features of train, stopping early on those of valid."""
    from training.train import train as run_training
    from training.train import trained_by_workers

    config, run = context.config, context.run
    features = run.features("train").parent
    found = trained_by_workers(features, config.model, run.model, config.seed, config.train)
    done = found or run_training(
        features, config.model, run.model, config.seed, context.progress, settings=config.train
    )
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
    if lists.learns_lists(context.config):
        return lists.evaluate(context)
    from training.evaluation.clicks import evaluate_model
    from training.evaluation.held_out import judge
    from training.evaluation.slices import names_of
    from training.predict import predict

    run, config = context.run, context.config
    metrics = evaluate_model(run.model, run.features("test").parent, config.evaluate, progress=context.progress)
    metrics["auc_best"] = _best_auc(context)
    scores = predict(run.model, run.features("test"))
    names = names_of(FeatureGraph.load(run.graph))
    judged = judge(run.model, run.features("test").parent, scores, config.evaluate, names, context.progress)
    metrics |= judged.found
    with atomic_folder(run.evaluation) as folder:
        np.save(folder / "scores.npy", scores, allow_pickle=False)
        np.savez(folder / "per_user.npz", **judged.per_user)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    says = f"AUC {with_interval(metrics, 'auc')}"
    return headline(metrics) | {"says": says}


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of `metrics` without its curves and slices."""
    kept = {key: value for key, value in metrics.items() if key not in _LONG}
    if "baselines" in kept:
        kept["baselines"] = {name: headline(values) for name, values in metrics["baselines"].items()}
    if "ranking" in kept:
        kept["ranking"] = {key: value for key, value in metrics["ranking"].items() if key in _RANKING}
    return kept


def metrics_table(metrics: Mapping[str, Any]) -> Any:
    """Return the model beside its baselines, to print; a line for a model that answers with lists."""
    if "auc" not in metrics:
        return lists.headline(metrics)
    rows = [
        [name, *(with_interval(values, metric) for metric in ("auc", "logloss", "ece"))]
        for name, values in (("model", metrics), *metrics["baselines"].items())
    ]
    rows += [
        [f"model, {label}", *(with_interval(values, metric) for metric in ("auc", "logloss", "ece"))]
        for label, values in metrics.get("labels", {}).items()
    ]
    if metrics.get("auc_best") is not None:
        rows.append(["best reachable", f"{metrics['auc_best']:.4f}", "", ""])
    return columns(rows, "", "AUC", "log loss", "ECE")


def ranking_table(ranking: Mapping[str, Any]) -> Any:
    """Return the model's ranking beside the baselines', to print; why there is none, if so."""
    if "metrics" not in ranking:
        return f"no ranking: {ranking.get('reason', 'the model does not rank items')}"
    shown = [name for name in ranking["metrics"] if name.startswith(("hit_rate", "ndcg", "recall"))]
    rows = [
        [name, *(ranked_with_interval(metrics[metric]) for metric in shown)]
        for name, metrics in (("model", ranking["metrics"]), *ranking["baselines"].items())
    ]
    title = f"{ranking['protocol']}; {ranking['users']:,} of {ranking['users_held_out']:,} users"
    return columns(rows, "", *shown, title=title)


def ranked_with_interval(found: Mapping[str, Any]) -> str:
    """Return a value of a ranking as `0.0712 [0.061, 0.082]`."""
    bounds = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.4f}{bounds}"


def with_interval(values: Mapping[str, Any], metric: str) -> str:
    """Return a metric as `0.7123 [0.706, 0.719]`; without the interval where there was no bootstrap."""
    low, high = values[f"{metric}_low"], values[f"{metric}_high"]
    return f"{values[metric]:.4f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def _best_auc(context: Context) -> float | None:
    """The AUC of the true probabilities on the test rows, where the source knows them."""
    from etl.sources.generated import best_auc

    return best_auc(Dataset.load(context.run.split / "test"))
