"""What every source offers: how its rows become a Dataset on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from etl.progress import Progress, silent
from etl.sources.dataset import Dataset


class Source(Protocol):
    """Rows that can be brought into a folder of Parquet parts."""

    def prepare(self, out: Path, progress: Progress = silent) -> Dataset:
        """Write the rows and `dataset.json` to `out`, whole or not at all; DataError if they cannot be read."""
        ...
