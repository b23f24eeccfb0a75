"""The figures of `mews compare` put together: one entry for each model, tests against the first baseline, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mews.config import PipelineConfig
from mews.report import numbers
from mews.run import Run
from mews.session import columns


@dataclass(frozen=True)
class Entry:
    """What is compared: a model or a baseline, whether it was `measured`, `failed` or `left out` and why, its figures.

    `folder` holds measures.json and users.npz.
    """

    name: str
    kind: str
    task: str
    says: str
    status: str = "measured"
    reason: str | None = None
    measures: Mapping[str, Any] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Metric:
    """How a metric is called and written; `main` ones have a column on the terminal.

    `best` is high or low, or empty for what only describes.

    `group` is the table of the page that it stands in: quality, or what is shown and what it costs.
    """

    name: str
    title: str
    best: str
    write: Any = numbers.fixed
    main: bool = False
    says: str = ""
    group: str = "quality"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("ndcg@10", "NDCG@10", "high", main=True, says="hits among the first ten, the higher the better placed"),
        Metric("hit_rate@10", "HR@10", "high", main=True, says="users with a hit among the first ten"),
        Metric("recall@20", "recall@20", "high", main=True, says="share of a user's held-out items in the first 20"),
        Metric("mrr@10", "MRR@10", "high", says="one over the place of the first hit"),
        Metric("map@10", "MAP@10", "high", says="precision averaged over the places of the hits"),
        Metric("ndcg@10_sampled", "NDCG@10, sampled", "high", says="the last item among drawn ones: see the method"),
        Metric("hit_rate@10_sampled", "HR@10, sampled", "high", says="the last item among drawn ones: see the method"),
        Metric("auc", "AUC", "high", main=True, says="share of (click, no click) pairs of rows in the right order"),
        Metric("logloss", "log loss", "low", main=True, says="mean negative log likelihood of the labels"),
        Metric("ece", "ECE", "low", says="mean distance of predicted and observed rates"),
        *(Metric(*about, group="other") for about in (
            ("coverage", "coverage", "high", numbers.percent, True, "share of the items that anybody is shown"),
            ("gini", "Gini", "", numbers.significant, False, "how unevenly items are shown: 0 is even"),
            ("novelty", "novelty", "", numbers.significant, False, "mean surprise, in bits, of what is shown"),
            ("diversity", "diversity", "", numbers.significant, False, "how unlike the items of one list are"),
            ("popularity_lift", "popularity lift", "", numbers.significant, False,
             "popularity of what is shown over that of what users had before, less 1"),
            ("onnx_p50_us", "one row", "low", numbers.microseconds, False, "median time of ONNX Runtime for one row"),
            ("onnx_bytes", "ONNX", "low", numbers.size, False, "size of the exported model"),
        )),
    )
}  # fmt: skip
FEW_USERS = 50
"""With fewer users a ranking metric says next to nothing."""
_COSTS = ("onnx_p50_us", "onnx_bytes")


def summary(config: PipelineConfig, run: Run, found: Sequence[Entry]) -> dict[str, Any]:
    """Return all that was measured as one JSON object: what compare.json holds and the page shows."""
    against = next((entry.name for entry in found if entry.kind == "baseline" and entry.status == "measured"), None)
    tested = _tested(found, against, config)
    shared = next((entry.measures for entry in found if entry.measures), {})
    return {
        "name": run.folder.name,
        "source": config.data.source,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": config.seed,
        "confidence": config.evaluate.confidence,
        "bootstrap": config.evaluate.bootstrap,
        "against": against,
        "data": shared.get("data", {}),
        "notes": _notes(shared.get("data", {}), config),
        "entries": [_entry(entry, tested.get(entry.name, {})) for entry in found],
    }


def _notes(data: Mapping[str, Any], config: PipelineConfig) -> list[str]:
    """What the reader should know before trusting the figures."""
    users, who = data.get("users"), data.get("asked", "users")
    if users is None or users >= FEW_USERS:
        return []
    every = config.split.by == "last-per-user" or who != "users"
    hint = "" if every else "; with --set split.by=last-per-user every user with two is asked"
    return [f"only {users} {who} have new positives of known items in the test rows, so rankings say little{hint}"]


def _entry(entry: Entry, tested: Mapping[str, float]) -> dict[str, Any]:
    measures = dict(entry.measures or {})
    metrics = {name: {**value, "p": tested.get(name)} for name, value in dict(measures.pop("metrics", {})).items()}
    empty: dict[str, Any] = {
        "train_seconds": None,
        "samples_per_s": None,
        "parameters": None,
        "notes": [],
        "curves": {},
    }
    measures.pop("data", None)
    told = {"name": entry.name, "kind": entry.kind, "task": entry.task, "says": entry.says}
    return {**told, "status": entry.status, "reason": entry.reason, **empty, **measures, "metrics": metrics}


def users(entry: Entry) -> dict[str, Any]:
    """Return the metrics of every user, {metric: float64 [users]}; empty where there was no ranking."""
    path = entry.folder / "users.npz" if entry.folder else None
    if path is None or not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _tested(found: Sequence[Entry], against: str | None, config: PipelineConfig) -> dict[str, dict[str, float]]:
    """Return {entry: {metric: p}} of paired tests against the entry called `against`, corrected by Holm's method."""
    each = {entry.name: values for entry in found if (values := users(entry))}
    base = each.pop(against or "", None)
    if base is None or not each:
        return {}
    from training.evaluation.significance import against as compared_with

    codes = base.pop("codes")
    same = {name: values for name, values in each.items() if np.array_equal(values["codes"], codes)}
    tests = compared_with(base, same, list(base), config.evaluate, config.seed)
    return {name: {metric: test["p_holm"] for metric, test in made.items()} for name, made in tests.items()}


