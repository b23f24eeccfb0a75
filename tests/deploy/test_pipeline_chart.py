"""The chart that makes the models: jobs, the retraining, and what they may do, as Helm renders them."""

from __future__ import annotations

import copy
from typing import Any

import helm_python
import pytest
import yaml

from tests.deploy import rendering
from tests.deploy.rendering import KUBERNETES, Object, Values, assert_contained, check, containers, of_kind, pods

NAME = "mews-pipeline"
_SERVER = {"networkPolicy": {"apiServer": {"cidr": "10.96.0.1/32"}}}
MATRIX: dict[str, Values] = {
    **rendering.examples(NAME),
    "defaults": {},
    "no retraining": {"retrain": {"enabled": False}},
    "retraining only": {"first": {"enabled": False}, "retrain": {"suspend": True}},
    "dask on CPUs": {"etl": {"kind": "dask", "gpu": {"enabled": False}}},
    "workers on CPUs": {"train": {"kind": "tfjob", "gpu": {"enabled": False}}, **_SERVER},
    "a slice of a GPU": {"train": {"gpu": {"resource": "nvidia.com/mig-1g.10gb"}}},
    "an own config": {"pipelineConfigMap": "shop-pipeline", "networkPolicy": {"enabled": False}},
    "pinned": {"etl": {"image": {"tag": "sha256:" + "a" * 64}}, "podAnnotations": {"a": "b"}},
}


def render(values: Values, **options: Any) -> list[Object]:
    return rendering.objects_of(NAME, values, **options)


def generations(objects: list[Object]) -> list[Object]:
    """The specs of the jobs: of the first model, and of the schedule."""
    return [
        *(made["spec"] for made in of_kind(objects, "Job")),
        *(made["spec"]["jobTemplate"]["spec"] for made in of_kind(objects, "CronJob")),
    ]


def steps(job: Object) -> dict[str, Object]:
    return {each["name"]: each for each in containers(job["template"]["spec"])}


@pytest.mark.parametrize("case", MATRIX)
def test_every_object_is_what_kubernetes_takes(case: str) -> None:
    report = helm_python.lint(rendering.HELM / NAME, MATRIX[case], strict=True, kube_version="v1.29.0")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []
    objects = render(MATRIX[case])
    assert {"Job", "CronJob"} & {made["kind"] for made in objects}
    for made in (*objects, *rendering.tfjobs(objects)):
        for version in KUBERNETES:
            check(made, version)


@pytest.mark.parametrize("case", MATRIX)
def test_no_pod_may_do_more_than_it_needs(case: str) -> None:
    objects = render(MATRIX[case])
    for pod in pods(objects):
        assert_contained(pod)
        for container in containers(pod):
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert mounts["config"]["readOnly"]
            assert mounts.get("data", {}).get("readOnly", True)
            sees = "token" in mounts
            assert sees == (container["command"][-1] == "mews.kubeflow.launch" if "command" in container else False)
    assert of_kind(objects, "ClusterRole", "ClusterRoleBinding", "Secret") == []
    distributed = MATRIX[case].get("train", {}).get("kind") == "tfjob"
    assert [role["rules"] for role in of_kind(objects, "Role")] == (
        [[{"apiGroups": ["kubeflow.org"], "resources": ["tfjobs"], "verbs": ["create", "get", "delete"]}]]
        if distributed
        else []
    )


