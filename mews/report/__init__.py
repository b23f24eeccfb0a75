"""The report of a run: one HTML file that loads nothing, readable in a browser and on paper."""

from __future__ import annotations

from pathlib import Path

from etl.atomic import write_text
from etl.errors import ArtifactError
from mews.report.data import read
from mews.report.page import html
from mews.run import Run

__all__ = ["render"]


def render(run: Path) -> Path:
    """Write `run`/report.html from what the run folder holds, and return its path.

    Stages that have not run are left out with a note. Raises ArtifactError when `run` is no folder.
    """
    if not run.is_dir():
        raise ArtifactError(
            f"run folder {run}", expected="a folder", received="nothing there", hint="Run `mews demo` first."
        )
    target = Run(run).report
    write_text(target, html(read(run)))
    return target
