"""The page of `mews data describe`: what its template shows, as plain values and finished figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from etl.atomic import write_text
from mews.report import describe_figures as drawn
from mews.report import numbers
from mews.report.charts import spark
from mews.report.document import document
from mews.report.figures import Figure
from mews.report.numbers import count, percent, value_text

Facts = Mapping[str, Any]
PAGE = "describe.html"
_DRAWN = 120
_LENGTHS = {"min": "shortest", "mean": "mean length", "max": "longest", "std": "std of lengths"}
_BAD = {"leaked label?", "all null", "column gone", "column added", "type changed", "drift"}


@dataclass(frozen=True)
class Row:
    """A column in the overview: texts, and the two meters of its association and its drift."""

    name: str
    anchor: str
    dtype: str
    nulls: str
    null_share: float
    distinct: str
    range: str
    picture: Markup | None
    top: tuple[tuple[str, float, str], ...]
    strength: float | None
    strength_text: str
    psi: str
    band: str


@dataclass(frozen=True)
class Block:
    """A column in full: its facts as (name, text), what is worth a look, and its figures."""

    name: str
    anchor: str
    dtype: str
    facts: tuple[tuple[str, str], ...]
    findings: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]


def write(described: Facts, target: Path) -> Path:
    """Write the page of a description (as `explore` returns it) to `target`, whole or not at all."""
    write_text(target, html(described))
    return target


def html(described: Facts) -> str:
    """The description as one HTML document that loads nothing."""
    columns, label, reference = described["columns"], described["label"], described["reference"]
    known = label if label and label["kind"] != "constant" else None
    names = (described["name"], reference["name"] if reference else "")
    if names[0] == names[1]:
        names = ("described", "reference")
    return document(
        "describe.html.j2",
        "describe.css",
        described=described,
        label=label,
        reference=reference,
        cards=_cards(described),
        warnings=[(one, one["kind"] in _BAD) for one in described["warnings"]],
        rows=[_row(index, column) for index, column in enumerate(columns)],
        blocks=[_block(index, one, described, known, names) for index, one in enumerate(columns[:_DRAWN])],
        left_out=max(0, len(columns) - _DRAWN),
        strengths=drawn.strengths(columns, label["column"]) if known else None,
        missing=[(one["name"], one["association"]["missing"]) for one in columns if _has_missing(one)],
        is_rate=bool(known and known["kind"] == "binary"),
        shifts=drawn.shifts(columns, names[1]) if reference else None,
        moved=sorted((one for one in columns if one.get("drift")), key=lambda one: -one["drift"]["psi"]),
    )


def _has_missing(column: Facts) -> bool:
    return bool((column.get("association") or {}).get("missing"))


def _cards(described: Facts) -> list[tuple[str, str, str]]:
    """(name, figure, detail) of the table as a whole."""
    columns, label, reference = described["columns"], described["label"], described["reference"]
    cells = sum(one["rows"] for one in columns) or 1
    nulls = sum(one["nulls"] for one in columns)
    files = "1 file" if described["files"] == 1 else f"{count(described['files'])} files"
    cards = [
        ("Rows", count(described["rows"]), f"{files}, {numbers.size(described['bytes'])}"),
        ("Columns", count(len(columns)), _kinds(columns)),
        ("Empty cells", percent(nulls / cells), f"{count(nulls)} of {count(cells)}"),
    ]
    if label and label["kind"] == "binary":
        cards.append(("Label rate", percent(label["rate"]), f"{label['column']} = {label['positive']}"))
    elif label:
        shown = numbers.significant(label.get("mean")) if label["kind"] == "numeric" else label["kind"]
        cards.append(("Label", shown, f"{'mean of ' if label['kind'] == 'numeric' else ''}{label['column']}"))
    if reference:
        moved = sum((one.get("drift") or {}).get("band") == "large" for one in columns)
        compared = sum(bool(one.get("drift")) for one in columns)
        cards.append(("Columns that drifted", count(moved), f"of {compared} compared with {reference['name']}"))
    cards.append(("Worth a look", count(len(described["warnings"])), "findings, listed below"))
    return cards


def _kinds(columns: list[Facts]) -> str:
    names = {"number": "numbers", "category": "strings", "boolean": "booleans", "moment": "times", "list": "lists"}
    counted: dict[str, int] = {}
    for one in columns:
        name = names.get(one["kind"], "others")
        counted[name] = counted.get(name, 0) + 1
    return ", ".join(f"{many} {name.removesuffix('s') if many == 1 else name}" for name, many in counted.items())


def _row(index: int, column: Facts) -> Row:
    found, moved = column.get("association") or {}, column.get("drift") or {}
    top = tuple((value_text(one["value"]), one["share"], percent(one["share"])) for one in column.get("top", [])[:3])
    histogram = column.get("histogram") if (column.get("distinct") or 0) > len(column.get("top") or ()) else None
    by, strength = found.get("strength_by"), found.get("strength")
    return Row(
        column["name"],
        f"column-{index}",
        column["dtype"],
        percent(column["null_share"]),
        column["null_share"],
        f"{'≈ ' if column.get('distinct_error') else ''}{count(column.get('distinct'))}",
        _range(column),
        _spark(column, histogram) if histogram else None,
        () if histogram else top,
        strength,
        f"{drawn.MEASURES[by]} {numbers.fixed(found['measures'][by], 3)}" if by else numbers.MISSING,
        numbers.fixed(moved.get("psi"), 3),
        moved.get("band", ""),
    )


def _spark(column: Facts, histogram: Facts) -> Markup:
    edges = [one[:16] if isinstance(one, str) else value_text(one) for one in histogram["edges"]]
    tips = [f"{low} to {high}: {count(n)}" for low, high, n in zip(edges, edges[1:], histogram["counts"], strict=False)]
    return spark(histogram["counts"], tips, f"Histogram of {column['name']}: {edges[0]} to {edges[-1]}")


def _range(column: Facts) -> str:
    if column.get("min") is not None:
        low, high = (one[:16] if isinstance(one, str) else value_text(one) for one in (column["min"], column["max"]))
        return f"{low} … {high}"
    lengths = column.get("lengths") or {}
    if lengths.get("min") is None:
        return ""
    return f"length {value_text(lengths['min'])} … {value_text(lengths['max'])}"


def _block(index: int, column: Facts, described: Facts, label: Facts | None, names: tuple[str, str]) -> Block:
    figures = [drawn.distribution(column)]
    if column["kind"] == "list":
        figures.append(drawn.top_values(column))
    if label and column["name"] != label["column"]:
        figures.append(drawn.label_rates(column, label))
    figures.append(drawn.overlay(column, names))
    findings = [(one["kind"], one["detail"]) for one in described["warnings"] if one["column"] == column["name"]]
    role = f", {column['role']}" if column["role"] not in ("", "ignore") else ""
    return Block(
        column["name"],
        f"column-{index}",
        f"{column['dtype']}{role}",
        tuple(_facts(column)),
        tuple(findings),
        tuple(one for one in figures if one is not None),
    )


def _facts(column: Facts) -> list[tuple[str, str]]:
    nulls = f"{count(column['nulls'])} ({percent(column['null_share'])})" if column["nulls"] else "0"
    found = [("nulls", nulls)]
    if column.get("distinct") is not None:
        error = column.get("distinct_error")
        found.append(("distinct", count(column["distinct"]) + (f" ± {percent(error)}" if error else "")))
    numbered = column.get("lengths") or column
    names = _LENGTHS if column.get("lengths") else {}
    for key in ("min", "mean", "max", "std"):
        if numbered.get(key) is not None:
            found.append(
                (
                    names.get(key, key),
                    numbered[key][:16] if isinstance(numbered[key], str) else value_text(numbered[key]),
                )
            )
    for share, value in (column.get("quantiles") or {}).items():
        name = "median" if share == "0.5" else f"{float(share) * 100:g} %"
        found.append((name, value[:16] if isinstance(value, str) else value_text(value)))
    if column.get("zeros"):
        found.append(("zeros", percent(column["zeros"] / column["rows"])))
    measured = drawn.told(column["association"]) if column.get("association") else []
    return found + [(drawn.MEASURES[key], numbers.fixed(value, 3)) for key, value in measured]