@pytest.mark.parametrize("case", MATRIX)
def test_a_generation_ends_and_can_be_tried_again(case: str) -> None:
    for job in generations(render(MATRIX[case])):
        assert job["backoffLimit"] == 3
        assert job["activeDeadlineSeconds"] == 43200
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        assert job["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [3]
        made = steps(job)
        assert list(made) == ["features", "train", "release"]
        assert made["features"]["command"] == ["mews", "pipeline", "update"]
        assert made["release"]["command"] == ["mews", "pipeline", "release"]
        runs = {argument for each in made.values() for argument in each["args"] if "GENERATION" in argument}
        assert runs <= {"--run=/work/runs/$(GENERATION)", "--generation=$(GENERATION)"}
    for schedule in of_kind(render(MATRIX[case]), "CronJob"):
        assert schedule["spec"]["concurrencyPolicy"] == "Forbid"


def test_tries_of_one_scheduled_time_share_a_run_folder_and_the_next_has_its_own() -> None:
    first, retrain = generations(render(MATRIX["values-gpu-prod"]))
    for name in ("features", "train", "release"):
        (told,) = [each for each in steps(first)[name]["env"] if each["name"] == "GENERATION"]
        assert told["value"] == "first"
        (told,) = [each for each in steps(retrain)[name]["env"] if each["name"] == "GENERATION"]
        assert told["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"
    assert "--champion=/work/champion" not in steps(first)["features"]["args"]
    assert "--champion=/work/champion" in steps(retrain)["features"]["args"]
    assert "--set=data.path=/data/new" in steps(retrain)["features"]["args"]
    assert "--wait=1800" in steps(retrain)["release"]["args"]


def test_gpus_are_asked_for_where_they_are_used() -> None:
    first, job = generations(render(MATRIX["a slice of a GPU"]))
    limits = {name: each["resources"]["limits"] for name, each in steps(job).items()}
    assert limits["features"]["nvidia.com/gpu"] == 1
    assert limits["train"]["nvidia.com/mig-1g.10gb"] == 1
    assert not any("nvidia" in key for key in limits["release"])
    assert job["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert len(job["template"]["spec"]["tolerations"]) == 1
    # The first model is fitted where NVTabular is.
    assert steps(first)["features"]["image"] == steps(first)["release"]["image"] == "mews-cpu:0.1.0"
    assert not any("nvidia" in key for key in steps(first)["features"]["resources"]["limits"])
    assert steps(job)["features"]["image"] == "mews-etl-gpu:0.1.0"
    _, plain = generations(render(MATRIX["values-cpu-minimal"]))
    assert "nodeSelector" not in plain["template"]["spec"]
    assert "--set=features.engine=gpu" not in steps(plain)["features"]["args"]


def test_workers_train_where_the_generation_lies() -> None:
    objects = render(MATRIX["values-distributed"])
    (job,) = rendering.tfjobs(objects)
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    assert (worker["replicas"], container["name"]) == (4, "tensorflow")
    assert container["command"] == ["python3", "-m", "training.worker"]
    assert container["args"] == ["/work/runs/GENERATION/config.yaml"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    for generation in generations(objects):
        launch = steps(generation)["train"]
        assert launch["command"] == ["python3", "-m", "mews.kubeflow.launch"]
        assert "nvidia.com/gpu" not in launch["resources"]["limits"]
        (token,) = [each for each in generation["template"]["spec"]["volumes"] if each["name"] == "token"]
        assert token["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600


def test_a_dask_cluster_is_what_fit_is_told_of() -> None:
    objects = render(MATRIX["values-distributed"])
    (cluster,) = of_kind(objects, "DaskCluster")
    (worker,) = cluster["spec"]["worker"]["spec"]["containers"]
    assert (cluster["spec"]["worker"]["replicas"], worker["args"][:3]) == (4, ["dask", "cuda", "worker"])
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    address = f"tcp://{cluster['metadata']['name']}-scheduler.rec.svc:8786"
    first, retrain = generations(objects)
    assert f"--set=features.scheduler={address}" in steps(retrain)["features"]["args"]
    assert not any("scheduler" in argument for argument in steps(first)["features"]["args"])
    (plain,) = of_kind(render(MATRIX["dask on CPUs"]), "DaskCluster")
    assert plain["spec"]["worker"]["spec"]["containers"][0]["args"][:2] == ["dask", "worker"]


def test_the_pods_reach_the_server_and_each_other_only() -> None:
    policies = of_kind(render(MATRIX["values-distributed"]), "NetworkPolicy")
    assert len(policies) == 2
    for policy in policies:
        peers = policy["spec"]["ingress"][0]["from"]
        assert all("podSelector" in peer and "namespaceSelector" not in peer for peer in peers)
        assert all(rule["to"] for rule in policy["spec"]["egress"])
    blocks = [
        to for policy in of_kind(render({}), "NetworkPolicy") for to in policy["spec"]["egress"] if "ipBlock" in to
    ]
    assert blocks == []


def test_the_config_is_one_that_mews_takes() -> None:
    from mews.config import checked

    for case, values in MATRIX.items():
        for made in of_kind(render(values), "ConfigMap"):
            if "pipeline.yaml" in made["data"]:
                config = checked(yaml.safe_load(made["data"]["pipeline.yaml"]), case)
                assert config.registry.uri is not None
                assert "work/runs/" not in config.registry.uri


def test_an_upgrade_changes_no_field_that_cannot_change() -> None:
    """A Job's template cannot change: what would change it is a Job of another name."""
    before = render({})
    for case, values in MATRIX.items():
        after = render(values, is_upgrade=True, revision=2)
        jobs = [{made["metadata"]["name"]: made["spec"] for made in of_kind(all_, "Job")} for all_ in (before, after)]
        for name in jobs[0].keys() & jobs[1].keys():
            old, new = (copy.deepcopy(found[name]) for found in jobs)
            assert old == new, case
        roles = [
            {made["metadata"]["name"]: made["roleRef"] for made in of_kind(all_, "RoleBinding")} for all_ in (after,)
        ]
        assert all(role == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
                   for found in roles for name, role in found.items())  # fmt: skip
    changed = render({"release": {"canary": {"share": 0.2}}}, is_upgrade=True, revision=2)
    assert {one["metadata"]["name"] for one in of_kind(changed, "Job")}.isdisjoint(
        one["metadata"]["name"] for one in of_kind(before, "Job")
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"trian": {}}, "trian"),
        ({"pipeline": {"modle": {}}}, "modle"),
        ({"pipeline": {"data": {}}, "pipelineConfigMap": "a"}, "pipelineConfigMap"),
        ({"train": {"kind": "mpi"}}, "kind"),
        ({"train": {"workers": 0}}, "workers"),
        ({"train": {"kind": "tfjob"}}, "networkPolicy.apiServer.cidr"),
        ({"train": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, "train.resources.*train.gpu"),
        ({"etl": {"resources": {"requests": {"cpu": "many"}}}}, "cpu"),
        ({"etl": {"image": {"tag": "latest"}}}, "tag"),
        ({"retrain": {"schedule": "every night"}}, "schedule"),
        ({"retrain": {"set": ["model.epochs"]}}, "set"),
        ({"retrain": {"enabled": False}, "first": {"enabled": False}}, "nothing to do"),
        ({"release": {"canary": {"share": 1.5}}}, "share"),
        ({"release": {"canary": {"seconds": 50000}}}, "release.canary.seconds"),
        ({"release": {"tritonUrl": "http://shop:8000"}}, "tritonUrl"),
        ({"jobs": {"deadlineSeconds": 0}}, "deadlineSeconds"),
        ({"first": {"name": "../first"}}, "name"),
        ({"security": {"runAsUser": 0}}, "runAsUser"),
        ({"storage": {"runs": ""}}, "runs"),
    ],
)
def test_what_cannot_work_is_refused_before_it_reaches_the_cluster(values: Values, says: str) -> None:
    with pytest.raises(helm_python.HelmError, match=says):
        render(values)


def test_the_readme_is_the_values() -> None:
    document = rendering.document()
    folder = rendering.HELM / NAME
    values = (folder / "values.yaml").read_text()
    assert (folder / "README.md").read_text() == document.document(values, NAME)
    told = document.comments(values)
    assert [path for path, _ in document.leaves(yaml.safe_load(values), told) if not told[path]] == []


def test_the_notes_say_what_to_do_next() -> None:
    (notes,) = [text for name, text in rendering.texts(NAME, {}).items() if "NOTES" in name]
    for said in (
        "get jobs",
        "logs --follow",
        "create job --from=cronjob/shop-mews-pipeline",
        "release.tritonUrl is empty",
    ):
        assert said in notes
