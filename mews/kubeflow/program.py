"""The pipeline in kfp's words: `python -m mews.kubeflow.program`, in an environment of its own that has kfp.

Reads a plan (JSON: values, config, out, local) from standard input, writes the IR YAML to `out`, and runs the pipeline
with kfp's local runner in the folder `local` if there is one. Only mews.kubeflow.compiled calls it.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

from kfp import compiler, dsl, kubernetes, local  # type: ignore[import-not-found]

from mews.kubeflow.steps import ARTIFACTS, CONFIG, DATA, PROMOTE, STEPS

Values = dict[str, Any]


def main() -> None:
    """Do what the plan says."""
    plan = json.load(sys.stdin)
    made = pipeline(plan["values"], plan["config"])
    compiler.Compiler().compile(made, plan["out"])
    if plan["local"]:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=plan["local"], raise_on_error=True)
        made()


def component(name: str, values: Values, data: bool) -> Any:
    """Return the component of a step: its inputs and outputs by their types, and its container."""
    step, empty = STEPS[name], inspect.Parameter.empty

    def parameter(key: str, annotation: Any, default: Any = empty) -> inspect.Parameter:
        return inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=default)

    taken = [parameter(one, dsl.Input[_type(one)]) for one in step.inputs]
    taken += [parameter(DATA, dsl.Input[dsl.Dataset])] if data else []
    left = [parameter(one, dsl.Output[_type(one)]) for one in step.outputs]
    if step.metrics:
        left += [parameter("metrics", dsl.Output[dsl.Metrics]), parameter("roc", dsl.Output[dsl.ClassificationMetrics])]
        left += [parameter("verdict", dsl.OutputPath(str)), parameter("auc", dsl.OutputPath(float))]
    texts = [parameter(CONFIG, str), *(parameter(one, str) for one in step.parameters)]
    container = _container(name, values)
    return _named(dsl.container_component, name, [*taken, *left, *texts], container)


def _type(artifact: str) -> Any:
    return getattr(dsl, ARTIFACTS[artifact].kind)


def _named(decorator: Callable[..., Any], name: str, parameters: list[inspect.Parameter], result: Any) -> Any:
    def made(*_: Any) -> Any:
        return result

    made.__name__ = made.__qualname__ = name
    made.__doc__ = None
    made.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return decorator(made)


def _container(name: str, values: Values) -> Any:
    args = [name, "--protocol", "kfp.dsl.executor_main", "--executor_input", "{{$}}"]
    if STEPS[name].metrics:
        args += ["--minimum-auc", str(values["minimum_auc"])]
    if name == "features" and values["features"]["gpus"]:
        args += ["--set", "features.engine=gpu", "--set", "features.gpu_fallback=true"]
    return dsl.ContainerSpec(image=values[name]["image"], command=["python3", "-m", "mews.kubeflow.step"], args=args)


def pipeline(values: Values, config: str) -> Any:
    """Return the pipeline: features, training, evaluation, export, and the promotion if the model is good enough."""
    imports = bool(values["data_uri"])
    parts = {name: component(name, values, imports) for name in STEPS}

    def run(name: str, **given: Any) -> Any:
        return _placed(parts[name](**given), name, values)

    def whole(config: str = config, registry_uri: str = "", triton_url: str = values["triton_url"] or "") -> None:
        common: dict[str, Any] = {CONFIG: config}
        if imports:
            raw = dsl.importer(artifact_uri=values["data_uri"], artifact_class=dsl.Dataset, reimport=True)
            common[DATA] = raw.output
        features = run("features", **common).outputs["features"]
        model = run("train", features=features, **common).outputs["model"]
        judged = run("evaluate", features=features, model=model, **common)
        parts_of = {"features": features, "model": model, "evaluation": judged.outputs["evaluation"]}
        run("export", **parts_of, **common)
        with dsl.If(judged.outputs["verdict"] == PROMOTE, name="good-enough"):
            run("promote", registry_uri=registry_uri, triton_url=triton_url, **parts_of, **common)

    whole.__annotations__ = {"config": str, "registry_uri": str, "triton_url": str, "return": None}
    return dsl.pipeline(name=values["name"], description="Features, training, evaluation, export, promotion")(whole)


def _placed(task: Any, name: str, values: Values) -> Any:
    """Give the task what it may use."""
    asked = values[name]
    task.set_cpu_request(asked["cpu"]).set_memory_request(asked["memory"]).set_memory_limit(asked["memory"])
    if asked["gpus"]:
        task.set_accelerator_type(values["gpu_resource"]).set_accelerator_limit(asked["gpus"])
    if values["retries"]:
        task.set_retry(values["retries"], backoff_duration=values["backoff"], backoff_factor=2.0)
    task.set_caching_options(values["cache"] and STEPS[name].cached)
    if name == "promote" and values["models_claim"]:
        kubernetes.mount_pvc(task, pvc_name=values["models_claim"], mount_path="/models")
    return task


if __name__ == "__main__":
    main()
