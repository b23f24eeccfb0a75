"""Exports features and model as one Triton ensemble, runs Triton on it, and asks it.

Names load their modules when used, so that a client does not pay for ONNX, nor an export for gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.client.async_client import AsyncClient
    from ensemble.client.client import Client, ModelMetadata, Prediction
    from ensemble.export.export import Exported
    from ensemble.manifest import Manifest
    from ensemble.requests.rows import read_rows
    from ensemble.server.triton import TritonServer
    from ensemble.spec import RequestColumn, RequestSchema
    from ensemble.verification import Verification, check_version

__all__ = [
    "AsyncClient",
    "Client",
    "Exported",
    "Manifest",
    "ModelMetadata",
    "Prediction",
    "RequestColumn",
    "RequestSchema",
    "TritonServer",
    "Verification",
    "check_version",
    "read_rows",
]

_MODULES = {
    "AsyncClient": "client.async_client",
    "Client": "client.client",
    "Exported": "export.export",
    "Manifest": "manifest",
    "ModelMetadata": "client.metadata",
    "Prediction": "client.conversation",
    "RequestColumn": "spec",
    "RequestSchema": "spec",
    "TritonServer": "server.triton",
    "Verification": "verification",
    "check_version": "verification",
    "read_rows": "requests.rows",
}


def __getattr__(name: str) -> Any:
    """Import what `__all__` names on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
