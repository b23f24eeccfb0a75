"""The charts of a data description: each function takes a column's facts and returns a Figure, or None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mews.report import numbers
from mews.report.bars import Bar, Histogram, NamedBars
from mews.report.charts import Interval, Intervals, Pin
from mews.report.figures import FULL, THIRD, Figure, figure
from mews.report.numbers import count, percent, value_text
from mews.report.svg import Axis, shorten

Facts = Mapping[str, Any]
MEASURES = {
    "auc": "AUC",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "cramers_v": "Cramér's V",
    "mutual_information_bits": "mutual information, bits",
    "theils_u": "Theil's U",
    "correlation_ratio": "correlation ratio",
}
_RANKED = 30
_MOVED = {"stable": "c1", "moderate": "c6", "large": "c2"}


def strengths(columns: Sequence[Facts], label: str) -> Figure | None:
    """Columns by how much they tell of the label alone."""
    known = [one for one in columns if (one.get("association") or {}).get("strength") is not None]
    if not known:
        return None
    ranked = sorted(known, key=lambda one: -one["association"]["strength"])[:_RANKED]
    bars = tuple(_strength(one) for one in ranked)
    told = f"Strength of association with {label}: " + "; ".join(f"{bar.label} {bar.written}" for bar in bars[:8])
    says = "0 for no association, 1 for a column that decides the label; beside it the measure that it is from."
    return figure(f"What goes with {label}", NamedBars(bars, told, high=1.0), says, wide=FULL)


def _strength(column: Facts) -> Bar:
    found = column["association"]
    name = MEASURES[found["strength_by"]]
    written = f"{name} {numbers.fixed(found['measures'][found['strength_by']], 3)}"
    tip = "\n".join([column["name"], *(f"{MEASURES[key]}: {numbers.significant(one)}" for key, one in told(found))])
    return Bar(_subject(column, found), found["strength"], written, tip)


def told(association: Facts) -> list[tuple[str, float]]:
    """The measures that could be computed."""
    return [(key, value) for key, value in association["measures"].items() if value is not None]


def _subject(column: Facts, found: Facts) -> str:
    return f"length of {column['name']}" if found.get("of") == "length" else str(column["name"])


def shifts(columns: Sequence[Facts], reference: str) -> Figure | None:
    """Columns by their population stability index, the usual bands marked."""
    ranked = sorted((one for one in columns if one.get("drift")), key=lambda one: -one["drift"]["psi"])[:_RANKED]
    if not ranked:
        return None
    bars = tuple(
        Bar(
            _subject(one, one["drift"]),
            one["drift"]["psi"],
            numbers.fixed(one["drift"]["psi"], 3),
            f"{one['name']}: {one['drift']['band']} shift",
            color=_MOVED[one["drift"]["band"]],
        )
        for one in ranked
    )
    highest = min(1.0, max(0.4, bars[0].value))
    told = f"Population stability index against {reference}: " + "; ".join(f"{b.label} {b.written}" for b in bars[:8])
    chart = NamedBars(bars, told, high=highest, pins=((0.1, "0.1 moderate"), (0.25, "0.25 large")))
    says = "Population stability index; below 0.1 a column counts as stable, above 0.25 as shifted. Bars end at 1."
    return figure(f"Drift from {reference}", chart, says, wide=FULL)


def distribution(column: Facts) -> Figure | None:
    """A histogram of numbers and moments (of lengths for lists), the commonest values of everything else."""
    top = column.get("top") or []
    holder = column["lengths"] if column["kind"] == "list" else column
    if column["kind"] == "list":
        return _histogram(holder, "Lengths of the lists", whole=True)
    if column.get("histogram") and (column.get("distinct") or 0) > len(top):
        return _histogram(column, "Distribution", whole="int" in column["dtype"])
    return top_values(column)


def top_values(column: Facts) -> Figure | None:
    """The commonest values with their shares of the filled rows, and how much is left."""
    top = column.get("top") or []
    if not top:
        return None
    bars = tuple(
        Bar(
            _name(one["value"]),
            one["share"],
            percent(one["share"]),
            f"{_name(one['value'], 200)}: {count(one['count'])} ({percent(one['share'])})",
        )
        for one in top
    )
    left = (column.get("distinct") or 0) - len(top)
    share = max(0.0, 1 - sum(one["share"] for one in top))
    says = f"{count(left)} other values have {percent(share)}." if left > 0 else "These are all values."
    of = "list elements" if column["kind"] == "list" else "rows"
    chart = NamedBars(bars, f"Commonest values of {column['name']}: " + ", ".join(bar.label for bar in bars))
    return figure(f"Commonest values, share of {of}", chart, says, wide=THIRD)


def _name(value: Any, longest: int = 44) -> str:
    if value is None:
        return "null"
    text = "(empty)" if value == "" else value_text(value) if not isinstance(value, int) else str(value)
    return shorten(text, longest * 7.0)


def _histogram(holder: Facts, title: str, whole: bool | str) -> Figure | None:
    found = holder.get("histogram")
    if not found:
        return None
    edges, x = _axis(found["edges"])
    outside = found["below"] + found["above"]
    total = (sum(found["counts"]) + outside) or 1
    shares = tuple(one / total for one in found["counts"])
    ranges = _ranges(found["edges"], bool(whole))
    tips = tuple(f"{r}: {count(n)} ({percent(n / total)})" for r, n in zip(ranges, found["counts"], strict=True))
    says = ""
    if outside:
        ends = f"{_end(holder['min'])} to {_end(holder['max'])}"
        says = f"{percent(outside / total)} of the rows lie outside of the picture; all: {ends}."
    told = f"{title}: {ranges[0].split(' to ')[0]} to {ranges[-1].split(' to ')[-1]}"
    return figure(title, Histogram(edges, shares, tips, x, told), says, wide=THIRD)


def _axis(edges: Sequence[Any]) -> tuple[tuple[float, ...], Axis]:
    """Edges as numbers, and the axis below them; moments are placed by their index and written as dates."""
    if edges and isinstance(edges[0], str):
        places = tuple(float(index) for index in range(len(edges)))
        same_day = edges[0][:10] == edges[-1][:10]
        chosen = (0, len(edges) // 2, len(edges) - 1)
        ticks = tuple((float(i), str(edges[i])[11:16] if same_day else str(edges[i])[:10]) for i in chosen)
        return places, Axis(ticks=ticks)
    return tuple(float(edge) for edge in edges), Axis(format=numbers.compact)


def _ranges(edges: Sequence[Any], whole: bool) -> list[str]:
    """What each bin holds, in words; bins of whole numbers lie between halves."""
    if edges and isinstance(edges[0], str):
        return [f"{low[:16]} to {high[:16]}" for low, high in pairwise(edges)]
    found = []
    for low, high in pairwise(edges):
        if whole and low % 1 == 0.5:
            found.append(value_text(int(low + 0.5)))
        elif whole and high - low >= 1 and low % 1 == 0:
            last = int(high) - 1
            found.append(value_text(int(low)) if last == low else f"{value_text(int(low))} to {value_text(last)}")
        else:
            found.append(f"{value_text(float(low))} to {value_text(float(high))}")
    return found


def _end(value: Any) -> str:
    return value[:16] if isinstance(value, str) else value_text(value)


def label_rates(column: Facts, label: Facts) -> Figure | None:
    """The label's rate (its mean, for numbers) by bin or value, with 95 % intervals and the overall one marked."""
    found = column.get("association")
    if not found or len(found["rates"]) < 2:
        return None
    is_rate = label["kind"] == "binary"
    write = percent if is_rate else numbers.significant
    rows = tuple(
        Interval(
            (name := _group(one, column)),
            one["rate"],
            one["low95"],
            one["high95"],
            write(one["rate"]),
            "c5" if one.get("others") or ("value" in one and one["value"] is None) else "c1",
            f"{name}: {write(one['rate'])}\n{write(one['low95'])} to {write(one['high95'])}\n{count(one['rows'])} rows",
        )
        for one in found["rates"]
    )
    overall = label["rate"] if is_rate else label["mean"]
    what = f"{label['column']} = {label['positive']}" if is_rate else label["column"]
    axis = Axis(f"Share of {what}" if is_rate else f"Mean of {what}", low=0 if is_rate else None, format=write)
    lines = "; ".join(f"{row.label} {row.written}" for row in rows)
    chart = Intervals(rows, axis, f"Label by {column['name']}: {lines}", (Pin(overall, f"all {write(overall)}"),))
    by = "length" if found["of"] == "length" else "value" if "value" in found["rates"][0] else "bin of equal size"
    return figure(f"{'Label rate' if is_rate else 'Label mean'} by {by}", chart, "Bars are 95 % intervals.", wide=THIRD)


