"""The whole description of a table: every column's facts, association and drift, and what is worth a look."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from etl.progress import Progress, silent
from etl.sources.explore.association import association
from etl.sources.explore.drift import column_drift, drift
from etl.sources.explore.facts import facts
from etl.sources.explore.findings import findings
from etl.sources.explore.label import find_label, label_facts
from etl.sources.explore.sample import DISTINCT_ERROR, EXACT_ROWS, METHOD, ROWS
from etl.sources.explore.tables import Table
from etl.sources.parts import readable


def explore(
    table: Table, label: str | None = None, reference: Table | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Return {name, rows, files, bytes, sampling, label, reference, columns, warnings}; all values are JSON values.

    Memory is bounded by the sample's size, one or two columns at a time. Raises SchemaError for a label that is no
    column, ConfigError for one that cannot be a label, DataError for files that cannot be read.
    """
    with readable(table.files[0]):
        return _explored(table, label, reference, progress)


def _explored(table: Table, wanted: str | None, reference: Table | None, progress: Progress) -> dict[str, Any]:
    label = find_label(table, wanted) if wanted else None
    told: dict[str, Any] | None = None
    if wanted:
        told = label_facts(table, label) if label else {"column": wanted, "kind": "constant", "nulls": 0}
    moved = drift(table, reference) if reference else None
    columns = []
    for index, column in enumerate(table.columns):
        progress("describe", index, len(table.columns), "columns")
        found = facts(table, column)
        if label and column.name != label.column:
            found["association"] = association(table, column, label, found)
        if reference and (compared := column_drift(table, reference, column)):
            found["drift"] = compared
        columns.append(found)
    progress("describe", len(columns), len(columns), "columns")
    return {
        "name": table.name,
        "rows": table.rows,
        "files": len(table.files),
        "bytes": table.bytes,
        "sampling": _sampling(table, reference),
        "label": told,
        "reference": moved,
        "columns": columns,
        "warnings": [asdict(note) for note in table.notes] + findings(columns, told, moved),
    }


def _sampling(table: Table, reference: Table | None) -> dict[str, Any]:
    """What was computed on a sample, and how it was taken."""
    largest = max(table.rows, reference.rows if reference else 0)
    return {
        "rows": min(table.rows, ROWS),
        "of": table.rows,
        "sampled": largest > ROWS,
        "method": METHOD,
        "what": ["quantiles", "borders of bins", "association measures", "Kolmogorov-Smirnov", "share of new values"],
        "distinct": {"exact_up_to_rows": EXACT_ROWS, "standard_error_above": DISTINCT_ERROR},
    }
