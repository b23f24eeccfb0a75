"""`mews data describe`: read the files, describe them, write the page, print the table."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from etl import memory
from etl.atomic import write_text
from etl.errors import ConfigError
from mews.console import ProgressLine, Terminal
from mews.session import Session, columns

if TYPE_CHECKING:
    from etl.sources.explore import Table

PAGE, FIGURES = "describe.html", "describe.json"
_SHOWN = 30

Facts = Mapping[str, Any]


def describe_files(
    session: Session, paths: Sequence[Path], label: str | None, reference: Path | None, out: Path | None
) -> dict[str, Any]:
    """Describe files of one's own; with `out`, describe.html and describe.json are written there."""
    from etl.sources.explore import open_table

    _check(out)
    return _described(session, lambda folder, progress: open_table(paths, folder, progress), label, reference, out)


def describe_run(session: Session, label: str | None, reference: Path | None, out: Path | None) -> dict[str, Any]:
    """Describe the clean rows of the run, by default with its label; the files go to the run folder."""
    from etl.sources.dataset import Dataset
    from etl.sources.explore import dataset_table

    _check(out)
    dataset = Dataset.load(session.run.clean)
    wanted, target = label or dataset.label, out or session.run.folder
    return _described(session, lambda *_: dataset_table(dataset), wanted, reference, target)


def _check(out: Path | None) -> None:
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}", expected="a folder", received="a file")


def _described(
    session: Session,
    opened: Callable[[Path, ProgressLine], Table],
    label: str | None,
    reference: Path | None,
    out: Path | None,
) -> dict[str, Any]:
    from etl.sources.explore import explore, open_table

    began = time.monotonic()
    # CSV is copied here to Parquet, so that single columns can be read; the folder goes with the command.
    with tempfile.TemporaryDirectory(prefix="mews-describe-") as name:
        folder = Path(name)
        with session.terminal.stage("describe") as progress:
            table = opened(folder / "table", progress)
            other = open_table([reference], folder / "reference", progress) if reference else None
            described = explore(table, label, other, progress)
    described |= {
        "seconds": time.monotonic() - began,
        "peak_rss_mb": memory.peak() >> 20,
    }
    if out is None:
        return described
    from mews.report.describe import write

    write_text(out / FIGURES, json.dumps(described, indent=1, allow_nan=False) + "\n")
    return described | {"page": str(write(described, out / PAGE))}


def show(terminal: Terminal, described: Facts) -> None:
    """Print a line for each column, the findings, and how long it took."""
    terminal.line(_table(described))
    for one in described["warnings"][:_SHOWN]:
        subject = f"{one['column']}: " if one["column"] else ""
        terminal.warn(f"{subject}{one['kind']}, {one['detail']}")
    if len(described["warnings"]) > _SHOWN:
        terminal.warn(f"and {len(described['warnings']) - _SHOWN} more")
    taken = f"{described['rows']:,} rows in {described['seconds']:.1f} s, at most {described['peak_rss_mb']:,} MB"
    terminal.line(taken + (f"; page: {described['page']}" if "page" in described else ""))


def _table(described: Facts) -> Any:
    label, reference = described["label"], described["reference"]
    headers = ["column", "type", "role", "nulls", "distinct", "content"]
    has_role = any(column["role"] for column in described["columns"])
    kept = [header for header in headers if header != "role" or has_role]
    kept += [f"with {label['column']}"] if label else []
    kept += ["drift"] if reference else []
    rows = [[_cell(column, header) for header in kept] for column in described["columns"]]
    files = f" in {described['files']} files" if described["files"] > 1 else ""
    against = f", drift from {reference['name']} (population stability index)" if reference else ""
    title = escape(f"{described['name']}: {described['rows']:,} rows{files}{against}")
    return columns(rows, *map(escape, kept), title=title)


def _cell(column: Facts, header: str) -> str:
    if header.startswith("with "):
        return _association(column)
    if header == "drift":
        return _drift(column)
    return escape(str(_CELLS[header](column)))


def _distinct(column: Facts) -> str:
    found = column.get("distinct")
    return "-" if found is None else f"{found:,}{' (est.)' if column.get('distinct_error') else ''}"


def _content(column: Facts) -> str:
    if column["kind"] in ("number", "moment") and column.get("min") is not None:
        middle = column["quantiles"].get("0.5")
        return f"{_plain(column['min'])} to {_plain(column['max'])}, median {_plain(middle)}"
    top = ", ".join(f"{shorten(one['value'])} {_share(one['share'])}" for one in column.get("top", [])[:2])
    if column["kind"] == "list" and column.get("lengths"):
        return f"length {_plain(column['lengths']['min'])} to {_plain(column['lengths']['max'])}; {top}"
    return top


def _share(share: float) -> str:
    return "<1%" if share < 0.01 else f"{share:.0%}"


def shorten(value: object, longest: int = 24) -> str:
    """A value on one line, cut to `longest` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _association(column: Facts) -> str:
    found = column.get("association")
    if not found or found["strength"] is None:
        return ""
    name = found["strength_by"]
    return f"{_MEASURES[name]} {found['measures'][name]:.3f}"


def _drift(column: Facts) -> str:
    found = column.get("drift")
    if not found:
        return ""
    style = {"stable": "green", "moderate": "yellow", "large": "red"}[found["band"]]
    return f"{found['psi']:.3f} [{style}]{found['band']}[/]"


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_MEASURES = {
    "auc": "AUC",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "theils_u": "Theil's U",
    "correlation_ratio": "corr. ratio",
}
_CELLS: Mapping[str, Callable[[Facts], object]] = {
    "column": lambda column: column["name"],
    "type": lambda column: column["dtype"],
    "role": lambda column: column["role"],
    "nulls": lambda column: f"{column['null_share']:.2%}" if column["nulls"] else "0",
    "distinct": _distinct,
    "content": _content,
}
