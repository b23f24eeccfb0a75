"""The `mews` command: its groups, filled by the modules of mews/commands in the order that help lists them."""

from __future__ import annotations

from mews.commands import (
    bench,
    config,
    data,
    demo,
    etl,
    features,
    model,
    report,
    serving,
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
    "config",
    "data",
    "demo",
    "etl",
    "features",
    "main",
    "model",
    "report",
    "serving",
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
