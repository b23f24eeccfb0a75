"""Mews: recommender data to a served model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mews.dropin.export import export

__all__ = ["__version__", "export"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `export` on first use (PEP 562), so that the command line pays nothing for it."""
    if name != "export":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mews.dropin.export import export

    return export
