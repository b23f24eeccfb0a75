"""What Kubeflow is given: the pipeline compiled by kfp and its first step run by kfp, an experiment, a TFJob."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from etl.errors import ConfigError
from mews import cache
from mews.cli import app
from mews.kubeflow import launch, step
from mews.kubeflow.compiled import ENVIRONMENT
from mews.kubeflow.steps import STEPS
from tests.deploy import rendering
from tests.deploy.conftest import SMALL
from tests.deploy.rendering import KUBERNETES, Object, assert_contained, check, pods

VALUES = {
    "features": {"image": "registry.example.com/mews-cpu:0.1.0"},
    "train": {"image": "registry.example.com/mews-train-gpu:0.1.0", "gpus": 2},
    "data_uri": "s3://clicks/history",
    "models_claim": "mews-models",
    "triton_url": "shop-mews.rec.svc:8000",
}
kfp = pytest.mark.skipif(
    not (ENVIRONMENT / "bin" / "python").exists(), reason=f"no kfp: requirements/kubeflow.lock is not in {ENVIRONMENT}"
)


def compiled(folder: Path, *options: str, config: Any = SMALL, values: Any = None) -> tuple[int, str, Path]:
    """Exit code, output and file of `mews pipeline compile`."""
    (folder / "pipeline.yaml").write_text(json.dumps(config))
    (folder / "values.yaml").write_text(json.dumps(values or {}))
    out = folder / "made.yaml"
    command = ["pipeline", "compile", f"--config={folder / 'pipeline.yaml'}", f"--values={folder / 'values.yaml'}"]
    done = CliRunner().invoke(app, [*command, f"--out={out}", *options])
    return done.exit_code, done.output, out


def made(folder: Path, *options: str, **more: Any) -> Object:
    code, said, out = compiled(folder, *options, **more)
    assert code == 0, said
    found: Object = yaml.safe_load(out.read_text())
    return found


@pytest.fixture(scope="module")
def ir(tmp_path_factory: pytest.TempPathFactory) -> tuple[Object, Object]:
    """The pipeline's specification, and what it says of the cluster."""
    code, said, out = compiled(tmp_path_factory.mktemp("ir"), values=VALUES)
    assert code == 0, said
    first, second = yaml.safe_load_all(out.read_text())
    return first, second


@kfp
def test_the_pipeline_is_typed_cached_and_tried_again(ir: tuple[Object, Object]) -> None:
    spec, _ = ir
    components, tasks = spec["components"], spec["root"]["dag"]["tasks"]
    types = {
        (name, key): one["artifactType"]["schemaTitle"]
        for name in STEPS
        for key, one in components[f"comp-{name}"].get("outputDefinitions", {}).get("artifacts", {}).items()
    }
    assert types[("features", "features")] == "system.Dataset"
    assert types[("train", "model")] == types[("export", "repository")] == "system.Model"
    assert types[("evaluate", "metrics")] == "system.Metrics"
    assert types[("evaluate", "roc")] == "system.ClassificationMetrics"
    for name in ("features", "train", "evaluate", "export"):
        assert tasks[name]["cachingOptions"] == {"enableCache": True}
        assert tasks[name]["retryPolicy"]["maxRetryCount"] == 2
    config = json.loads(spec["root"]["inputDefinitions"]["parameters"]["config"]["defaultValue"])
    assert config["data"]["rows"] == 3000
    importer = spec["deploymentSpec"]["executors"]["exec-importer"]["importer"]
    assert importer["artifactUri"]["constant"] == "s3://clicks/history"


@kfp
def test_a_model_is_promoted_only_if_it_is_good_enough(ir: tuple[Object, Object]) -> None:
    spec, platform = ir
    tasks = spec["root"]["dag"]["tasks"]
    assert "promote" not in tasks
    (conditional,) = [task for task in tasks.values() if "triggerPolicy" in task]
    assert conditional["triggerPolicy"]["condition"].endswith("== 'promote'")
    inner = spec["components"][conditional["componentRef"]["name"]]["dag"]["tasks"]
    assert list(inner) == ["promote"]
    assert inner["promote"]["cachingOptions"].get("enableCache", False) is False
    mounts = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert [each["mountPath"] for each in mounts["exec-promote"]["pvcMount"]] == ["/models"]


