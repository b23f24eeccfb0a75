"""The pod of a trial and of a worker: one container that may do nothing but its work."""

from __future__ import annotations

from typing import Any

from mews.kubeflow.values import KubeflowValues

_USER = 10001


def labels(values: KubeflowValues) -> dict[str, str]:
    """Labels of every object."""
    return {"app.kubernetes.io/name": "mews-pipeline", "app.kubernetes.io/instance": values.name}


def template(values: KubeflowValues, name: str, command: list[str], args: list[str], **more: Any) -> dict[str, Any]:
    """Return a pod template with one container `name` of the training's image; `more` are fields of the container."""
    asked = values.train
    gpus = {values.gpu_resource: asked.gpus} if asked.gpus else {}
    container = {
        "name": name,
        "image": asked.image,
        "command": command,
        "args": args,
        **more,
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "TMPDIR", "value": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": asked.cpu, "memory": asked.memory, **gpus},
            "limits": {"memory": asked.memory, **gpus},
        },
        "volumeMounts": [
            {"name": "work", "mountPath": "/work"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"tolerations": [{"key": values.gpu_resource, "operator": "Exists"}]} if gpus else {}),
        "containers": [container],
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": values.runs_claim}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "20Gi"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        ],
    }
    # A sidecar of a service mesh would keep the pod from ending.
    metadata = {"labels": labels(values), "annotations": {"sidecar.istio.io/inject": "false"}}
    return {"metadata": metadata, "spec": spec}
