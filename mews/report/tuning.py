"""The page of `mews tune`: the trials in order, how each learned, and which settings mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mews.report.bars import Bar, NamedBars
from mews.report.charts import Lines, Point, Series
from mews.report.document import document
from mews.report.figures import Figure, figure
from mews.report.numbers import count, fixed, percent, seconds
from mews.report.svg import Axis

Answer = Mapping[str, Any]
_ENDED = {
    "trials": "the number of trials was reached",
    "seconds": "the time was spent",
    "space": "every point of the space was tried",
}


@dataclass(frozen=True)
class Row:
    """A trial in the table: texts, in the order of the columns; `best` marks the winner."""

    number: str
    state: str
    value: str
    epochs: str
    seconds: str
    settings: tuple[tuple[str, str], ...]
    failure: str
    best: bool


def page(answer: Answer) -> str:
    """Return the HTML page of what `mews tune` answered."""
    figures = [_history(answer), _curves(answer), _importance(answer)]
    return document(
        "tune.html.j2",
        "describe.css",
        answer=answer,
        cards=_cards(answer),
        figures=[one for one in figures if one is not None],
        rows=[_row(trial, answer) for trial in answer["trials"]],
        unimportant=not answer["importance"],
    )


def _cards(answer: Answer) -> list[tuple[str, str, str]]:
    trials, best, baseline = answer["trials"], answer["best"], answer["baseline"]
    states = [trial["state"] for trial in trials]
    detail = ", ".join(
        f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed") if state in states
    )
    now = fixed(baseline["value"], 5) if baseline and baseline["value"] is not None else "–"
    said = "its first trial" if baseline else "outside of the space, not tried"
    return [
        (f"Best {answer['metric']}", fixed(best["value"], 5), f"trial {best['trial']}, on the validation rows"),
        ("Configured before", now, said),
        ("Trials", count(len(trials)), detail),
        ("Time", seconds(sum(trial["seconds"] for trial in trials)), _ENDED[answer["ended"]]),
    ]


def _history(answer: Answer) -> Figure | None:
    """The value of each trial, and the best so far."""
    points = [(float(t["trial"]), t["value"]) for t in answer["trials"] if t["value"] is not None]
    ended = [(float(t["trial"]), t["value"]) for t in answer["trials"] if t["state"] == "complete"]
    if not ended:
        return None
    pick = min if answer["direction"] == "minimize" else max
    best: list[Point] = []
    for number, value in ended:
        best.append((number, value if not best else pick(best[-1][1], value)))
    series = (Series("each", tuple(points), "muted", markers=True), Series("best", tuple(best), "c1"))
    ticks = tuple((number, f"{number:.0f}") for number, _ in points)
    chart = Lines(
        series,
        Axis("trial", high=points[-1][0] or None, ticks=ticks),
        Axis(answer["metric"]),
        "The metric of each trial, in order",
    )
    return figure("Trials in order", chart, "Where the line is flat, more trials found nothing better.")


def _curves(answer: Answer) -> Figure | None:
    """The metric after each epoch of every trial; the best and what was configured stand out."""
    best, baseline = answer["best"]["trial"], (answer["baseline"] or {}).get("trial")
    series = []
    for trial in sorted(answer["trials"], key=lambda one: (one["trial"] == best, one["trial"] == baseline)):
        points = tuple(_points(trial, answer["metric"]))
        if not points:
            continue
        name = "best" if trial["trial"] == best else "before" if trial["trial"] == baseline else str(trial["trial"])
        color = {"best": "c1", "before": "c2"}.get(name, "muted")
        series.append(Series(name, points, color, dash=trial["state"] == "pruned", silent=color == "muted"))
    if not series:
        return None
    epochs = sorted({x for one in series for x, _ in one.points})
    x_axis = Axis("epoch", ticks=tuple((epoch, f"{epoch:.0f}") for epoch in epochs))
    chart = Lines(tuple(series), x_axis, Axis(answer["metric"]), "The metric after each epoch, of every trial")
    return figure("How they learned", chart, "Grey: the other trials; dashed: ended early.")


def _points(trial: Mapping[str, Any], metric: str) -> Sequence[Point]:
    found = []
    for epoch in trial["history"]:
        value = epoch["valid_loss"] if metric == "loss" else epoch["valid"].get(metric)
        if value is not None and math.isfinite(value):
            found.append((float(epoch["epoch"]), float(value)))
    return found


def _importance(answer: Answer) -> Figure | None:
    if not answer["importance"]:
        return None
    bars = tuple(
        Bar(key.removeprefix("model."), share, percent(share), f"{key}: {percent(share)} of the variance")
        for key, share in answer["importance"].items()
    )
    chart = NamedBars(bars, "Share of the variance that each setting explains", high=1.0)
    says = "Share of the metric's variance over the complete trials that each setting explains (fANOVA)."
    return figure("What mattered", chart, says)


def _row(trial: Mapping[str, Any], answer: Answer) -> Row:
    flat: dict[str, Any] = {}
    for key, value in trial["settings"].items():
        flat |= value if isinstance(value, dict) else {key.removeprefix("model."): value}
    texts = tuple((key, f"{value:.3g}" if isinstance(value, float) else str(value)) for key, value in flat.items())
    return Row(
        str(trial["trial"]),
        trial["state"],
        fixed(trial["value"], 5),
        str(len(trial["history"])),
        seconds(trial["seconds"]),
        texts,
        trial["failure"],
        trial["trial"] == answer["best"]["trial"],
    )
