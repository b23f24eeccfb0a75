"""The chart, rendered by Helm itself: what a cluster would get, and what is refused before it gets anything."""

from __future__ import annotations

from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy import rendering
from tests.deploy.rendering import KUBERNETES, Object, Values, assert_contained, check, of_kind, pods

CHART = rendering.HELM / "mews"

MATRIX: dict[str, Values] = {
    **rendering.examples("mews"),
    "defaults": {},
    "a slice of a GPU": {"gpu": {"enabled": True, "resource": "nvidia.com/mig-1g.10gb"}},
    "gcs": {"repository": {"source": "bucket", "bucket": {"url": "gs://models/shop"}}, "model": {"version": 3}},
    "a folder of a claim": {"repository": {"pvc": {"claim": "data", "subPath": "runs/demo/repository"}}},
    "unverified": {"verify": {"enabled": False}},
    "keda": {"autoscaling": {"kind": "keda", "queueMicroseconds": 500, "cpuPercent": 60}},
    "canary": {
        "route": {
            "enabled": True,
            "gateway": {"name": "public", "namespace": "gateways"},
            "hostnames": ["shop.example.com"],
            "canary": {"service": "next-mews", "percent": 10},
        }
    },
    "pods are scraped": {"monitoring": {"monitor": "pod"}},
    "pinned": {"image": {"tag": "sha256:" + "a" * 64}},
    "a request": {"test": {"request": '{"inputs": []}'}},
    "no policy": {"networkPolicy": {"enabled": False}},
}


def render(values: Values, release: str = "shop", **options: Any) -> list[Object]:
    return rendering.objects_of("mews", values, release, **options)


def server(objects: list[Object], number: int = 0) -> Object:
    return next(each for each in pods(objects)[number]["containers"] if each["name"] == "triton")


@pytest.mark.parametrize("case", MATRIX)
def test_every_object_is_what_kubernetes_takes(case: str) -> None:
    report = helm_python.lint(CHART, MATRIX[case], strict=True, kube_version="v1.29.0")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []
    objects = render(MATRIX[case])
    assert {"Deployment", "Service", "PodDisruptionBudget", "Pod"} <= {made["kind"] for made in objects}
    for made in objects:
        for version in KUBERNETES:
            check(made, version)


def test_a_kind_or_a_field_that_nobody_knows_is_not_let_through() -> None:
    (budget,) = of_kind(render({}), "PodDisruptionBudget")
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check({**budget, "kind": "PodDisruptionBudgets"}, "1.37")
    with pytest.raises(kubernetes_validate.ValidationError):
        check({**budget, "spec": {**budget["spec"], "maxUnavailabel": 1}}, "1.37")
    (monitor,) = of_kind(render(MATRIX["values-gpu-prod"]), "ServiceMonitor")
    with pytest.raises(jsonschema.ValidationError):
        check({**monitor, "spec": {**monitor["spec"], "endpoint": []}}, "1.37")


