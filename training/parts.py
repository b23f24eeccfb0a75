"""The Parquet files of a split: their order, how many rows they have, and which graph made them."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from etl.errors import ArtifactError
from etl.names import FINGERPRINT


def parts(folder: Path) -> list[Path]:
    """The Parquet files of a split in row order (part_2 before part_10); ArtifactError when there are none."""

    def natural(path: Path) -> list[int | str]:
        return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name)]

    found = sorted(folder.glob("*.parquet"), key=natural)
    if not found:
        raise ArtifactError(
            f"features in {folder}", expected="Parquet files", received="none", hint="Run `mews etl transform`."
        )
    return found


def rows(folder: Path) -> int:
    """Rows of a split, from the Parquet footers."""
    return sum(pq.ParquetFile(path).metadata.num_rows for path in parts(folder))


def fingerprint(*folders: Path) -> str:
    """The fingerprint of the graph that made these splits, "" for features that Mews did not make.

    ArtifactError when parts come from different graphs.
    """
    found: set[str] = {
        (pq.read_metadata(path).metadata or {}).get(FINGERPRINT.encode(), b"").decode()
        for folder in folders
        for path in parts(folder)
    }
    if len(found) > 1:
        shown = ", ".join(sorted(value[:12] or "none" for value in found))
        raise ArtifactError(
            "features", expected="one fingerprint", received=shown, hint="Run `mews etl transform` again."
        )
    return found.pop()
