"""The page of `mews compare`: what its template shows, as plain values and finished figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from mews.compare.summary import METRICS, Metric, winners
from mews.report import compare_figures as drawn
from mews.report import numbers
from mews.report.document import document
from mews.report.figures import Figure
from mews.report.numbers import number

Facts = Mapping[str, Any]
PAGE = "compare.html"
SIGNIFICANT = 0.05
_COSTS = (
    ("train_seconds", "training", numbers.seconds),
    ("samples_per_s", "samples/s", numbers.compact),
    ("parameters", "parameters", numbers.compact),
)
_ARROWS = {"high": " ↑", "low": " ↓", "": ""}
_TABLES = (("quality", "How good they are"), ("other", "What they show, and what they cost"))


@dataclass(frozen=True)
class Cell:
    """A figure in the table: its interval, whether it is the best, and how it stands to the baseline (▲, ▼ or "")."""

    text: str
    between: str = ""
    best: bool = False
    against: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Row:
    """One model or baseline in the table."""

    name: str
    kind: str
    says: str
    color: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Some of the metrics of everybody."""

    name: str
    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def write(compared: Facts, target: Path) -> Path:
    """Write the page of a comparison (compare.json's content) to `target`, whole or not at all."""
    write_text(target, html(compared))
    return target


def html(compared: Facts) -> str:
    """The comparison as one HTML document that loads nothing."""
    entries = drawn.measured(compared)
    shown = [one for one in METRICS.values() if any(drawn.value(entry, one.name) is not None for entry in entries)]
    best, metric = winners(compared), drawn.quality(compared)
    return document(
        "compare.html.j2",
        "compare.css",
        compared=compared,
        cards=_cards(compared, entries, metric),
        metrics=shown,
        tables=[_table(name, title, shown, entries, compared) for name, title in _TABLES],
        counts=_counts(entries),
        others=[entry for entry in compared["entries"] if entry["status"] != "measured"],
        notes=[(entry["name"], note) for entry in entries for note in entry["notes"]],
        tested=any(cell.against for entry in entries for cell in _cells(entry, shown, best, compared)),
        ranking=_only(
            drawn.standing(compared, metric, METRICS[metric].title) if metric else None, drawn.recall(compared),
            drawn.coverage(compared), drawn.cost(compared),
        ),
        scores=_only(
            drawn.learning(compared), drawn.roc(compared), drawn.precision(compared), drawn.calibration(compared),
            drawn.gain(compared), drawn.lift(compared),
        ),
        items=_only(drawn.item_map(compared)),
        facts=_facts(compared),
    )  # fmt: skip


def _only(*found: Figure | None) -> list[Figure]:
    return [one for one in found if one is not None]


def _cards(compared: Facts, entries: Sequence[Facts], metric: str | None) -> list[tuple[str, str, str]]:
    """(what, which, detail): the best by each of a few measures, and the cheapest that is as good as the best."""
    best, by_name = winners(compared), {entry["name"]: entry for entry in entries}
    made = []
    for name, what in (("ndcg@10", "Best ranking"), ("auc", "Best scores"), ("coverage", "Widest coverage")):
        if name in best:
            about, entry = METRICS[name], by_name[best[name]]
            made.append((what, entry["name"], f"{about.title} {_written(entry, about)}"))
    if metric is not None and metric in best and (cheap := _cheapest(entries, metric, by_name[best[metric]])):
        says = f"{numbers.seconds(cheap['train_seconds'])}; its interval reaches that of the best"
        made.append(("Least training", cheap["name"], says))
    if "onnx_p50_us" in best:
        entry = by_name[best["onnx_p50_us"]]
        made.append(("Fastest answer", entry["name"], f"{_written(entry, METRICS['onnx_p50_us'])} for one row"))
    return made


