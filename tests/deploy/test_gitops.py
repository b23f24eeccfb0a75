"""What Argo CD is told: kustomize's overlays, rendered by kubectl, and the charts with the values that they name."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy import rendering
from tests.deploy.rendering import HELM, KUBERNETES, Object, check, of_kind

GITOPS = HELM.parent / "gitops"
OVERLAYS = ("dev", "prod")
pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@cache
def build(overlay: str) -> list[Object]:
    command = ["kubectl", "kustomize", str(GITOPS / "overlays" / overlay)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [each for each in yaml.safe_load_all(made.stdout) if each]


def wave(made: Object) -> int:
    return int(made["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])


def releases(overlay: str) -> dict[str, tuple[str, dict[str, Any], Object]]:
    """Chart, values and Application of every release that the overlay brings."""
    found = {}
    for made in of_kind(build(overlay), "Application"):
        source, values = made["spec"]["source"], {}
        for file in source["helm"]["valueFiles"]:
            path = (HELM / Path(source["path"]).name / file).resolve()
            assert path.is_relative_to(GITOPS / "overlays" / overlay)
            values = _merged(values, yaml.safe_load(path.read_text()))
        found[source["helm"]["releaseName"]] = (Path(source["path"]).name, values, made)
    return found


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(low[key], value) if isinstance(low.get(key), dict) and isinstance(value, dict) else value
            for key, value in high.items()}  # fmt: skip
    return {**low, **both}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_what_its_server_takes(overlay: str) -> None:
    objects = build(overlay)
    for made in (*objects, yaml.safe_load((GITOPS / "root.yaml").read_text())):
        for version in KUBERNETES:
            check(made, version)
    assert of_kind(objects, "ConfigMap") == []  # the settings stay here
    text = yaml.safe_dump_all(objects)
    assert not [word for word in ("REPOSITORY", "REVISION", "NAMESPACE") if word in text]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_project_allows_what_the_charts_make_and_no_more(overlay: str) -> None:
    (project,) = of_kind(build(overlay), "AppProject")
    assert project["spec"]["clusterResourceWhitelist"] == []
    allowed = {(each["group"], each["kind"]) for each in project["spec"]["namespaceResourceWhitelist"]}
    (place,) = project["spec"]["destinations"]
    for chart, values, application in releases(overlay).values():
        assert application["spec"]["destination"] == place
        assert application["spec"]["source"]["repoURL"] in project["spec"]["sourceRepos"]
        for made in rendering.objects_of(chart, values, release=application["spec"]["source"]["helm"]["releaseName"]):
            group, _, _ = made["apiVersion"].rpartition("/")
            assert (group, made["kind"]) in allowed
            check(made, KUBERNETES[-1])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_order_is_storage_models_canary_serving(overlay: str) -> None:
    objects = build(overlay)
    order = {made["metadata"]["name"]: wave(made) for made in objects}
    assert order["mews"] < order["mews-runs"] == order["mews-models"] - 1 < order["mews-serving"]
    for claim in of_kind(objects, "PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
        assert claim["metadata"]["namespace"] == f"mews-{overlay}"
    if overlay == "prod":
        assert order["mews-models"] < order["mews-canary"] < order["mews-serving"]


def test_prod_is_pinned_and_its_canary_gets_the_share_that_the_route_says() -> None:
    found = releases("prod")
    assert {made["spec"]["source"]["targetRevision"] for _, _, made in found.values()} == {"v0.1.0"}
    assert set(found) == {"models", "next", "shop"}
    canary = rendering.objects_of("mews", found["next"][1], release="next")
    (service,) = [made["metadata"]["name"] for made in of_kind(canary, "Service") if "clusterIP" not in made["spec"]]
    stable = rendering.objects_of("mews", found["shop"][1], release="shop")
    for route in of_kind(stable, "HTTPRoute", "GRPCRoute"):
        shares = {each["name"]: each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]}
        assert shares == {"shop-mews": 95, service: 5}
    assert set(releases("dev")) == {"models", "shop"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_models_are_made_where_they_are_served(overlay: str) -> None:
    found = releases(overlay)
    serving = rendering.objects_of("mews", found["shop"][1], release="shop")
    making = rendering.objects_of("mews-pipeline", found["models"][1], release="models")
    (url,) = {
        argument.partition("=")[2]
        for pod in rendering.pods(making)
        for each in rendering.containers(pod)
        for argument in each.get("args", [])
        if argument.startswith("--triton-url=")
    }
    services = [made["metadata"]["name"] for made in of_kind(serving, "Service") if "clusterIP" in made["spec"]]
    assert url in [f"{name}.mews-{overlay}.svc:8000" for name in services]
    claims = [
        {volume["persistentVolumeClaim"]["claimName"] for pod in rendering.pods(objects)
         for volume in pod.get("volumes", []) if volume["name"] == "models"}
        for objects in (serving, making)
    ]  # fmt: skip
    assert claims[0] == claims[1] == {"mews-models"}


def test_a_kind_that_argo_does_not_have_is_refused() -> None:
    (project,) = of_kind(build("dev"), "AppProject")
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check({**project, "kind": "AppProjects"}, KUBERNETES[-1])