@kfp
def test_gpus_are_asked_for_by_the_training_alone(ir: tuple[Object, Object]) -> None:
    containers = {
        name: one["container"] for name, one in ir[0]["deploymentSpec"]["executors"].items() if "container" in one
    }
    assert set(containers) == {f"exec-{name}" for name in STEPS}
    asked = {name: one["resources"].get("accelerator") for name, one in containers.items()}
    assert asked.pop("exec-train")["resourceCount"] == "2"
    assert set(asked.values()) == {None}
    for name, container in containers.items():
        assert container["command"] == ["python3", "-m", "mews.kubeflow.step"]
        assert container["args"][0] == name.removeprefix("exec-")


def test_without_kfp_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    code, said, out = compiled(tmp_path, f"--kfp-python={tmp_path / 'python'}")
    assert (code, out.exists()) == (2, False)
    assert "requirements/kubeflow.lock" in said.replace("\n", "")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"trian": {}}, "trian"),
        ({"train": {"image": "mews:latest"}}, "train.image"),
        ({"train": {"image": "registry:5000/mews"}}, "train.image"),
        ({"triton_url": "shop:8000"}, "models_claim"),
        ({"minimum_auc": 7}, "minimum_auc"),
        ({"data_uri": "/data"}, "data_uri"),
    ],
)
def test_values_that_cannot_work_are_refused(tmp_path: Path, values: Any, says: str) -> None:
    code, said, out = compiled(tmp_path, values=values)
    assert (code, out.exists()) == (2, False)
    assert says in said


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_an_experiment_searches_the_space_of_mews_tune(tmp_path: Path, sampler: str) -> None:
    from mews.config import load
    from mews.tune import with_settings
    from training.tuning.space import Space, defaults

    config = {**SMALL, "model": {"name": "dlrm"}, "tune": {"sampler": sampler, "metric": "auc"}}
    found = made(tmp_path, "--to=katib", config=config)
    for version in KUBERNETES:
        check(found, version)
        check({**found["spec"]["trialTemplate"]["trialSpec"], "metadata": {"name": "trial"}}, version)
    spec = found["spec"]
    assert (spec["algorithm"]["algorithmName"], spec["objective"]["type"]) == (sampler, "maximize")
    space = Space(defaults("dlrm"))
    parameters = {one["name"]: one["feasibleSpace"] for one in spec["parameters"]}
    assert len(parameters) == len(space.choices)
    trial = spec["trialTemplate"]
    keys = {one["reference"]: one["description"] for one in trial["trialParameters"]}
    assert set(keys) == set(parameters)
    assert set(keys.values()) == set(space.choices)
    if sampler == "grid":
        points = 1
        for each in parameters.values():
            points *= len(each["list"])
        assert points == len(list(space.grid()))
    base = load(tmp_path / "pipeline.yaml")
    for name, each in parameters.items():  # what a trial is given is what pipeline.yaml takes
        for text in each.get("list") or (each["min"], each["max"]):
            assert '"' not in text
            with_settings(base, {keys[name]: yaml.safe_load(text)})
    pod = trial["trialSpec"]["spec"]["template"]["spec"]
    assert_contained(pod)
    assert pod["containers"][0]["command"][-1] == "mews.kubeflow.trial"


def test_a_pruner_that_katib_does_not_have_is_refused(tmp_path: Path) -> None:
    code, said, _ = compiled(tmp_path, "--to=katib", config={"tune": {"pruner": "hyperband"}})
    assert code == 2
    assert "median or none" in said


def test_a_tfjob_runs_what_the_chart_runs(tmp_path: Path) -> None:
    found = made(tmp_path, "--to=tfjob", values={"workers": 4, "run": "/work/runs/GENERATION"})
    for version in KUBERNETES:
        check(found, version)
    for pod in pods([found]):
        assert_contained(pod)
    (chart,) = rendering.tfjobs(
        rendering.objects_of("mews-pipeline", rendering.examples("mews-pipeline")["values-distributed"])
    )
    workers = [one["spec"]["tfReplicaSpecs"]["Worker"] for one in (found, chart)]
    first, second = (one["template"]["spec"]["containers"][0] for one in workers)
    assert [one["replicas"] for one in workers] == [4, 4]
    for key in ("name", "command", "args", "ports"):
        assert first[key] == second[key]


