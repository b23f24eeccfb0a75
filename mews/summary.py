"""summary.json: the figures of a run. Other tools read it; its keys stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etl.versions import installed
from mews.config import PipelineConfig
from mews.pipeline import Outcome

_PACKAGES = (
    "nvtabular", "merlin-models", "tensorflow", "polars", "onnx", "onnxruntime", "tritonclient", "nvidia-pytriton",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Mews and of the installed packages that a result depends on."""
    from mews import __version__

    return {"mews": __version__} | installed(_PACKAGES)


def summarise(config: PipelineConfig, outcomes: Mapping[str, Outcome], total_seconds: float) -> dict[str, Any]:
    """Return the summary of a finished demo.

    `seconds` holds what each stage took when it ran; `cached` names those that this run skipped; `seconds.total` is the
    wall time of this run. `peak_rss_mb` is the largest of the stages', from when they ran.
    """
    features, model = outcomes["transform"].result, outcomes["evaluate"].result
    parity = outcomes["query"].result
    return {
        "data": {"rows": outcomes["data"].result["rows"], "source": config.data.source},
        "features": {
            "operators": features["operators"],
            "columns": features["columns"],
            "fit_seconds": round(outcomes["fit"].result["fit_seconds"], 3),
            "transform_seconds": round(features["transform_seconds"], 3),
        },
        "model": {"name": config.model.name}
        | {key: model.get(key) for key in ("auc", "auc_low", "auc_high", "auc_best", "logloss", "ece")}
        | ({"ranking": model["ranking"]["metrics"]} if "auc" not in model else {}),
        "parity": {key: parity[key] for key in ("http_max_abs_diff", "grpc_max_abs_diff", "rows")},
        "seconds": {name: round(outcome.seconds, 3) for name, outcome in outcomes.items()}
        | {"total": round(total_seconds, 3)},
        "cached": [name for name, outcome in outcomes.items() if outcome.skipped],
        "peak_rss_mb": max(outcome.result["peak_rss_mb"] for outcome in outcomes.values()),
        "versions": versions(),
    }