def records(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return {model, metric, value, low, high, train_seconds, samples_per_s, parameters, against, p, reason} each.

    `p` is of a paired test against the baseline `against`, where one was made. A model without figures has one record,
    whose metric and value are None.
    """
    rows = []
    for entry in compared["entries"]:
        shared = {key: entry[key] for key in ("train_seconds", "samples_per_s", "parameters", "reason")}
        empty: dict[str, Any] = {"value": None, "low": None, "high": None, "p": None}
        for metric, found in (entry["metrics"] or {None: {}}).items():
            tested = compared["against"] if found.get("p") is not None else None
            rows.append({"model": entry["name"], "metric": metric, **empty, **found, "against": tested, **shared})
    return rows


def winners(compared: Mapping[str, Any]) -> dict[str, str]:
    """Return the best entry of every metric that two or more entries have."""
    found = {}
    for metric, about in METRICS.items():
        values = {
            entry["name"]: entry["metrics"][metric]["value"]
            for entry in compared["entries"]
            if (entry["metrics"].get(metric) or {}).get("value") is not None
        }
        if len(values) > 1 and about.best:
            found[metric] = (max if about.best == "high" else min)(values, key=lambda name: values[name])
    return found


def tables(compared: Mapping[str, Any]) -> list[Any]:
    """Return what the terminal shows: quality with intervals (the best of a column marked *), then cost."""
    best, entries = winners(compared), compared["entries"]
    measured = [entry for entry in entries if entry["status"] == "measured"]
    shown = [one for one in METRICS.values() if one.main and any(one.name in entry["metrics"] for entry in measured)]
    rows = [[entry["name"], *(_cell(entry, one, best) for one in shown)] for entry in measured]
    costs = [
        [entry["name"], numbers.seconds(entry["train_seconds"]), numbers.count(entry["samples_per_s"]),
         numbers.count(entry["parameters"]), *(_cost(entry, name) for name in _COSTS)]
        for entry in measured
    ]  # fmt: skip
    made = []
    if shown:
        made.append(columns(rows, "", *(one.title for one in shown), title="On the test rows (* best)"))
    if costs:
        titles = ("training", "samples/s", "parameters", *(METRICS[name].title for name in _COSTS))
        made.append(columns(costs, "", *titles, title="Cost (one row: ONNX Runtime in process, one thread, no server)"))
    return made


def _cell(entry: Mapping[str, Any], metric: Metric, best: Mapping[str, str]) -> str:
    found = entry["metrics"].get(metric.name) or {}
    if found.get("value") is None:
        return "-"
    mark = "*" if best.get(metric.name) == entry["name"] else ""
    written = metric.write(found["value"])
    return f"{written}{mark}{_between(found, written.endswith('%'))}"


def _between(found: Mapping[str, Any], in_percent: bool) -> str:
    """The interval on a line of its own, short enough for a terminal of 80 columns."""
    if found.get("low") is None:
        return ""
    bounds = [f"{100 * found[end]:.3g}" if in_percent else f"{found[end]:.3f}".lstrip("0") for end in ("low", "high")]
    return f"\n{'-'.join(bounds)}{' %' if in_percent else ''}"


def _cost(entry: Mapping[str, Any], name: str) -> str:
    found = entry["metrics"].get(name) or {}
    return "-" if found.get("value") is None else str(METRICS[name].write(found["value"]))
