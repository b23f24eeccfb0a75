"""Measure one model or baseline, and keep the figures: measures.json, and users.npz with the metrics of every user."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etl.atomic import atomic_folder
from etl.errors import MewsError
from etl.progress import Progress
from mews.compare import cost
from mews.compare.ground import Ground, rank
from mews.compare.map import item_map, vectors_of
from mews.compare.scores import click_metrics, ranked_click_metrics

MEASURES, USERS = "measures.json", "users.npz"
_SAMPLED = ("ndcg@10", "hit_rate@10")
_SHOWN = ("coverage", "gini", "novelty", "diversity", "popularity_lift")
_RANKED = ("ndcg@10", "hit_rate@10", "recall@20", "mrr@10", "map@10")


@dataclass(frozen=True)
class Job:
    """What is measured: the entry called `name`, its trained `model` folder if it is one, and where figures go."""

    name: str
    model: Path
    out: Path
    ground: Ground
    progress: Progress


def measure_model(job: Job) -> None:
    """Judge a trained model's scores of the test rows, its ranking, its size and its speed; writes the folder `out`."""
    from training.evaluation.recommender import open_model
    from training.predict import predict

    ground, found = job.ground, _trained(job)
    scores = predict(job.model, ground.part("test"), job.progress)
    found["metrics"], found["curves"] = click_metrics(ground.labels, scores, ground.config.evaluate, ground.config.seed)
    users: Mapping[str, Any] = {}
    try:
        recommender = open_model(job.model, [ground.part("train"), ground.part("valid")], job.name)
        users = _ranked(recommender, job, found)
        found["map"] = item_map(vectors_of(recommender, job.model, ground), ground)
    except MewsError as error:  # the data has no ids, or nobody to ask: the scores of rows stand without
        found["notes"].append(f"no ranking: {' '.join(str(error).split())}")
    _served(job, ground.part("test"), found)
    _write(job.out, found, users)


def measure_lists(job: Job, recommender: Any, test: Path) -> None:
    """Judge a model of item lists by its scores of all items for the list of each user; writes the folder `out`.

    `test` are features as the model reads them, for the time of an answer: its best items, of one list. There are no
    probabilities of rows, so AUC alone says how test rows are ordered.
    """
    found = _trained(job)
    users = _ranked(recommender, job, found)
    _of_pairs(recommender, job, found)
    found["map"] = item_map(vectors_of(recommender, job.model, job.ground), job.ground)
    _served(job, test, found)
    _write(job.out, found, users)


def _trained(job: Job) -> dict[str, Any]:
    """What the training of a model says, and room for the rest."""
    from training.train import read_training

    facts = read_training(job.model)
    return {
        "train_seconds": facts["seconds"], "samples_per_s": facts["samples_per_s"],
        "parameters": cost.parameters(job.model), "best_epoch": facts["best_epoch"],
        "history": json.loads((job.model / "history.json").read_text(encoding="utf-8")),
        "metrics": {}, "curves": {}, "data": job.ground.facts(), "notes": [],
    }  # fmt: skip


def _served(job: Job, test: Path, found: dict[str, Any]) -> None:
    """Add the size and the speed of the ONNX model, or a note why there is none, to `found`."""
    try:
        answered = cost.served(job.model, test, job.progress)
        found["metrics"] |= {name: _exact(value) for name, value in answered.items()}
    except MewsError as error:
        found["notes"].append(f"no ONNX: {' '.join(str(error).split())}")


def measure_baseline(job: Job) -> None:
    """Fit a baseline on the training positives, judge its ranking and the order of its scores; writes `out`."""
    from training.baselines import fit

    ground = job.ground
    positives = int(ground.train.known.sum())
    started = time.perf_counter()
    recommender = fit(job.name, ground.train, ground.config.seed)
    seconds = time.perf_counter() - started
    asked = ground.asking(recommender)
    found: dict[str, Any] = {
        "train_seconds": seconds, "samples_per_s": positives / max(seconds, 1e-9), "parameters": _numbers(recommender),
        "metrics": {}, "curves": {}, "data": ground.facts(), "notes": [],
    }  # fmt: skip
    users = _ranked(asked, job, found)
    _of_pairs(asked, job, found)
    _write(job.out, found, users)


def _of_pairs(recommender: Any, job: Job, found: dict[str, Any]) -> None:
    """Add AUC and the curves of scores of the test rows' users and items to `found`, where there are clicks."""
    ground = job.ground
    if not ground.has_clicks:
        return
    scores = ground.pair_scores(recommender)
    metrics, curves = ranked_click_metrics(ground.labels, scores, ground.config.evaluate, ground.config.seed)
    found["metrics"] |= metrics
    found["curves"] |= curves


def _ranked(recommender: Any, job: Job, found: dict[str, Any]) -> dict[str, Any]:
    """Add ranking metrics with intervals and recall at k to `found`; return the metrics of every user."""
    from training.evaluation.intervals import means

    ground = job.ground
    ranked = rank(recommender, ground, job.progress)
    cases = {name: ranked.metrics[name] for name in {*_RANKED, *(f"recall@{k}" for k in ground.cutoffs)}}
    cases |= {f"{name}_sampled": ranked.sampled[name] for name in _SAMPLED if name in ranked.sampled}
    codes, each = ground.each(ranked.users, cases)
    users = {name: each[name] for name in (*_RANKED, *(f"{name}_sampled" for name in _SAMPLED)) if name in each}
    found["metrics"] |= means(users, ground.config.evaluate, ground.config.seed)
    recall = {
        "k": list(ground.cutoffs),
        "recall": [float(each[f"recall@{k}"].mean()) for k in ground.cutoffs],
    }
    found["curves"]["recall_at"] = recall
    found["metrics"] |= _shown(ranked, ground)
    found["data"] |= ground.ranked_facts()
    return {"codes": codes, **users}


def _shown(ranked: Any, ground: Ground) -> dict[str, dict[str, Any]]:
    """Return what the lists of ten are like, apart from being right."""
    from training.evaluation.beyond_accuracy import beyond_accuracy

    evaluate, seed = ground.config.evaluate, ground.config.seed
    made = beyond_accuracy(ranked, ground.train, ground.cases.candidates, ground.likeness, evaluate, 10, seed)
    return {name: made[name] for name in _SHOWN if made[name]["value"] is not None}


def _exact(value: float) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None}


def _numbers(baseline: Any) -> int:
    """Return how many numbers a baseline keeps."""
    kept = [getattr(baseline, name, None) for name in ("counts", "similarity", "users", "items")]
    return sum(int(values.nnz if hasattr(values, "nnz") else values.size) for values in kept if values is not None)


def _write(out: Path, found: Mapping[str, Any], users: Mapping[str, Any]) -> None:
    with atomic_folder(out) as folder:
        (folder / MEASURES).write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
        if users:
            np.savez(folder / USERS, **users)
