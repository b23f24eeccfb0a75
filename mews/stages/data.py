"""The data stages: prepare, validate, split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from etl.atomic import write_text
from etl.sources.dataset import Dataset
from mews.pipeline import Context, examples_of
from mews.run import Run
from mews.session import columns

_STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}


def prepare(context: Context) -> dict[str, Any]:
    """Bring the rows of the configured source into the run folder."""
    from etl.sources.generated import best_auc
    from etl.sources.registry import open_source

    config = context.config
    dataset = open_source(config.data, config.seed).prepare(context.run.raw, context.progress)
    best = best_auc(dataset)
    says = f"{dataset.rows:,} rows of {dataset.name}"
    if best is not None:
        says += f", best reachable AUC {best:.4f}"
    return {"rows": dataset.rows, "source": dataset.name, "facts": dict(dataset.facts), "auc_best": best, "says": says}


def validate(context: Context) -> dict[str, Any]:
    """Check every row before anything is computed; DataError, exit code 3, when the data is refused."""
    from etl.sources.validate import validate as run_validation

    run = context.run
    report = run_validation(Dataset.load(run.raw), context.config.validation, run.validated, context.progress)
    report.raise_if_failed()
    counts = {status: sum(check.status == status for check in report.checks) for status in _STYLES}
    for check in report.checks:
        if check.status == "WARN":
            context.terminal.warn(": ".join(filter(None, (check.name, check.column, check.detail))))
    warned = "1 warning" if counts["WARN"] == 1 else f"{counts['WARN']} warnings"
    says = f"{counts['PASS']} checks passed, {warned}, {report.quarantined:,} rows in quarantine"
    return {"rows": report.rows, "quarantined": report.quarantined, "checks": counts, "says": says}


def split(context: Context) -> dict[str, Any]:
    """Divide the rows into train, valid and test, check them for leakage, and describe them.

    A model that learns from lists gets them as examples; the rows that they are made from stay beside them.
    """
    from etl.sources.examples import make_examples
    from etl.sources.profile import cold_start, describe
    from etl.sources.report import raise_if_failed
    from etl.sources.split import split as run_split
    from etl.sources.validate import check_splits

    run, config = context.run, context.config
    dataset, kind = Dataset.load(run.clean), examples_of(config)
    ready = kind == "rows" or dataset.only("history") is not None
    rows_folder = run.split if ready else run.split_rows
    splits = run_split(dataset, config.split, rows_folder, config.seed, context.progress)
    checks = check_splits(splits, config.validation, context.progress)
    write_text(run.split_checks, json.dumps({"checks": [asdict(check) for check in checks]}, indent=1))
    raise_if_failed(checks, "train, valid and test", run.split_checks)
    context.progress("describe", 0, None, "rows")
    profile = describe(dataset) | {"splits": splits.to_json(), "cold_start": cold_start(splits)}
    write_text(run.profile, json.dumps(profile, indent=1, allow_nan=False))
    if not ready:
        splits = make_examples(splits, config.split, kind, run.split, context.progress)
    rows = {part: found.rows for part, found in splits.parts.items()}
    says = f"by {splits.by}: " + ", ".join(f"{part} {count:,}" for part, count in rows.items())
    return {"rows": rows, "examples": kind, "says": says if ready else f"{says} examples of {kind}"}


def read_validation(run: Run) -> dict[str, Any] | None:
    """Return the last validation report of the run, None if there is none."""
    try:
        report: dict[str, Any] = json.loads(run.validation.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return report


def checks_table(report: Mapping[str, Any]) -> Any:
    """Return the table of checks to print."""
    rows = [
        [f"[{_STYLES[check['status']]}]{check['status']}[/]", check["name"], check["column"] or "", check["detail"]]
        for check in report["checks"]
    ]
    return columns(rows, "", "check", "column", "detail")


def profile_table(profile: Mapping[str, Any]) -> Any:
    """Return one line for each column: type, nulls, distinct values, range or commonest values."""
    rows = [
        [
            column["name"],
            f"list of {column['dtype']}" if column["list"] else column["dtype"],
            column["role"],
            f"{column['nulls'] / column['rows']:.2%}" if column["rows"] else "-",
            f"{column['distinct']:,}" if column.get("distinct") is not None else "-",
            _content(column),
        ]
        for column in profile["columns"]
    ]
    return columns(rows, "column", "type", "role", "nulls", "distinct", "content", title=f"{profile['rows']:,} rows")


def _content(column: Mapping[str, Any]) -> str:
    if column.get("top"):
        return ", ".join(str(value["value"]) for value in column["top"][:4])
    if column.get("min") is not None:
        return f"{_plain(column['min'])} to {_plain(column['max'])}"
    return ""


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
