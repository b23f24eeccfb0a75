"""A Katib Experiment over the space that `mews tune` searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from etl.errors import ConfigError
from mews.kubeflow.pods import labels, template
from mews.kubeflow.values import KubeflowValues
from training.tuning.config import Range
from training.tuning.space import Space, defaults

if TYPE_CHECKING:
    from mews.config import PipelineConfig

_ALGORITHMS = {"tpe": "tpe", "random": "random", "grid": "grid"}
_FORMAT = r"([\w@|.-]+)\s*=\s*([+-]?\d+(?:\.\d+)?(?:[Ee][+-]?\d+)?)"


def experiment(config: PipelineConfig, values: KubeflowValues) -> dict[str, Any]:
    """Return the manifest; each trial trains on the features of the run folder and prints the metric.

    ConfigError for a pruner that Katib does not have, and for values that it cannot carry.
    """
    from training.tuning.study import better

    tune, space = config.tune, Space(config.tune.space or defaults(config.model.name))
    parameters = _grid(space) if tune.sampler == "grid" else [_parameter(*one) for one in space.choices.items()]
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": values.name, "namespace": values.namespace, "labels": labels(values)},
        "spec": {
            "objective": {"type": better(tune.metric), "objectiveMetricName": tune.metric},
            "algorithm": {"algorithmName": _ALGORITHMS[tune.sampler], **_settings(tune.sampler, config.seed)},
            **_early_stopping(config),
            "parallelTrialCount": tune.jobs,
            "maxTrialCount": tune.trials,
            "maxFailedTrialCount": max(1, tune.trials // 4),
            "resumePolicy": "Never",
            "metricsCollectorSpec": {
                "collector": {"kind": "StdOut"},
                "source": {"filter": {"metricsFormat": [_FORMAT]}},
            },
            "parameters": parameters,
            "trialTemplate": _trial(space, values),
        },
    }


def _settings(sampler: str, seed: int) -> dict[str, Any]:
    if sampler == "grid":
        return {}
    return {"algorithmSettings": [{"name": "random_state", "value": str(seed)}]}


def _early_stopping(config: PipelineConfig) -> dict[str, Any]:
    tune = config.tune
    if tune.pruner == "none":
        return {}
    if tune.pruner != "median":
        raise ConfigError(
            "tune.pruner for Katib",
            expected="median or none",
            received=tune.pruner,
            hint="Katib's hyperband is an algorithm of its own, which needs a budget among the parameters.",
        )
    given = {"min_trials_required": tune.startup_trials, "start_step": tune.warmup_epochs + 1}
    told = [{"name": name, "value": str(value)} for name, value in given.items()]
    return {"earlyStopping": {"algorithmName": "medianstop", "algorithmSettings": told}}


def _parameter(key: str, values: list[Any] | Range) -> dict[str, Any]:
    if isinstance(values, list):
        return _listed(key, values)
    whole = all(isinstance(one, int) for one in (values.low, values.high, values.step or 1))
    space = {"min": f"{values.low:g}", "max": f"{values.high:g}"}
    if values.step:
        space["step"] = f"{values.step:g}"
    if values.log:
        space["distribution"] = "logUniform"
    return {"name": _name(key), "parameterType": "int" if whole else "double", "feasibleSpace": space}


def _grid(space: Space) -> list[dict[str, Any]]:
    """The same points that the grid of `mews tune` has: Katib's own would step evenly through a range by factors."""
    axes: dict[str, list[Any]] = {key: [] for key in space.choices}
    for point in space.grid():
        for key, value in space.values(point).items():
            if value not in axes[key]:
                axes[key].append(value)
    return [_listed(key, values) for key, values in axes.items()]


def _listed(key: str, values: list[Any]) -> dict[str, Any]:
    return {
        "name": _name(key),
        "parameterType": "categorical",
        "feasibleSpace": {"list": [_text(key, value) for value in values]},
    }


def _name(key: str) -> str:
    return key.replace(".", "-").replace("_", "-")


def _text(key: str, value: Any) -> str:
    """A value as YAML on one line. Katib puts it into JSON as it is, so that it may hold no double quotes."""
    text = yaml.safe_dump(value, default_flow_style=True, width=100_000).removesuffix("\n...\n").strip()
    if '"' in text or "\\" in text or "\n" in text:
        raise ConfigError(f"tune.space {key}", expected="values without quotes and backslashes", received=text)
    return text


def _trial(space: Space, values: KubeflowValues) -> dict[str, Any]:
    command = ["python3", "-m", "mews.kubeflow.trial"]
    args = [values.run, *(f"{key}=${{trialParameters.{_name(key)}}}" for key in space.choices)]
    pod = template(values, "trial", command, args)
    pod["spec"]["restartPolicy"] = "Never"
    told: list[Mapping[str, str]] = [
        {"name": _name(key), "description": key, "reference": _name(key)} for key in space.choices
    ]
    return {
        "retain": False,
        "primaryContainerName": "trial",
        "trialParameters": told,
        "trialSpec": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "spec": {"backoffLimit": values.retries, "template": pod},
        },
    }
