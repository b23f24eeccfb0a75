"""One step in its container: `python3 -m mews.kubeflow.step NAME --executor_input JSON`, as Kubeflow calls it.

Lays the input artifacts together to a run folder, runs `mews` in it, and copies what is new into the output artifacts,
by kfp's own protocol of executors; kfp itself is not needed. Exit codes are those of `mews`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mews.kubeflow.steps import ARTIFACTS, CONFIG, DATA, PROMOTE, STEPS, STOP, Step

MODELS = Path("/models")
_BUCKETS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/", "oss://": "/oss/"}
_FIGURES = ("auc", "auc_low", "auc_high", "logloss", "ece")
_POINTS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the step and return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m mews.kubeflow.step", description="One step of the pipeline.")
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("--executor_input", required=True, type=json.loads, help="kfp's JSON: inputs and outputs")
    parser.add_argument("--protocol", default="kfp.dsl.executor_main", help="whose inputs and outputs these are")
    parser.add_argument("--minimum-auc", type=float, default=0.5)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args(arguments)
    step = STEPS[given.name]
    with tempfile.TemporaryDirectory(prefix="mews-step-") as folder:
        run = Path(folder) / "run"
        parameters, artifacts = _inputs(given.executor_input)
        _lay(run, step, artifacts)
        options = _options(Path(folder), run, given.settings, parameters, artifacts)
        for words in _commands(step, parameters, run):
            code = subprocess.run([*_mews(), *words, *options], check=False).returncode
            if code:
                return code
        _leave(run, step, given.executor_input["outputs"], given.minimum_auc)
    return 0


def local(uri: str) -> Path:
    """Return the path that Kubeflow mounts a URI at; a path is one already."""
    for scheme, mount in _BUCKETS.items():
        if uri.startswith(scheme):
            return Path(mount + uri.removeprefix(scheme))
    return Path(uri)


def verdict(metrics: Mapping[str, Any], minimum: float) -> str:
    """Return `promote` for a model with an AUC of at least `minimum` and above its best baseline's, else `stop`."""
    if metrics.get("auc") is None:  # answers with lists; the registry judges it
        return PROMOTE
    baselines = [one["auc"] for one in metrics.get("baselines", {}).values() if one.get("auc") is not None]
    return PROMOTE if metrics["auc"] >= minimum and metrics["auc"] > max(baselines, default=0.0) else STOP


def _inputs(executor: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    found = executor.get("inputs", {})
    artifacts = {name: local(one["artifacts"][0]["uri"]) for name, one in found.get("artifacts", {}).items()}
    return dict(found.get("parameterValues", {})), artifacts


def _mews() -> list[str]:
    """How to call `mews`: MEWS_PROGRAM where it is not on the path, as in a local run."""
    return [os.environ.get("MEWS_PROGRAM") or "mews"]


def _lay(run: Path, step: Step, artifacts: Mapping[str, Path]) -> None:
    (run / ".stages").mkdir(parents=True)
    for name in step.inputs:
        shutil.copytree(artifacts[name], run, dirs_exist_ok=True)
    for record in sorted((run / ".stages").glob("*.json")):
        _touch(run, json.loads(record.read_text(encoding="utf-8"))["outputs"])


def _touch(run: Path, outputs: Mapping[str, Sequence[int]]) -> None:
    """Give the files the times that their record has: a store keeps contents only, and a stage looks at both."""
    for name, (size, time) in outputs.items():
        path = run / name
        if path.exists() and path.stat().st_size == size:
            os.utime(path, ns=(time, time))


def _options(
    folder: Path, run: Path, settings: Sequence[str], parameters: Mapping[str, Any], artifacts: Mapping[str, Path]
) -> list[str]:
    config = folder / "pipeline.yaml"  # JSON is YAML
    config.write_text(str(parameters[CONFIG]), encoding="utf-8")
    given = list(settings)
    if DATA in artifacts:
        given.append(f"data.path={json.dumps(str(artifacts[DATA]))}")
    if parameters.get("registry_uri"):
        given.append(f"registry.uri={json.dumps(parameters['registry_uri'])}")
    return [f"--config={config}", f"--run={run}", *(f"--set={one}" for one in given)]


def _commands(step: Step, parameters: Mapping[str, Any], run: Path) -> Iterator[list[str]]:
    """The step's commands, without those whose place is not known: the registry, and the server."""
    url = parameters.get("triton_url")
    if "triton_url" in step.parameters and url:
        (run / "repository").symlink_to(MODELS, target_is_directory=True)
    for words in step.commands:
        if words[0] == "models":
            if parameters.get("registry_uri"):
                yield [*words, *(["--no-export"] if words[1] == "register" else [])]
        elif "triton_url" not in step.parameters:
            yield list(words)
        elif url:
            yield [*words, *([f"--triton-url={url}"] if words[0] == "versions" else ["--set=export.stable=false"])]


def _leave(run: Path, step: Step, outputs: Mapping[str, Any], minimum: float) -> None:
    """Copy the output artifacts, and write the metrics and what the next step is decided by."""
    for name in step.outputs:
        _copy(run, ARTIFACTS[name].paths, local(_uri(outputs, name)))
    metadata: dict[str, dict[str, Any]] = {}
    told: dict[str, Any] = {}
    if step.metrics:
        metrics = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
        told["parameterValues"] = {"verdict": verdict(metrics, minimum), "auc": float(metrics.get("auc") or 0.0)}
        figures = {name: metrics[name] for name in _FIGURES if isinstance(metrics.get(name), int | float)}
        metadata = {"metrics": figures, "roc": {"confidenceMetrics": _curve(metrics)}}
    told["artifacts"] = {
        name: _described(outputs, name, metadata.get(name, {})) for name in outputs.get("artifacts", {})
    }
    file = local(outputs["outputFile"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told), encoding="utf-8")


def _copy(run: Path, paths: Sequence[str], target: Path) -> None:
    for name in paths:
        source, place = run / name, target / name
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        elif source.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)


def _uri(outputs: Mapping[str, Any], name: str) -> str:
    return str(outputs["artifacts"][name]["artifacts"][0]["uri"])


def _described(outputs: Mapping[str, Any], name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    made = outputs["artifacts"][name]["artifacts"][0]
    return {"artifacts": [{"name": made.get("name", ""), "uri": made["uri"], "metadata": dict(metadata)}]}


def _curve(metrics: Mapping[str, Any]) -> list[dict[str, float]]:
    """The ROC curve as kfp's ClassificationMetrics has it; none for a model that answers with lists.

    metrics.json does not keep the scores, so that a point's threshold is its place along the curve.
    """
    roc = metrics.get("roc")
    if not isinstance(roc, Mapping):
        return []
    points = list(zip(*(roc.get(axis, ()) for axis in ("fpr", "tpr")), strict=False))
    kept = points[:: max(1, len(points) // _POINTS)]
    return [
        {"confidenceThreshold": 1 - at / max(1, len(kept) - 1), "falsePositiveRate": low, "recall": high}
        for at, (low, high) in enumerate(kept)
    ]


if __name__ == "__main__":
    sys.exit(main())