def test_a_step_takes_its_artifacts_and_leaves_its_own(features: Path, tmp_path: Path) -> None:
    """As a store keeps them: contents, not times. The next step finds done what this one did."""
    assert {path.name for path in features.iterdir()} == {"data", "features", ".stages"}
    told = json.loads((features.parent / "executor_output.json").read_text())
    assert told["artifacts"]["features"]["artifacts"][0]["uri"] == str(features)
    stored, run = tmp_path / "stored", tmp_path / "run"
    shutil.copytree(features, stored, copy_function=shutil.copyfile)
    step._lay(run, STEPS["train"], {"features": stored})
    stages = ("data", "validate", "split", "fit", "transform")
    assert [name for name in stages if cache.read(run / ".stages", name, run) is None] == []


def test_the_verdict_is_the_threshold_and_the_best_baseline() -> None:
    baselines = {"popularity": {"auc": 0.6}, "chance": {"auc": 0.5}}
    assert step.verdict({"auc": 0.7, "baselines": baselines}, 0.65) == "promote"
    assert step.verdict({"auc": 0.7, "baselines": baselines}, 0.75) == "stop"
    assert step.verdict({"auc": 0.6, "baselines": baselines}, 0.5) == "stop"


@contextmanager
def api_server(states: list[str], failed: bool = False) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """An API server that has TFJobs; each look at a running one takes the next of `states`. Yields it and its log."""
    log: list[tuple[str, str]] = []
    jobs: dict[str, str] = {"week-1": "Failed"} if failed else {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_GET(self) -> None:
            log.append(("GET", self.path))
            name = self.path.rpartition("/")[2]
            if name not in jobs:
                return self.answer(404, {})
            if jobs[name] == "Running" and states:
                jobs[name] = states.pop(0)
            told = [{"type": jobs[name], "status": "True", "message": f"it is {jobs[name]}"}]
            return self.answer(200, {"status": {"conditions": told}})

        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            log.append(("POST", self.headers["Authorization"]))
            name = job["metadata"]["name"]
            if name in jobs:
                return self.answer(409, {})
            jobs[name] = "Running"
            return self.answer(201, job)

        def do_DELETE(self) -> None:
            log.append(("DELETE", self.path))
            jobs.pop(self.path.rpartition("/")[2], None)
            self.answer(200, {})

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", log
        server.shutdown()


def launched(folder: Path, url: str) -> int:
    """Start the chart's own TFJob, as its container does."""
    values = rendering.examples("mews-pipeline")["values-distributed"]
    (job,) = rendering.tfjobs(rendering.objects_of("mews-pipeline", values))
    (folder / "tfjob.json").write_text(json.dumps(job))
    (folder / "token").write_text("secret\n")
    (folder / "namespace").write_text("rec")
    options = ["--generation=week-1", f"--runs={folder}", f"--server={url}", f"--account={folder}", "--seconds=20"]
    return launch.main([str(folder / "tfjob.json"), *options], pause=0.01)


@pytest.mark.parametrize(("state", "code"), [("Succeeded", 0), ("Failed", 1)])
def test_a_tfjob_is_started_and_waited_for(tmp_path: Path, state: str, code: int) -> None:
    with api_server(["Running", state]) as (url, log):
        assert launched(tmp_path, url) == code
    assert [method for method, _ in log] == ["GET", "POST", "GET", "GET"]
    assert log[1] == ("POST", "Bearer secret")
    assert log[0][1] == "/apis/kubeflow.org/v1/namespaces/rec/tfjobs/week-1"


def test_a_tfjob_that_failed_is_started_once_more(tmp_path: Path) -> None:
    with api_server(["Succeeded"], failed=True) as (url, log):
        assert launched(tmp_path, url) == 0
    assert [method for method, _ in log] == ["GET", "DELETE", "GET", "POST", "GET"]


def test_a_generation_that_was_released_is_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "week-1").mkdir()
    (tmp_path / "week-1" / "release.json").write_text("{}")
    assert launched(tmp_path, "http://127.0.0.1:9") == 0
    assert "released already" in capsys.readouterr().out


def test_an_api_server_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launched(tmp_path, "http://127.0.0.1:9") == 1
    assert "API server" in capsys.readouterr().out


def test_the_setting_of_a_trial_is_a_key_and_a_value() -> None:
    from mews.kubeflow import trial

    assert trial._setting("model={embedding_dim: 8, bottom: [64, 8]}") == (
        "model",
        {"embedding_dim": 8, "bottom": [64, 8]},
    )
    with pytest.raises(ConfigError):
        trial._setting("model.epochs")
    assert trial.main(["nowhere", "model.epochs"]) == 2