def _group(one: Facts, column: Facts) -> str:
    if "value" in one:
        return str(one["value"]) if one.get("others") else _name(one["value"], 22)
    low, high = one["low"], one["high"]
    if isinstance(low, str):
        return low[:10] if low[:10] == high[:10] else f"from {low[:10]}"
    if low == high:
        return _bound(low)
    return f"{_bound(low)} to {_bound(high)}"


def _bound(value: float) -> str:
    return numbers.compact(value) if abs(value) >= 10_000 else numbers.significant(value, 4)


def overlay(column: Facts, names: tuple[str, str]) -> Figure | None:
    """The column's distribution with the reference's over it."""
    found = column.get("drift")
    if not found:
        return None
    says = f"Population stability index {numbers.fixed(found['psi'], 3)}, {found['band']}"
    says += f"; Kolmogorov-Smirnov {numbers.fixed(found['ks'], 3)}" if found.get("ks") is not None else ""
    says += f"; {percent(found['new_share'])} new values" if found.get("new_share") is not None else ""
    title = f"{'Lengths' if found['of'] == 'length' else 'Values'} against the reference"
    if "overlay" in found:
        return figure(title, _two_histograms(column, found["overlay"], names), says + ".", wide=THIRD)
    return None if not found.get("values") else figure(title, _two_bars(column, found, names), says + ".", wide=THIRD)


def _two_histograms(column: Facts, found: Facts, names: tuple[str, str]) -> Histogram:
    edges, x = _axis(found["edges"])
    shares = [tuple(one / (sum(found[key]) or 1) for one in found[key]) for key in ("current", "reference")]
    ranges = _ranges(found["edges"], "int" in column["dtype"] or column["kind"] == "list")
    tips = tuple(
        f"{told}\n{names[0]}: {percent(now)}\n{names[1]}: {percent(before)}"
        for told, now, before in zip(ranges, *shares, strict=True)
    )
    return Histogram(edges, shares[0], tips, x, f"{column['name']} in {names[0]} and {names[1]}", shares[1], names)


def _two_bars(column: Facts, found: Facts, names: tuple[str, str], shown: int = 10) -> NamedBars:
    now, before = (sum(one[key] for one in found["values"]) or 1 for key in ("current", "reference"))
    bars = []
    for one in found["values"][:shown]:
        label = "all others" if one.get("others") else _name(one["value"], 30)
        share, was = one["current"] / now, one["reference"] / before
        tip = f"{label}\n{names[0]}: {percent(share)}\n{names[1]}: {percent(was)}"
        bars.append(Bar(label, share, percent(share), tip, was))
    return NamedBars(tuple(bars), f"{column['name']} in {names[0]} and {names[1]}", names=names)
