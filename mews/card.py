"""What a run folder knows of its model, for its card and for the registry; the card is written beside the report."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.atomic import write_text
from etl.sources.dataset import Dataset
from mews import cache
from mews.run import PARTS, Run

if TYPE_CHECKING:
    from mews.config import PipelineConfig

_PACKAGES = ("etl", "training", "ensemble", "mews")
_ROOT = Path(__file__).resolve().parent.parent


def write_card(run: Run, facts: Mapping[str, Any], exported: Path | None = None) -> Path:
    """Write the model card of `gather`'s facts into the run folder, and return its path.

    Of a version in the folder `exported`, it is the card that lies there, so that a version has one card.
    """
    from ensemble.export.write import CARD
    from training.card import render

    kept = None if exported is None else exported / CARD
    if kept is not None and kept.is_file():  # versions of an earlier Mews have none
        write_text(run.card, kept.read_text(encoding="utf-8"))
    else:
        write_text(run.card, render(facts))
    return run.card


def gather(run: Run, config: PipelineConfig) -> dict[str, Any]:
    """Return the facts that training/card.py takes, of a run whose model was evaluated; ArtifactError without them."""
    from benchmarks import machine
    from training.parts import rows
    from training.train import read_training

    training, dataset = read_training(run.model), Dataset.load(run.clean)
    split = cache.read(run.stages, "split", run.folder)
    return {
        "training": training,
        "history": json.loads((run.model / "history.json").read_text(encoding="utf-8")),
        "metrics": json.loads((run.evaluation / "metrics.json").read_text(encoding="utf-8")),
        "config": config.model_dump(mode="json"),
        "dataset": _dataset(dataset),
        "window": _window(run),
        "rows": {part: rows(run.features(part)) for part in PARTS},
        "machine": machine.describe(),
        "code": code(),
        "fingerprints": {
            "graph": training["fingerprint"],
            "data": split.digest if split else "",
            "model": cache.digest_files([run.model / "saved_model"]),
        },
        "size": {"bytes": _bytes(run.model / "saved_model"), "parameters": _parameters(run.onnx / "model.onnx")},
        "says": {"intended_use": config.registry.intended_use, "limits": config.registry.limits},
    }


def code() -> dict[str, Any]:
    """Return {version, commit, digest} of the code that runs; commit is None outside of a repository."""
    from etl.versions import installed

    commit = None
    if (_ROOT / ".git").exists() and (git := shutil.which("git")):
        done = subprocess.run([git, "-C", str(_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or None
    version = installed(("mews",)).get("mews", "not installed")
    return {"version": version, "commit": commit, "digest": cache.digest_code(*_PACKAGES)}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    columns = [{"name": one.name, "role": one.role, "side": one.side} for one in dataset.columns]
    return {"name": dataset.name, "rows": dataset.rows, "facts": dict(dataset.facts), "columns": columns}


def _window(run: Run) -> dict[str, list[str]] | None:
    """First and last time of each split, to the second; None where no column is one."""
    import polars as pl

    found = {}
    for part in PARTS:
        dataset = Dataset.load(run.split / part)
        time = dataset.only("timestamp")
        if time is None:
            return None
        ends = dataset.scan().select(pl.col(time).min().alias("first"), pl.col(time).max().alias("last")).collect()
        found[part] = [str(value)[:19] for value in ends.row(0)]
    return found


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _parameters(model: Path) -> int | None:
    """Numbers in the graph's weights, without the files beside it being read; None without a graph."""
    if not model.is_file():
        return None
    import math

    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    return int(sum(math.prod(one.dims) for one in graph.initializer if one.data_type in (1, 10, 11, 16)))