@pytest.mark.parametrize("case", MATRIX)
def test_no_container_may_do_more_than_it_needs(case: str) -> None:
    objects = render(MATRIX[case])
    for pod in pods(objects):
        assert_contained(pod)
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert of_kind(objects, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret") == []


@pytest.mark.parametrize("case", MATRIX)
def test_a_rollout_and_a_drain_lose_no_request(case: str) -> None:
    objects = render(MATRIX[case])
    budgets = [made["spec"]["selector"]["matchLabels"] for made in of_kind(objects, "PodDisruptionBudget")]
    for deployment in of_kind(objects, "Deployment"):
        spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert spec["selector"]["matchLabels"] in budgets
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        (triton,) = pod["containers"]
        drain = int(triton["lifecycle"]["preStop"]["exec"]["command"][1])
        (leave,) = [int(one.partition("=")[2]) for one in triton["args"] if one.startswith("--exit-timeout-secs=")]
        assert pod["terminationGracePeriodSeconds"] > drain + leave
        assert pod["topologySpreadConstraints"]
        assert triton["readinessProbe"]["httpGet"]["path"].endswith("/ready")
        assert triton["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
        assert "--model-control-mode=explicit" in triton["args"]
        assert {port["name"]: port["containerPort"] for port in triton["ports"]} == {
            "http": 8000,
            "grpc": 8001,
            "metrics": 8002,
        }


def test_a_gpu_is_asked_for_and_its_nodes_are_borne() -> None:
    objects = render(MATRIX["values-gpu-prod"])
    assert server(objects)["resources"]["limits"]["nvidia.com/gpu"] == 1
    pod = pods(objects)[0]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu"]
    (shared,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert not any("gpu" in key for key in server(render({}))["resources"]["limits"])
    sliced = server(render(MATRIX["a slice of a GPU"]))["resources"]
    assert sliced["limits"]["nvidia.com/mig-1g.10gb"] == sliced["requests"]["nvidia.com/mig-1g.10gb"] == 1


def test_a_version_is_fetched_and_verified_before_it_serves() -> None:
    fetch, verify = pods(render(MATRIX["values-gpu-prod"]))[0]["initContainers"]
    assert fetch["args"] == ["copy", "--checksum", ":s3,env_auth:models/shop", "/models"]
    assert verify["command"] == ["mews", "verify"]
    assert verify["args"] == ["/models/shop/17", "--key=/keys/deploy.pub"]
    mounts = {mount["name"]: mount for mount in verify["volumeMounts"]}
    assert mounts["models"]["readOnly"]
    assert mounts["keys"]["readOnly"]
    copied = pods(render(MATRIX["values-split"]))[0]["initContainers"][0]
    assert copied["image"] == "registry.example.com/shop-models:17"
    (in_place,) = pods(render({}))[0]["initContainers"]
    assert in_place["args"] == ["/models/mews"]
    assert "initContainers" not in pods(render(MATRIX["unverified"]))[0]
    mounted = {mount["name"]: mount for mount in server(render(MATRIX["a folder of a claim"]))["volumeMounts"]}
    assert mounted["models"]["subPath"] == "runs/demo/repository"


def test_parts_of_a_split_scale_on_their_own() -> None:
    objects = render(MATRIX["values-split"])
    deployments = {made["metadata"]["name"]: made["spec"] for made in of_kind(objects, "Deployment")}
    assert set(deployments) == {"shop-mews", "shop-mews-users", "shop-mews-items"}
    assert "replicas" not in deployments["shop-mews"]  # the autoscaler's
    assert "replicas" not in deployments["shop-mews-users"]
    assert deployments["shop-mews-items"]["replicas"] == 1
    scalers = {
        made["spec"]["scaleTargetRef"]["name"]: made["spec"] for made in of_kind(objects, "HorizontalPodAutoscaler")
    }
    assert {name: (one["minReplicas"], one["maxReplicas"]) for name, one in scalers.items()} == {
        "shop-mews": (2, 6),
        "shop-mews-users": (4, 12),
    }
    loads = {
        name: [one for one in spec["template"]["spec"]["containers"][0]["args"] if one.startswith("--load-model")]
        for name, spec in deployments.items()
    }
    assert loads["shop-mews-items"] == ["--load-model=shop_item_17"]
    limits = deployments["shop-mews-items"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    services = {made["metadata"]["name"]: made["spec"]["selector"] for made in of_kind(objects, "Service")}
    assert services.pop("shop-mews-pods") == services["shop-mews"]
    assert {name: spec["selector"]["matchLabels"] for name, spec in deployments.items()} == services


def test_only_named_callers_get_in() -> None:
    (policy,) = of_kind(render(MATRIX["values-gpu-prod"]), "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    callers, scrapers = policy["spec"]["ingress"]
    named = [each["namespaceSelector"]["matchLabels"] for each in callers["from"] if "namespaceSelector" in each]
    assert {"kubernetes.io/metadata.name": "shop"} in named
    assert [port["port"] for port in scrapers["ports"]] == ["metrics"]
    assert all(rule["from"] for rule in policy["spec"]["ingress"])
    assert of_kind(render(MATRIX["no policy"]), "NetworkPolicy") == []


def test_a_canary_gets_its_share_over_both_protocols() -> None:
    routes = of_kind(render(MATRIX["canary"]), "HTTPRoute", "GRPCRoute")
    for route, port in zip(sorted(routes, key=lambda made: made["kind"]), (8001, 8000), strict=True):
        shares = {each["name"]: (each["port"], each["weight"]) for each in route["spec"]["rules"][0]["backendRefs"]}
        assert shares == {"shop-mews": (port, 90), "next-mews": (port, 10)}


def test_autoscaling_looks_at_what_it_is_told() -> None:
    (scaler,) = of_kind(render(MATRIX["values-gpu-prod"]), "HorizontalPodAutoscaler")
    seen = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]}
    adapter = yaml.safe_load((CHART.parent / "prometheus-adapter.yaml").read_text())
    assert seen == {rule["name"]["as"] for rule in adapter["rules"]["custom"]}
    (scaled,) = of_kind(render(MATRIX["keda"]), "ScaledObject")
    assert [trigger["type"] for trigger in scaled["spec"]["triggers"]] == ["cpu", "prometheus"]


def test_an_upgrade_changes_no_field_that_cannot_change() -> None:
    """Selectors of Deployments and the addresses' service types stay, whatever values and versions do."""
    for case, values in MATRIX.items():
        before, after = render(MATRIX["defaults"]), render(values, is_upgrade=True, revision=2)
        selectors = [
            {made["metadata"]["name"]: made["spec"]["selector"] for made in of_kind(objects, "Deployment")}
            for objects in (before, after)
        ]
        assert selectors[0].items() <= selectors[1].items(), case
    labels = of_kind(render({}), "Deployment")[0]["spec"]["selector"]["matchLabels"]
    assert labels == {
        "app.kubernetes.io/name": "mews",
        "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/component": "serve",
    }


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": -1}, "replicas"),
        ({"autoscaling": {"kind": "hpa", "cpuPercent": 140}}, "cpuPercent"),
        ({"service": {"http": 70000}}, "http"),
        ({"repository": {"source": "ftp"}}, "source"),
        ({"repository": {"pvc": {"claim": "a", "subPath": "../../etc"}}}, "subPath"),
        ({"model": {"name": "../shop"}}, "name"),
        ({"security": {"runAsUser": 0}}, "runAsUser"),
        ({"networkPolicy": {"callers": []}}, "callers"),
        ({"repository": {"source": "bucket"}}, "repository.bucket.url"),
        ({"repository": {"source": "image"}}, "repository.image.reference"),
        ({"repository": {"source": "image", "image": {"reference": "a:1"}}}, "model.version"),
        ({"repository": {"pvc": {"claim": ""}}}, "repository.pvc.claim"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
        ({"ingress": {"enabled": True, "host": "a", "grpcHost": "b"}}, "ingress.tlsSecret"),
        ({"route": {"enabled": True}}, "route.gateway.name"),
        ({"autoscaling": {"kind": "hpa", "minReplicas": 9, "maxReplicas": 3}}, "autoscaling.minReplicas"),
        ({"autoscaling": {"kind": "hpa", "gpuPercent": 80}}, "autoscaling.gpuPercent"),
        ({"autoscaling": {"kind": "hpa", "cpuPercent": 0}}, "nothing to look at"),
        (
            {"split": {"parts": {"a": {"models": ["a"], "autoscaling": {"kind": "hpa", "minReplicas": 99}}}}},
            "split.parts.a.autoscaling.minReplicas",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_it_reaches_the_cluster(values: Values, says: str) -> None:
    with pytest.raises(helm_python.HelmError, match=says):
        render(values)


def test_the_readme_is_the_values() -> None:
    document = rendering.document()
    values = (CHART / "values.yaml").read_text()
    assert (CHART / "README.md").read_text() == document.document(values)
    told = document.comments(values)
    untold = [path for path, _ in document.leaves(yaml.safe_load(values), told) if not told[path]]
    assert untold == []


def test_the_notes_say_what_to_do_next() -> None:
    (notes,) = [text for name, text in rendering.texts("mews", {}).items() if "NOTES" in name]
    for command in ("rollout status deployment/shop-mews", "helm test shop", "port-forward service/shop-mews"):
        assert command in notes
    assert "verify.secret" in notes


def test_the_rules_are_those_that_are_tested() -> None:
    folders = [CHART / "rules", CHART.parents[1] / "watch" / "rules"]
    ours, tested = ({path.name: path.read_text() for path in sorted(folder.glob("*.yml"))} for folder in folders)
    assert ours == tested, "cp docker/watch/rules/*.yml docker/helm/mews/rules/"
    (made,) = of_kind(render({"monitoring": {"rules": True}}), "PrometheusRule")
    groups = [group for text in tested.values() for group in yaml.safe_load(text)["groups"]]
    assert sorted(made["spec"]["groups"], key=str) == sorted(groups, key=str)
    assert of_kind(render({}), "PrometheusRule") == []
