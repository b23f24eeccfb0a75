"""A TFJob of Kubeflow's training operator: the workers that training/worker.py is."""

from __future__ import annotations

from typing import Any

from mews.kubeflow.pods import labels, template
from mews.kubeflow.values import KubeflowValues

_DAY = 86400


def tfjob(values: KubeflowValues) -> dict[str, Any]:
    """Return the manifest: workers that train on the features of the run folder, and write the model there."""
    ports = [{"name": "tfjob-port", "containerPort": 2222}]
    command, args = ["python3", "-m", "training.worker"], [f"{values.run}/config.yaml"]
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"name": values.name, "namespace": values.namespace, "labels": labels(values)},
        "spec": {
            "runPolicy": {
                "cleanPodPolicy": "All",
                "backoffLimit": values.retries,
                "activeDeadlineSeconds": _DAY,
                "ttlSecondsAfterFinished": 7 * _DAY,
            },
            "tfReplicaSpecs": {
                "Worker": {
                    "replicas": values.workers,
                    "restartPolicy": "OnFailure",
                    "template": template(values, "tensorflow", command, args, ports=ports),
                }
            },
        },
    }
