"""The charts of `mews compare`: each takes the comparison as JSON and returns a Figure, or None when it has nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mews.report import numbers
from mews.report.charts import Interval, Intervals, Lines, Series
from mews.report.data import points
from mews.report.figures import FULL, THIRD, Figure, figure
from mews.report.numbers import number
from mews.report.scatter import Cloud, Spot, Spots
from mews.report.svg import Axis

Facts = Mapping[str, Any]
QUALITY = ("ndcg@10", "auc")
"""What models are ranked by on the page: the first of these that was measured."""
_MODEL_COLORS = ("c1", "c2", "c3", "c4", "c6", "c7", "c8", "c9", "c10")
_BASELINE_COLORS = ("c5", "c2", "c3", "c4", "c1", "c6")
_GROUPS = ("c1", "c2", "c3", "c4", "c6", "c5", "muted")


def measured(compared: Facts) -> list[Facts]:
    """The entries that have figures, models first."""
    found = [entry for entry in compared["entries"] if entry["status"] == "measured"]
    return sorted(found, key=lambda entry: entry["kind"] != "model")


def looks(compared: Facts) -> dict[str, tuple[str, bool]]:
    """The colour class of every entry's lines, and whether they are dashed: baselines, and models past the ninth."""
    found = {}
    for kind, palette in (("model", _MODEL_COLORS), ("baseline", _BASELINE_COLORS)):
        names = [entry["name"] for entry in measured(compared) if entry["kind"] == kind]
        for place, name in enumerate(names):
            found[name] = palette[place % len(palette)], kind == "baseline" or place >= len(palette)
    return found


def value(entry: Facts, metric: str, bound: str = "value") -> float | None:
    """A metric of an entry, or an end of its interval."""
    return number((entry["metrics"].get(metric) or {}).get(bound))


def quality(compared: Facts) -> str | None:
    """The metric by which models are ranked."""
    return next((name for name in QUALITY if any(value(one, name) is not None for one in measured(compared))), None)


def standing(compared: Facts, metric: str, title: str) -> Figure | None:
    """Every entry's value of a metric with its interval, the best first."""
    look, rows = looks(compared), []
    for entry in measured(compared):
        at = value(entry, metric)
        if at is not None:
            low, high = (found if (found := value(entry, metric, end)) is not None else at for end in ("low", "high"))
            tip = f"{entry['name']}: {title} {numbers.fixed(at)} ({numbers.fixed(low)} to {numbers.fixed(high)})"
            color = "c5" if entry["kind"] == "baseline" else look[entry["name"]][0]
            rows.append(Interval(entry["name"], at, low, high, numbers.fixed(at), color, tip))
    if not rows:
        return None
    rows.sort(key=lambda row: -row.value)
    chart = Intervals(tuple(rows), Axis(title), f"{title}: " + "; ".join(row.tip for row in rows))
    share = numbers.percent(compared["confidence"])
    says = f"Bars are {share} intervals: where two overlap widely, the order may be chance."
    return figure(f"{title}, best first", chart, says)


