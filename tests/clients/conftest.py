"""The clients of other languages ask the same server as the Python client."""

from __future__ import annotations

from tests.ensemble.conftest import parts, served

__all__ = ["parts", "served"]
