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
    metadata = _fields(("name",), name=_TEXT, labels=_TEXTS, annotations=_TEXTS)
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

SCHEMAS = {
    schema["properties"]["kind"]["const"]: schema
    for schema in (
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