def learning(compared: Facts) -> Figure | None:
    """Validation loss of every model by epoch, over that of its first epoch."""
    look, series, last = looks(compared), [], 1
    for entry in measured(compared):
        losses = [(float(one["epoch"]), number(one.get("valid_loss"))) for one in entry.get("history") or ()]
        first = losses[0][1] if losses else None
        if first:
            steps = tuple((epoch, loss / first) for epoch, loss in losses if loss is not None)
            color, dash = look[entry["name"]]
            series.append(Series(entry["name"], steps, color, dash=dash, markers=True))
            last = max(last, int(steps[-1][0]))
    if not series:
        return None
    shown = range(1, last + 1, max(1, last // 8))
    x = Axis("Epoch", low=0.9, high=last + 0.1, ticks=tuple((float(one), str(one)) for one in shown))
    y = Axis("Validation loss over that of the first epoch")
    chart = Lines(tuple(series), x, y, "Validation loss by epoch", key="above", height=360)
    says = "A line that turns up has begun to learn by heart; the lowest point is kept. Models do not share one loss."
    return figure("Learning curves", chart, says, wide=THIRD)


def recall(compared: Facts) -> Figure | None:
    """Recall at k of every entry."""
    series = _curves(compared, "recall_at", "k", "recall", markers=True)
    if not series:
        return None
    places = sorted({k for one in series for k, _ in one.points})
    x = Axis("k, the length of the list (log scale)", log=True, ticks=tuple((k, f"{k:g}") for k in places))
    y = Axis("Recall", low=0, format=numbers.percent)
    says = "The share of a user's held-out items among the first k shown: the higher, the better. Baselines are dashed."
    return figure("Recall at k", Lines(tuple(series), x, y, "Recall at k: " + _ends(series), height=330), says)


def coverage(compared: Facts) -> Figure | None:
    """Share of items that anybody is shown, against accuracy."""
    metric = quality(compared)
    if metric is None:
        return None
    title = {"ndcg@10": "NDCG@10", "auc": "AUC"}[metric]
    says = "Up is more accurate, right shows more of the catalogue; vertical bars are intervals."
    x = Axis("Coverage: share of the items shown to anybody", low=0, format=numbers.percent)
    return _spots(compared, metric, title, lambda entry: value(entry, "coverage"), x, "Coverage against accuracy", says)


def cost(compared: Facts) -> Figure | None:
    """Seconds of training against accuracy."""
    metric = quality(compared)
    if metric is None:
        return None
    title = {"ndcg@10": "NDCG@10", "auc": "AUC"}[metric]
    says = "Up is more accurate, left is cheaper: what lies below and to the right of another costs more for less."
    x = Axis("Training time (log scale)", log=True, format=numbers.seconds)
    return _spots(compared, metric, title, lambda entry: number(entry["train_seconds"]) or None, x, "Cost", says)


def _spots(
    compared: Facts, metric: str, title: str, across: Callable[[Facts], float | None], x: Axis, name: str, says: str
) -> Figure | None:
    look, spots = looks(compared), []
    for entry in measured(compared):
        right, up = across(entry), value(entry, metric)
        if right is not None and up is not None:
            color = "c5" if entry["kind"] == "baseline" else look[entry["name"]][0]
            tip = f"{entry['name']}: {title} {numbers.fixed(up)}, {x.label.partition(':')[0].lower()} {x.format(right)}"
            low, high = (value(entry, metric, end) for end in ("low", "high"))
            spots.append(Spot(entry["name"], right, up, low, high, color, tip))
    if len(spots) < 2:
        return None
    told = f"{name}: " + "; ".join(spot.tip for spot in spots)
    return figure(name, Spots(tuple(spots), x, Axis(title), told, height=330), says)


def roc(compared: Facts) -> Figure | None:
    """True against false positives."""
    series = _curves(compared, "roc", "fpr", "tpr", worth="auc")
    x, y = (Axis(label, low=0, high=1) for label in ("False positive rate", "True positive rate"))
    says = "The further above the diagonal, the better clicks and others are told apart; the area is beside each name."
    return _with_reference("ROC", series, ((0.0, 0.0), (1.0, 1.0)), "chance", x, y, says)


def precision(compared: Facts) -> Figure | None:
    """Precision by recall."""
    series = _curves(compared, "pr", "recall", "precision")
    rate = number(compared["data"].get("click_rate"))
    x, y = Axis("Recall", low=0, high=1), Axis("Precision", low=0)
    says = "Of the rows taken from the top, how many were clicks, as more of all clicks are taken in: higher is better."
    level = ((0.0, rate), (1.0, rate)) if rate else ()
    return _with_reference("Precision and recall", series, level, "click rate", x, y, says)


def calibration(compared: Facts) -> Figure | None:
    """Observed rate by mean score."""
    series = _curves(compared, "calibration", "predicted", "observed", markers=True)
    top = max((max(point) for one in series for point in one.points), default=1.0) * 1.05
    x, y = (Axis(label, low=0, high=top) for label in ("Mean predicted score", "Share of clicks"))
    says = "On the diagonal a score of 0.3 means 30 clicks in 100; below it the model promises too much."
    return _with_reference("Calibration", series, ((0.0, 0.0), (top, top)), "perfect", x, y, says)


def gain(compared: Facts) -> Figure | None:
    """Share of the clicks found by the share of rows taken."""
    series = _curves(compared, "gain", "share", "found")
    x, y = (
        Axis(label, low=0, high=1, format=numbers.percent)
        for label in ("Rows taken, best first", "Share of all clicks")
    )
    says = "Where a line is at 20 % of the rows, so many of the clicks lie in the best fifth."
    return _with_reference("Gain", series, ((0.0, 0.0), (1.0, 1.0)), "by chance", x, y, says)


def lift(compared: Facts) -> Figure | None:
    """Click rate of the rows taken, over that of all."""
    series = _curves(compared, "lift", "share", "lift")
    x, y = Axis("Rows taken, best first", low=0, high=1, format=numbers.percent), Axis("Lift", low=0)
    says = "How many times the average click rate the rows taken have; every line ends at 1."
    return _with_reference("Lift", series, ((0.0, 1.0), (1.0, 1.0)), "by chance", x, y, says)


def item_map(compared: Facts) -> Figure | None:
    """The items of the best model that has vectors, in two dimensions."""
    metric = quality(compared) or ""
    able = [entry for entry in measured(compared) if entry.get("map")]
    if not able:
        return None
    entry = max(able, key=lambda one: value(one, metric) or 0.0)
    found = entry["map"]
    groups = tuple(zip(found["groups"], (*_GROUPS[: len(found["groups"]) - 1], "muted"), strict=True))
    spots = tuple((x, y, int(group), name) for x, y, group, name in found["points"])
    told = f"{len(spots)} items of {entry['name']} by {found['column']}"
    share = numbers.percent(found["explained"])
    says = (
        f"Item vectors of {entry['name']} on their two main axes ({share} of their variance), coloured by "
        f"{found['column']}: items that lie together go to the same people; clusters of one colour show that the model "
        "has found the category in the behaviour alone, or was told it."
    )
    return figure("Map of the items", Cloud(spots, groups, told), says, wide=FULL)


def _curves(
    compared: Facts, curve: str, across: str, up: str, *, markers: bool = False, worth: str = ""
) -> list[Series]:
    look, series = looks(compared), []
    for entry in measured(compared):
        found = points((entry.get("curves") or {}).get(curve), across, up)
        if found:
            color, dash = look[entry["name"]]
            amount = value(entry, worth) if worth else None
            name = entry["name"] if amount is None else f"{entry['name']} {numbers.fixed(amount, 3)}"
            series.append(Series(name, tuple(found), color, dash=dash, markers=markers))
    return series


def _with_reference(
    title: str,
    series: Sequence[Series],
    reference: Iterable[tuple[float, float]],
    name: str,
    x: Axis,
    y: Axis,
    says: str,
) -> Figure | None:
    if not series:
        return None
    line = Series(name, tuple(reference), "muted", dash=True, silent=True)
    chart = Lines((*series, line), x, y, f"{title}: {_ends(series)}", key="above", height=360)
    return figure(title, chart, f"{says} The thin dashed line is {name}.", wide=THIRD)


def _ends(series: Sequence[Series]) -> str:
    return "; ".join(one.name for one in series)
