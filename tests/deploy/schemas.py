"""Schemas of custom kinds, written from their projects' documented fields: an unknown field is refused."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string", "minLength": 1}
_NUMBER = {"type": "integer"}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def _fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _kind(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    finalizers = {"type": "array", "items": _TEXT}
    metadata = _fields(("name",), name=_TEXT, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS, finalizers=finalizers)
    return _fields(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


def _many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


_SELECTOR = _fields(matchLabels=_TEXTS)
_ENDPOINTS = _many(_fields(("port",), port=_TEXT, interval=_TEXT, path=_TEXT))
_BACKENDS = _many(_fields(("name", "port"), name=_TEXT, port=_NUMBER, weight={"type": "integer", "minimum": 0}))
_ROUTE = _fields(
    ("parentRefs", "rules"),
    parentRefs=_many(_fields(("name",), name=_TEXT, namespace=_TEXT)),
    hostnames=_many(_TEXT),
    rules=_many(_fields(backendRefs=_BACKENDS)),
)
_TRIGGER = _fields(("type", "metadata"), type={"enum": ["cpu", "prometheus"]}, metricType=_TEXT, metadata=_TEXTS)

_POD = {"type": "object", "required": ["containers"]}  # checked as a pod of Kubernetes, by `rendering.check`
_TEMPLATE = _fields(("spec",), metadata=_fields(labels=_TEXTS, annotations=_TEXTS), spec=_POD)
_REPLICA = _fields(
    ("replicas", "template"),
    replicas={"type": "integer", "minimum": 1},
    restartPolicy={"enum": ["Always", "OnFailure", "Never", "ExitCode"]},
    template=_TEMPLATE,
)
_TFJOB = _kind(
    "kubeflow.org/v1",
    "TFJob",
    _fields(
        ("tfReplicaSpecs",),
        runPolicy=_fields(
            cleanPodPolicy={"enum": ["None", "Running", "All"]},
            backoffLimit=_NUMBER,
            activeDeadlineSeconds=_NUMBER,
            ttlSecondsAfterFinished=_NUMBER,
            suspend={"type": "boolean"},
        ),
        tfReplicaSpecs=_fields(Chief=_REPLICA, Worker=_REPLICA, PS=_REPLICA, Evaluator=_REPLICA),
    ),
)
_DASK = _kind(
    "kubernetes.dask.org/v1",
    "DaskCluster",
    _fields(
        ("worker", "scheduler"),
        idleTimeout=_NUMBER,
        worker=_fields(("replicas", "spec"), replicas=_NUMBER, spec=_POD),
        scheduler=_fields(
            ("spec", "service"), spec=_POD, service={"type": "object", "required": ["selector", "ports"]}
        ),
    ),
)
_PARAMETER = _fields(
    ("name", "parameterType", "feasibleSpace"),
    name=_TEXT,
    parameterType={"enum": ["double", "int", "discrete", "categorical"]},
    feasibleSpace={
        "oneOf": [
            _fields(("list",), list=_many(_TEXT)),
            _fields(
                ("min", "max"),
                min=_TEXT,
                max=_TEXT,
                step=_TEXT,
                distribution={"enum": ["uniform", "logUniform", "normal", "logNormal"]},
            ),
        ]
    },
)
_SETTINGS = _many(_fields(("name", "value"), name=_TEXT, value=_TEXT))
_EXPERIMENT = _kind(
    "kubeflow.org/v1beta1",
    "Experiment",
    _fields(
        ("objective", "algorithm", "parameters", "trialTemplate"),
        objective=_fields(
            ("type", "objectiveMetricName"),
            type={"enum": ["minimize", "maximize"]},
            goal={"type": "number"},
            objectiveMetricName=_TEXT,
            additionalMetricNames=_many(_TEXT),
        ),
        algorithm=_fields(
            ("algorithmName",),
            algorithmName={"enum": ["random", "grid", "tpe", "bayesianoptimization", "hyperband", "cmaes", "sobol"]},
            algorithmSettings=_SETTINGS,
        ),
        earlyStopping=_fields(("algorithmName",), algorithmName={"enum": ["medianstop"]}, algorithmSettings=_SETTINGS),
        parallelTrialCount={"type": "integer", "minimum": 1},
        maxTrialCount={"type": "integer", "minimum": 1},
        maxFailedTrialCount={"type": "integer", "minimum": 0},
        resumePolicy={"enum": ["Never", "LongRunning", "FromVolume"]},
        metricsCollectorSpec=_fields(
            ("collector",),
            collector=_fields(("kind",), kind={"enum": ["StdOut", "File", "TensorFlowEvent", "None"]}),
            source=_fields(filter=_fields(("metricsFormat",), metricsFormat=_many(_TEXT))),
        ),
        parameters=_many(_PARAMETER),
        trialTemplate=_fields(
            ("trialParameters", "trialSpec"),
            retain={"type": "boolean"},
            primaryContainerName=_TEXT,
            successCondition=_TEXT,
            failureCondition=_TEXT,
            trialParameters=_many(_fields(("name", "reference"), name=_TEXT, description=_TEXT, reference=_TEXT)),
            trialSpec={"type": "object", "required": ["apiVersion", "kind", "spec"]},
        ),
    ),
)
_SOURCE = _fields(
    ("repoURL",),
    repoURL=_TEXT,
    targetRevision=_TEXT,
    path=_TEXT,
    chart=_TEXT,
    helm=_fields(
        releaseName=_TEXT, valueFiles=_many(_TEXT), valuesObject={"type": "object"}, ignoreMissingValueFiles={}
    ),
    kustomize=_fields(namePrefix=_TEXT),
)
_DESTINATION = _fields(("namespace",), server=_TEXT, name=_TEXT, namespace=_TEXT)
_IGNORED = _many(
    _fields(("kind", "jsonPointers"), group={"type": "string"}, kind=_TEXT, name=_TEXT, jsonPointers=_many(_TEXT))
)
_APPLICATION = _kind(
    "argoproj.io/v1alpha1",
    "Application",
    _fields(
        ("project", "source", "destination"),
        project=_TEXT,
        source=_SOURCE,
        destination=_DESTINATION,
        revisionHistoryLimit=_NUMBER,
        ignoreDifferences=_IGNORED,
        syncPolicy=_fields(
            automated=_fields(prune={"type": "boolean"}, selfHeal={"type": "boolean"}, allowEmpty={"type": "boolean"}),
            syncOptions=_many(_TEXT),
            retry=_fields(limit=_NUMBER, backoff=_fields(duration=_TEXT, factor=_NUMBER, maxDuration=_TEXT)),
        ),
    ),
)
_KINDS = _many(_fields(("group", "kind"), group={"type": "string"}, kind=_TEXT))
_PROJECT = _kind(
    "argoproj.io/v1alpha1",
    "AppProject",
    _fields(
        ("sourceRepos", "destinations"),
        description=_TEXT,
        sourceRepos=_many(_TEXT),
        destinations=_many(_DESTINATION),
        clusterResourceWhitelist={"type": "array", "items": _KINDS["items"]},
        namespaceResourceWhitelist=_KINDS,
        orphanedResources=_fields(warn={"type": "boolean"}),
        syncWindows=_many(
            _fields(
                ("kind", "schedule", "duration"),
                kind={"enum": ["allow", "deny"]},
                schedule=_TEXT,
                duration=_TEXT,
                timeZone=_TEXT,
                applications=_many(_TEXT),
                manualSync={"type": "boolean"},
            )
        ),
    ),
)

_RULES = _fields(
    ("name", "rules"),
    name=_TEXT,
    interval=_TEXT,
    rules=_many(
        _fields(
            ("expr",),
            record=_TEXT,
            alert=_TEXT,
            labels={},
            annotations={},
            expr={"type": ["string", "number"]},
            **{"for": _TEXT},
        )
    ),
)

SCHEMAS = {
    schema["properties"]["kind"]["const"]: schema
    for schema in (
        _TFJOB,
        _DASK,
        _EXPERIMENT,
        _APPLICATION,
        _PROJECT,
        _kind(
            "monitoring.coreos.com/v1",
            "ServiceMonitor",
            _fields(("selector", "endpoints"), selector=_SELECTOR, endpoints=_ENDPOINTS),
        ),
        _kind(
            "monitoring.coreos.com/v1",
            "PodMonitor",
            _fields(("selector", "podMetricsEndpoints"), selector=_SELECTOR, podMetricsEndpoints=_ENDPOINTS),
        ),
        _kind("monitoring.coreos.com/v1", "PrometheusRule", _fields(("groups",), groups=_many(_RULES))),
        _kind(
            "keda.sh/v1alpha1",
            "ScaledObject",
            _fields(
                ("scaleTargetRef", "triggers"),
                scaleTargetRef=_fields(("name",), name=_TEXT),
                minReplicaCount=_NUMBER,
                maxReplicaCount=_NUMBER,
                cooldownPeriod=_NUMBER,
                triggers=_many(_TRIGGER),
            ),
        ),
        _kind("gateway.networking.k8s.io/v1", "HTTPRoute", _ROUTE),
        _kind("gateway.networking.k8s.io/v1", "GRPCRoute", _ROUTE),
    )
}
