"""What `mews models register` keeps of a run: parameters, metrics, tags and files, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mews import cache
from mews.session import Session

if TYPE_CHECKING:
    from training.registry.version import Entry

DIGEST, ROWS, SERVED, NAME, HEADLINE = "mews.model", "mews.rows", "mews.exported", "mews.name", "mews.headline"
"""Tags of a version: digests of the model and of the raw test rows, the exported version, the model's name, figures."""


def entry(session: Session, facts: Mapping[str, Any], served: int | None, folder: Path) -> Entry:
    """Everything that is registered; `folder` takes what the run folder does not have as a file."""
    from training.registry.version import Entry

    run, config, prints = session.run, facts["config"], facts["fingerprints"]
    files = {
        "model": run.model,
        "config.yaml": run.config,
        run.card.name: run.card,
        "evaluation": run.evaluation,
        **_labels(session, facts, folder),
        **({"onnx": run.onnx} if served is not None else {}),
    }
    parameters = {"seed": str(config["seed"]), "data.source": config["data"]["source"]}
    for section in ("model", "train"):
        parameters |= {f"{section}.{key}": json.dumps(value) for key, value in config[section].items()}
    parameters |= {f"fingerprint.{key}": value or "none" for key, value in prints.items()}
    parameters |= {f"code.{key}": str(value) for key, value in facts["code"].items()}
    tags = {
        DIGEST: prints["model"],
        ROWS: _rows_digest(session),
        NAME: config["model"]["name"],
        "mews.label": facts["training"]["label"],
        HEADLINE: _headline(facts["metrics"]),
        SERVED: "not exported" if served is None else f"{session.config.export.name} {served}",
    }
    return Entry(parameters, _numbers(facts["metrics"]), tags, files)


def _labels(session: Session, facts: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """The labels of the test rows, so that another version can be compared row by row."""
    import numpy as np

    from training.data import labels

    path = folder / "labels.npy"
    np.save(path, labels(session.run.features("test"), facts["training"]["label"]), allow_pickle=False)
    return {"labels/labels.npy": path}


def _rows_digest(session: Session) -> str:
    return cache.digest_files([session.run.split / "test"])


def _numbers(metrics: Mapping[str, Any], place: str = "") -> dict[str, float]:
    """The single numbers of a metrics.json by their place, without curves, lists and slices."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping) and key not in ("roc", "histogram", "slices"):
            found |= _numbers(value, f"{place}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{place}{key}"] = float(value)
    return found


def _headline(metrics: Mapping[str, Any]) -> str:
    from training.registry.promotion import bounds

    found = {name: bounds(metrics, name) for name in ("auc", "logloss")}
    return ", ".join(f"{name} {one[0]:.4f}" for name, one in found.items() if one) or "see its metrics"
