"""How fast the same network is trained by Mews, Merlin Models, Keras and PyTorch: rows/s, peak memory and AUC of each.

Each engine is a script of this package in a process of its own, one after the other. Rates leave out starting, tracing
and the first fifth of the rows. The AUC is that of held-out rows after one pass, with a bootstrap interval; an engine
that was stopped at the time limit has none. Memory is the largest sum of the RSS of the process and its children.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import machine, watched
from benchmarks.goals import Goal, judge
from benchmarks.training import ENGINES, LABEL, MODELS
from benchmarks.training.data import generate
from etl.atomic import write_text
from etl.errors import ConfigError, MewsError
from etl.progress import Progress, silent

ROOT = Path(__file__).resolve().parents[2]
TORCH_PYTHON = "MEWS_TORCH_PYTHON"
"""Variable that names the Python of an environment with PyTorch, NumPy and PyArrow."""
PEERS_TORCH = ROOT / ".venv-torch" / "bin" / "python"
"""Where `make peers-torch` puts it."""
HEADERS = ("model", "vocabulary", "engine", "rows", "samples/s", "x Mews", "peak MiB", "AUC")
SIZES = {"k": 1_000, "m": 1_000_000}
_SMALL, _LARGE, _HUGE = 10_000, 200_000, 1_000_000
_MORE_ROWS = 8
_RESAMPLES = 200
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "OMP_WAIT_POLICY": "PASSIVE"}
"""PyTorch's threads would otherwise spin as they wait for each other: where a core is shared, ten times as slow."""

GOALS: dict[str, Goal] = {
    f"{model}_{name}": goal
    for model in MODELS
    for name, goal in {
        f"over_merlin_at_{_SMALL}": Goal(1.5),
        f"over_merlin_at_{_LARGE}": Goal(5.0),
        **{f"over_{peer}_at_{size}": Goal(1.0) for peer in ("keras", "torch") for size in (_SMALL, _LARGE)},
        f"at_{_HUGE}_over_{_SMALL}": Goal(0.85),
        "auc_below_merlin": Goal(0.0, at_most=True),
        "peak_rss_with_more_rows": Goal(1.15, at_most=True),
    }.items()
}
"""Rates of Mews over a peer's at a vocabulary, and over its own at the smallest; by how much the interval of Mews' AUC
lies below that of Merlin with dense Adam, at worst; and its memory with eight times the rows."""


@dataclass(frozen=True)
class Plan:
    """What is measured: `rows` of a pass, `batch` of a step, `seconds` of a rate at most."""

    models: tuple[str, ...]
    vocabularies: tuple[int, ...]
    engines: tuple[str, ...]
    rows: int
    batch: int = 4096
    dim: int = 16
    seconds: float = 15.0
    seed: int = 0
    torch_python: str = ""
    more_rows: bool = True

    def __post_init__(self) -> None:
        if self.rows < 3 * self.batch:
            raise ConfigError(
                "bench training", expected=f"at least 3 steps of {self.batch} rows", received=f"{self.rows}"
            )