def _cheapest(entries: Sequence[Facts], metric: str, best: Facts) -> Facts | None:
    """The entry that trains in the least time among those whose interval meets that of the best."""
    floor = drawn.value(best, metric, "low")
    near = [
        entry
        for entry in entries
        if number(entry["train_seconds"]) is not None
        and floor is not None
        and (drawn.value(entry, metric, "high") or -1.0) >= floor
    ]
    return min(near, key=lambda entry: entry["train_seconds"], default=None)


def _written(entry: Facts, metric: Metric) -> str:
    text = str(metric.write(drawn.value(entry, metric.name)))
    low, high = (drawn.value(entry, metric.name, end) for end in ("low", "high"))
    return text if low is None or high is None else f"{text} ({metric.write(low)} to {metric.write(high)})"


def _counts(entries: Sequence[Facts]) -> str:
    """Such as 6 models and 4 baselines."""
    found = []
    for kind in ("model", "baseline"):
        count = sum(entry["kind"] == kind for entry in entries)
        found += [f"{count} {kind}{'' if count == 1 else 's'}"] if count else []
    return " and ".join(found) or "No model"


def _table(group: str, title: str, shown: Sequence[Metric], entries: Sequence[Facts], compared: Facts) -> Table:
    own, look = [one for one in shown if one.group == group], drawn.looks(compared)
    heads = [f"{one.title}{_ARROWS[one.best]}" for one in own]
    costs = _COSTS if group == "other" else ()
    rows = []
    for entry in entries:
        color = "c5" if entry["kind"] == "baseline" else look[entry["name"]][0]
        paid = [Cell(str(write(entry[name]))) for name, _, write in costs]
        cells = (*_cells(entry, own, winners(compared), compared), *paid)
        rows.append(Row(entry["name"], entry["kind"], entry["says"], color, cells))
    return Table(group, title, (*heads, *(name for _, name, _ in costs)), tuple(rows))


def _cells(entry: Facts, shown: Sequence[Metric], best: Mapping[str, str], compared: Facts) -> tuple[Cell, ...]:
    base = next((one for one in compared["entries"] if one["name"] == compared["against"]), None)
    return tuple(_cell(entry, metric, best, base) for metric in shown)


def _cell(entry: Facts, metric: Metric, best: Mapping[str, str], base: Facts | None) -> Cell:
    at = drawn.value(entry, metric.name)
    if at is None:
        return Cell(numbers.MISSING)
    low, high = (drawn.value(entry, metric.name, end) for end in ("low", "high"))
    between = "" if low is None or high is None else f"{_short(metric, low)} to {_short(metric, high)}"
    chance, other = drawn.value(entry, metric.name, "p"), drawn.value(base, metric.name) if base else None
    tip, sign = f"{entry['name']}: {metric.title} {metric.write(at)}", ""
    if chance is not None and base is not None and other is not None:
        tip += f"; against {base['name']} p = {numbers.significant(chance, 2)}"
        better = (at > other) == (metric.best == "high")
        sign = ("▲" if better else "▼") if chance < SIGNIFICANT and at != other else ""
    return Cell(str(metric.write(at)), between, best.get(metric.name) == entry["name"], sign, tip)


def _short(metric: Metric, value: float) -> str:
    """An end of an interval, which needs fewer digits than the figure."""
    return numbers.fixed(value, 3) if metric.write is numbers.fixed else str(metric.write(value))


def _facts(compared: Facts) -> list[tuple[str, str]]:
    """(name, text) of the data and the protocol."""
    data, found = compared["data"], []
    for part in ("train", "valid", "test"):
        if (rows := number((data.get("rows") or {}).get(part))) is not None:
            found.append((f"{part} rows", numbers.count(rows)))
    for key, name in (("users", f"{data.get('asked', 'users')} asked"), ("items", "items ranked")):
        if number(data.get(key)) is not None:
            found.append((name, numbers.count(data[key])))
    if number(data.get("click_rate")) is not None:
        found.append(("click rate", numbers.percent(data["click_rate"])))
    return [*found, ("seed", str(compared["seed"])), ("resamples", numbers.count(compared["bootstrap"]))]
