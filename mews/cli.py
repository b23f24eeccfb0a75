"""The `mews` command: its groups, filled by the modules of mews/commands in the order that help lists them."""

from __future__ import annotations

from mews.commands import (
    bench,
    compare,
    config,
    data,
    demo,
    etl,
    features,
    logs,
    metrics,
    model,
    models,
    pipeline_cmd,
    report,
    serving,
    size,
    soak,
    trust,
    tune,
    variants,
    versions,
)
from mews.commands.groups import app

__all__ = [
    "app",
    "bench",
    "compare",
    "config",
    "data",
    "demo",
    "etl",
    "features",
    "logs",
    "main",
    "metrics",
    "model",
    "models",
    "pipeline_cmd",
    "report",
    "serving",
    "size",
    "soak",
    "trust",
    "tune",
    "variants",
    "versions",
]


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
