"""What Helm makes of a chart, and what Kubernetes says to it."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import yaml

from tests.deploy.schemas import SCHEMAS

HELM = Path(__file__).resolve().parents[2] / "docker" / "helm"
KUBERNETES = ("1.29", "1.33", "1.37")
# It reads its files, of megabytes, again for every object.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
Values = dict[str, Any]
Object = dict[str, Any]


@cache
def chart(name: str) -> helm_python.Chart:
    return helm_python.Chart.load(HELM / name)


def texts(name: str, values: Values, release: str = "shop", **options: Any) -> dict[str, str]:
    rendered: dict[str, str] = chart(name).render(values, name=release, namespace="rec", **options)
    return rendered


def objects_of(name: str, values: Values, release: str = "shop", **options: Any) -> list[Object]:
    """The objects of the release, in the namespace rec."""
    rendered = texts(name, values, release, **options)
    manifests = [text for file, text in rendered.items() if not file.endswith((".txt", ".tpl"))]
    return [made for text in manifests for made in yaml.load_all(text, yaml.CSafeLoader) if made]


def examples(name: str) -> dict[str, Values]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((HELM / name).glob("examples/*.yaml"))}


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [made for made in objects if made["kind"] in kinds]


def pods(objects: list[Object]) -> list[Object]:
    """The specs of all pods that the objects lead to, those of custom kinds too."""
    return [
        *(made["spec"]["template"]["spec"] for made in of_kind(objects, "Deployment", "Job")),
        *(made["spec"]["jobTemplate"]["spec"]["template"]["spec"] for made in of_kind(objects, "CronJob")),
        *(made["spec"] for made in of_kind(objects, "Pod")),
        *(made["spec"][part]["spec"] for made in of_kind(objects, "DaskCluster") for part in ("worker", "scheduler")),
        *(
            replica["template"]["spec"]
            for made in (*of_kind(objects, "TFJob"), *tfjobs(objects))
            for replica in made["spec"]["tfReplicaSpecs"].values()
        ),
    ]


def tfjobs(objects: list[Object]) -> list[Object]:
    """TFJobs that lie in a ConfigMap until somebody starts them."""
    found = [made["data"].get("tfjob.json") for made in of_kind(objects, "ConfigMap")]
    return [json.loads(text) for text in found if text]


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def check(made: Object, version: str) -> None:
    """Raise for an object that this Kubernetes would refuse; a kind that nobody describes is refused too."""
    _check(json.dumps(made, sort_keys=True), version)


@cache
def _check(text: str, version: str) -> None:
    """The same object comes out of many values: what was found good once is not looked at again."""
    made = json.loads(text)
    if made["kind"] in SCHEMAS:
        jsonschema.validate(made, SCHEMAS[made["kind"]])
        for pod in pods([made]):
            bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "inner"}, "spec": pod}
            kubernetes_validate.validate(bare, version, strict=True)
    else:
        kubernetes_validate.validate(made, version, strict=True)


def assert_contained(pod: Object) -> None:
    """Nothing in the pod may do more than it needs."""
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume]
    for container in containers(pod):
        allowed = container["securityContext"]
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        assert (allowed["readOnlyRootFilesystem"], allowed["allowPrivilegeEscalation"]) == (True, False)
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert not container["image"].endswith((":latest", ":"))
        assert ":" in container["image"]


def document() -> ModuleType:
    """docker/helm/document.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("document", HELM / "document.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