def chosen(wanted: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return names of `wanted`: "all", or some with commas; ConfigError for others."""
    names = tuple(known) if wanted == "all" else tuple(name.strip() for name in wanted.split(",") if name.strip())
    if not names or (unknown := [name for name in names if name not in known]):
        received = ", ".join(unknown) if names else "none"
        raise ConfigError(what, expected=f"all, or some of {', '.join(known)}", received=received)
    return tuple(name for name in known if name in names)


def engines(peers: str) -> tuple[str, ...]:
    """Return the engines of `peers`: "all", "none", or names with commas; Mews is always one."""
    others = () if peers in ("none", "mews") else chosen(peers, ENGINES, "--peers")
    return tuple(name for name in ENGINES if name == "mews" or name in others)


def sizes(text: str) -> tuple[int, ...]:
    """Read "10k,200k,1m"; ConfigError for what is no whole number from 8 on."""
    found = []
    for each in text.lower().split(","):
        number, unit = each.strip(), 1
        if number[-1:] in SIZES:
            number, unit = number[:-1], SIZES[number[-1]]
        if not number.isdigit() or int(number) * unit < 8:
            raise ConfigError("--vocabulary", expected="sizes such as 10k,200k,1m", received=text)
        found.append(int(number) * unit)
    return tuple(dict.fromkeys(found))


def torch_python(given: str = "") -> str:
    """Return the Python with PyTorch: `given`, the environment's, or `make peers-torch`'s; ConfigError without one."""
    found = given or os.environ.get(TORCH_PYTHON, "") or (str(PEERS_TORCH) if PEERS_TORCH.exists() else "")
    if not found:
        raise ConfigError(
            "the peer torch",
            expected="an environment with PyTorch, which is not part of Mews",
            received="none",
            hint=f"Run `make peers-torch`, give --torch-python PYTHON (or ${TORCH_PYTHON}), or leave out the peer.",
        )
    try:
        subprocess.run([found, "-c", "import torch, numpy, pyarrow"], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error).encode()).decode().strip().splitlines()
        raise ConfigError(
            "the peer torch",
            expected=f"a Python that imports torch, numpy and pyarrow at {found}",
            received=said[-1] if said else "an error",
        ) from error
    return found


def run(plan: Plan, out: Path, data: Path | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Measure and return the report, which is also written to `out`/training.json.

    `data` keeps the rows for another run. `results` is a list of {engine, model, vocabulary, rows, batch,
    samples_per_s, peak_rss_mb, auc, auc_low, auc_high}; an engine that failed has `failed` in place of a rate. Further
    keys: ratios, goals, machine, settings, created. MewsError if Mews itself fails.
    """
    pythons = dict.fromkeys(plan.engines, sys.executable)
    if "torch" in pythons:
        pythons["torch"] = torch_python(plan.torch_python)
    results = []
    with tempfile.TemporaryDirectory(prefix="mews-training-") as temporary:
        work = Path(temporary)
        points = _points(plan)
        for number, (model, vocabulary, rows, engine) in enumerate(points):
            progress(f"{model}, {vocabulary:,}, {engine}", number, len(points), "runs")
            name = f"training-{model}-{vocabulary}-{rows}-{plan.seed}"
            made = generate((data or work) / name, model, vocabulary, rows, plan.seed)
            found = _measure(plan, engine, pythons[engine], rows, made, work / f"{number}")
            results.append({"engine": engine, "model": model, "vocabulary": vocabulary, "rows": rows} | found)
            if engine == "mews" and "failed" in found:
                raise MewsError("bench training", expected="a model from Mews", received=found["failed"])
        progress("done", len(points), len(points), "runs")
    report = _report(plan, results)
    write_text(out / "training.json", json.dumps(report, indent=1) + "\n")
    return report


def _points(plan: Plan) -> list[tuple[str, int, int, str]]:
    points = [(m, v, plan.rows, engine) for m in plan.models for v in plan.vocabularies for engine in plan.engines]
    if plan.more_rows:
        points += [(model, min(plan.vocabularies), plan.rows * _MORE_ROWS, "mews") for model in plan.models[:1]]
    return points


def _measure(plan: Plan, engine: str, python: str, rows: int, data: Path, out: Path) -> dict[str, Any]:
    command = [python, "-W", "ignore", "-m", f"benchmarks.training.{engine}", "--json", "--data", str(data)]
    command += ["--out", str(out), "--batch", str(plan.batch), "--dim", str(plan.dim)]
    seconds = plan.seconds * max(1, rows // plan.rows)
    command += ["--seconds", str(seconds), "--seed", str(plan.seed)]
    limits = watched.Limits(int(psutil.virtual_memory().total * 0.85) // 2**20, 120 + 8 * seconds)
    ended = watched.run(command, out.with_suffix(".log"), limits, ROOT, _QUIET)
    found: dict[str, Any] = {"batch": plan.batch, "peak_rss_mb": round(ended.peak_rss_mb, 1)}
    if ended.failed:
        return found | {"samples_per_s": None, "auc": None, "failed": ended.failed}
    told = json.loads(ended.output.strip().splitlines()[-1])
    found |= {"samples_per_s": round(told["samples_per_s"], 1), "measured_seconds": round(told["measured_seconds"], 2)}
    found |= {"peak_rss_mb": round(max(ended.peak_rss_mb, told["own_peak_rss_mb"]), 1), "complete": told["complete"]}
    return found | (auc(data / "valid", np.load(out / "scores.npy")) if told["complete"] else {"auc": None})


def auc(folder: Path, scores: Any) -> dict[str, float]:
    """Return auc, auc_low and auc_high (95%, bootstrap over rows) of scores [rows] for the labels in `folder`."""
    from sklearn.metrics import roc_auc_score

    from training.data import labels

    truth, random = labels(folder, LABEL), np.random.default_rng(0)
    drawn = (random.integers(0, len(truth), min(len(truth), 20_000)) for _ in range(_RESAMPLES))
    spread = np.std([roc_auc_score(truth[rows], scores[rows]) for rows in drawn])
    # Resamples of fewer rows spread more, by the root of the share.
    half = 1.96 * float(spread) * float(np.sqrt(min(1.0, 20_000 / len(truth))))
    found = float(roc_auc_score(truth, scores))
    return {"auc": round(found, 5), "auc_low": round(found - half, 5), "auc_high": round(found + half, 5)}


def ratios(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the quotients that GOALS names, of what was measured."""
    rows = min(each["rows"] for each in results)
    own = {(e["engine"], e["model"], e["vocabulary"]): e for e in results if e["rows"] == rows}
    rates = {key: each["samples_per_s"] for key, each in own.items() if each["samples_per_s"]}
    found: dict[str, float] = {}
    for (engine, model, size), rate in rates.items():
        if engine != "mews":
            found[f"{model}_over_{engine}_at_{size}"] = rates["mews", model, size] / rate
        elif size != _SMALL and ("mews", model, _SMALL) in rates:
            found[f"{model}_at_{size}_over_{_SMALL}"] = rate / rates["mews", model, _SMALL]
    for model in {model for _, model, _ in own}:
        worst = [
            own["merlin", model, size]["auc_low"] - own["mews", model, size]["auc_high"]
            for engine, name, size in own
            if engine == "merlin" and name == model and own["merlin", model, size]["auc"] is not None
        ]
        if worst:
            found[f"{model}_auc_below_merlin"] = max(worst)
    for more in results:
        if more["rows"] > rows:
            before = own["mews", more["model"], more["vocabulary"]]["peak_rss_mb"]
            found[f"{more['model']}_peak_rss_with_more_rows"] = more["peak_rss_mb"] / before
    return {name: round(value, 4) for name, value in found.items()}


def _report(plan: Plan, results: list[dict[str, Any]]) -> dict[str, Any]:
    quotients = ratios(results)
    return {
        "results": results,
        "ratios": quotients,
        "goals": judge(quotients, GOALS),
        "machine": machine.describe(("tensorflow", "merlin-models", "merlin-dataloader")),
        "settings": {"dim": plan.dim, "seconds": plan.seconds, "seed": plan.seed, "rows": plan.rows},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return a line for each result under HEADERS; an engine without figures says why."""
    mews = {
        (each["model"], each["vocabulary"], each["rows"]): each["samples_per_s"]
        for each in report["results"]
        if each["engine"] == "mews"
    }
    return [_row(each, mews[each["model"], each["vocabulary"], each["rows"]]) for each in report["results"]]


def _row(each: Mapping[str, Any], mews: float) -> list[str]:
    start = [each["model"], f"{each['vocabulary']:,}", each["engine"], f"{each['rows']:,}"]
    if "failed" in each:
        return [*start, each["failed"], "-", f"{each['peak_rss_mb']:,.0f}", "-"]
    rate = each["samples_per_s"]
    score = (
        "not finished" if each["auc"] is None else f"{each['auc']:.4f} [{each['auc_low']:.4f}, {each['auc_high']:.4f}]"
    )
    return [*start, f"{rate:,.0f}", f"{rate / mews:.2f}", f"{each['peak_rss_mb']:,.0f}", score]


def goals(report: Mapping[str, Any]) -> str:
    """Return a line for each goal that was judged."""
    lines = [
        f"{'met   ' if goal['met'] else 'MISSED'}  {name}: {goal['measured']:g} ({goal['limit']})"
        for name, goal in report["goals"].items()
    ]
    return "\n".join(lines)
