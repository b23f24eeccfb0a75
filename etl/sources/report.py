"""What validation found: checks, counts, and where the refused rows lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from etl.errors import DataError, SchemaError
from etl.sources.dataset import Dataset

Status = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Check:
    """One question asked of the data; `column` is None for questions about whole rows."""

    name: str
    column: str | None
    status: Status
    detail: str


def worst(checks: Sequence[Check]) -> Status:
    """FAIL if any check failed, else WARN if any warned, else PASS."""
    found = {check.status for check in checks}
    return "FAIL" if "FAIL" in found else "WARN" if "WARN" in found else "PASS"


def raise_if_failed(checks: Sequence[Check], subject: str, kept: Path | None = None) -> None:
    """DataError (SchemaError when columns are missing) that names every failed check; nothing if none failed."""
    failed = [check for check in checks if check.status == "FAIL"]
    if not failed:
        return
    reasons = "; ".join(
        f"{check.name}{f' of {check.column}' if check.column else ''}: {check.detail}" for check in failed
    )
    kind = SchemaError if any(check.name == "columns" for check in failed) else DataError
    raise kind(
        f"{subject} was refused: {reasons}", hint=f"The report and the refused rows are in {kept}." if kept else ""
    )


@dataclass(frozen=True)
class ValidationReport:
    """The outcome for one dataset: `clean` holds the rows that passed, in declared types; None if a check failed."""

    name: str
    checks: tuple[Check, ...]
    rows: int
    quarantined: int
    reasons: Mapping[str, int]
    folder: Path
    clean: Dataset | None = None
    quarantine: Path | None = field(default=None)

    @property
    def status(self) -> Status:
        """The worst status of all checks."""
        return worst(self.checks)

    def raise_if_failed(self) -> None:
        """DataError naming every failed check, nothing if none failed."""
        raise_if_failed(self.checks, f"data {self.name!r}", self.folder)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, as written to `validation.json`."""
        return {
            "format": 1,
            "name": self.name,
            "status": self.status,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "reasons": dict(self.reasons),
            "checks": [asdict(check) for check in self.checks],
        }

    def table(self) -> list[tuple[str, str, str, str]]:
        """(status, check, column, detail) per check, the worst first: what a terminal shows."""
        order = {"FAIL": 0, "WARN": 1, "PASS": 2}
        ranked = sorted(self.checks, key=lambda check: order[check.status])
        return [(check.status, check.name, check.column or "", check.detail) for check in ranked]

    @classmethod
    def load(cls, folder: Path) -> ValidationReport:
        """Read the report that `validate` wrote to `folder`."""
        record = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
        clean, quarantine = folder / "clean", folder / "quarantine.parquet"
        return cls(
            record["name"],
            tuple(Check(**check) for check in record["checks"]),
            record["rows"],
            record["quarantined"],
            record["reasons"],
            folder,
            Dataset.load(clean) if clean.is_dir() else None,
            quarantine if quarantine.is_file() else None,
        )
