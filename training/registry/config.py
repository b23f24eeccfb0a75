"""The part of pipeline.yaml that says where models are registered, and when one is promoted: registry."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from etl.section import Section


def without_secrets(text: str) -> str:
    """Return `text` with the user and password of every address in it replaced, for messages."""
    return re.sub(r"(?<=://)[^/@\s\"]+(?=@)", "***", text)


class RegistryConfig(Section):
    """Where models are registered, and when one is promoted."""

    uri: str | None = None
    """An MLflow server (https://...) or SQLite file (sqlite:///path); the run folder's own SQLite file if absent. The
    password or token of a server comes from MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN."""
    experiment: str = Field(default="mews", pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")
    """MLflow's experiment, in which the runs lie."""
    name: str = Field(default="mews", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The registered model: its versions are compared with each other."""
    metrics: list[str] = Field(default_factory=list)
    """What may not be worse than the champion's, beyond chance, for a promotion: places in metrics.json such as auc or
    ranking.metrics.ndcg@10. Not given: auc and logloss, or NDCG for a model that has neither."""
    max_slice_drop: float = Field(default=0.05, gt=0)
    """By how much a metric of a slice may be worse than the champion's; beyond it and beyond chance, the slice has
    collapsed."""
    min_slice_rows: int = Field(default=100, ge=1)
    """Smaller slices are not looked at."""
    intended_use: str | None = None
    """For the model card: what the model is for, and what not."""
    limits: str | None = None
    """For the model card: what its owner knows of its limits."""

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https", "sqlite"):
            raise ValueError("expected https://, http:// or sqlite:///path")
        if parts.password is not None or parts.username is not None:
            raise ValueError("expected no user or password in it: set MLFLOW_TRACKING_USERNAME and _PASSWORD instead")
        return uri
