"""The tables of a model card: metrics beside the baselines', and slices; of a metrics.json, as lines of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from training.registry.promotion import bounds, slices

Facts = Mapping[str, Any]
_NAMES = {"auc": "AUC", "logloss": "log loss", "ece": "calibration error (ECE)"}
_COUNTS = ("rows", "users", "pairs", "positives")


def metrics(facts: Facts, rows: int | None) -> Iterator[str]:
    """Yield the metrics of the held-out rows, the ranking, and what it does besides, each beside its baselines."""
    confidence = facts.get("confidence")
    told = f"{confidence:.0%} intervals, {facts['bootstrap']} resamples" if confidence else "intervals not computed"
    yield f"On {'an unknown number of' if rows is None else f'{rows:,}'} held-out test rows; {told}."
    if any(bounds(facts, place) for place in _NAMES):
        yield from _compared(facts, facts.get("baselines") or {}, list(_NAMES))
    ranking = facts.get("ranking") or {}
    if ranking.get("metrics"):
        yield from ("", f"Ranking, {ranking.get('protocol', 'protocol not recorded')}; {_users(ranking)}.")
        yield from _compared(ranking["metrics"], ranking.get("baselines") or {}, list(ranking["metrics"]))
    else:
        yield from ("", "Ranking: not measured, because the evaluation had no user and item ids to rank by.")
    beyond = facts.get("beyond_accuracy") or {}
    if places := [place for place in beyond if bounds(beyond, place)]:
        yield from ("", f"Of the first {beyond.get('k', '(number not recorded)')} items of each user.")
        yield from _compared(beyond, {}, [place for place in places if place != "k"])


def _users(ranking: Facts) -> str:
    return f"{ranking['users']:,} users" if "users" in ranking else "number of users not recorded"


def _compared(mine: Facts, baselines: Mapping[str, Facts], places: Sequence[str]) -> Iterator[str]:
    """Yield a table: a line for each metric, a column for the model and each baseline."""
    columns = {"this model": mine, **baselines}
    yield from _head("metric", *columns)
    for place in places:
        yield _line(_NAMES.get(place, place), *(_figure(found, place) for found in columns.values()))


def of_slices(facts: Facts) -> Iterator[str]:
    """Yield a table for each kind of slice; those too small to judge are counted below it."""
    found = list(slices(facts))
    if not found:
        yield "Not known: the evaluation has no slices, which take user and item ids among the features."
    for kind, group in groupby(found, key=lambda one: _kind(one[1])):
        members = list(group)
        judged = [(name, one) for name, one in members if "reason" not in one]
        if judged:
            named = dict.fromkeys(place for _, one in judged for place in one if bounds(one, place))
            places = [one for one in named if one not in _COUNTS and not one.endswith(("_low", "_high"))]
            yield from _head("slice", kind, *(_NAMES.get(place, place) for place in places))
            for name, one in judged:
                yield _line(name, f"{one[kind]:,}", *(_figure(one, place) for place in places))
            yield ""
        if len(judged) < len(members):
            reasons = ", ".join(dict.fromkeys(str(one["reason"]) for _, one in members if "reason" in one))
            yield f"{len(members) - len(judged)} slices of {kind} are not judged: {reasons}."
            yield ""


def _kind(found: Facts) -> str:
    return next((key for key in _COUNTS if key in found), "rows")


def _head(*titles: str) -> Iterator[str]:
    yield ""
    yield _line(*titles)
    yield _line(*("---" for _ in titles))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _figure(found: Facts, place: str) -> str:
    known = bounds(found, place)
    if known is None:
        return "not measured"
    value, low, high = known
    return f"{value:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low < high else " [no interval]")
