"""Whether a version may become the champion: not worse than it beyond chance, and no slice collapsed.

Where both versions scored the same rows, the difference is judged row by row (AUC: DeLong, Biometrics 1988; log loss:
the mean difference of the rows' losses); else their intervals must not lie apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.data import Array
from training.registry.config import RegistryConfig

LOWER_IS_BETTER = ("logloss", "loss", "ece")
_CLICK = ("auc", "logloss")
_SMALLEST = 1e-7
_FEW = 3


@dataclass(frozen=True)
class Judged:
    """A version's metrics.json, and, where they were kept, its scores and labels [rows]; `rows` names those rows."""

    metrics: Mapping[str, Any]
    rows: str = ""
    labels: Array | None = None
    scores: Array | None = None


@dataclass(frozen=True)
class Compared:
    """One metric of both versions: `low` and `high` bound the difference, the candidate's less the champion's."""

    metric: str
    slice: str
    how: str
    candidate: float
    champion: float
    low: float
    high: float
    worse: bool


@dataclass(frozen=True)
class Verdict:
    """Whether the version may be promoted, and why not."""

    reasons: tuple[str, ...]
    compared: tuple[Compared, ...]

    @property
    def allowed(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons

    @property
    def told(self) -> str:
        """The first reasons, and how many there are besides."""
        more = len(self.reasons) - _FEW
        return "; ".join(self.reasons[:_FEW]) + (f"; and {more} reasons more" if more > 0 else "")

    def to_json(self) -> dict[str, Any]:
        """Return {allowed, reasons, compared}."""
        compared = [asdict(one) for one in self.compared]
        return {"allowed": self.allowed, "reasons": list(self.reasons), "compared": compared}


def judge(candidate: Judged, champion: Judged | None, config: RegistryConfig, confidence: float = 0.95) -> Verdict:
    """Compare two versions; without a champion, it is enough that the candidate was evaluated."""
    names = _names(candidate.metrics, config)
    if not names or (unknown := [name for name in config.metrics if name not in names]):
        wanted = ", ".join(unknown if names else config.metrics or _CLICK)
        return Verdict((f"it was not evaluated by {wanted}",), ())
    if champion is None:
        return Verdict((), ())
    missing = [name for name in names if bounds(champion.metrics, name) is None]
    reasons = [f"the champion has no {name} to compare with" for name in missing]
    compared = [_compare(name, candidate, champion, confidence) for name in names if name not in missing]
    reasons += [_says(one) for one in compared if one.worse]
    for one in _slices(candidate, champion, names, config):
        compared.append(one)
        reasons += [f"the slice {one.slice} collapsed: {_says(one)}"] if one.worse else []
    return Verdict(tuple(reasons), tuple(compared))


def _names(metrics: Mapping[str, Any], config: RegistryConfig) -> list[str]:
    ranked = (metrics.get("ranking") or {}).get("metrics") or {}
    ndcg = [f"ranking.metrics.{name}" for name in ranked if name.startswith("ndcg")]
    wanted = config.metrics or [name for name in _CLICK if name in metrics] or ndcg
    return [name for name in wanted if bounds(metrics, name) is not None]


def bounds(metrics: Mapping[str, Any], name: str) -> tuple[float, float, float] | None:
    """Return (value, low, high) of a metric at its place; the value for ends that were not computed, None without one.

    It is written as {value, low, high}, or as name, name_low and name_high.
    """
    *sections, leaf = name.split(".")
    for section in sections:
        metrics = metrics.get(section) or {}
    inner = metrics.get(leaf)
    if not isinstance(inner, Mapping):
        inner = {"value": inner, "low": metrics.get(f"{leaf}_low"), "high": metrics.get(f"{leaf}_high")}
    value = inner.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    low, high = (value if inner.get(end) is None else inner[end] for end in ("low", "high"))
    return float(value), float(low), float(high)


def _compare(name: str, candidate: Judged, champion: Judged, confidence: float) -> Compared:
    mine, theirs = _known(candidate.metrics, name), _known(champion.metrics, name)
    low, high, how = _paired(name, candidate, champion, confidence) or (*_apart(mine, theirs), "intervals")
    return Compared(name, "", how, mine[0], theirs[0], low, high, _worse(name, low, high))


def _known(metrics: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    found = bounds(metrics, name)
    assert found is not None, name
    return found


def _apart(mine: tuple[float, float, float], theirs: tuple[float, float, float]) -> tuple[float, float]:
    """Bounds of the difference such that it is certain only where the two intervals lie apart."""
    return mine[1] - theirs[2], mine[2] - theirs[1]


def _worse(name: str, low: float, high: float) -> bool:
    return low > 0 if name in LOWER_IS_BETTER else high < 0


def _paired(name: str, candidate: Judged, champion: Judged, confidence: float) -> tuple[float, float, str] | None:
    """The interval of the difference on the same rows, None where there are none or the metric has no such test."""
    if name not in ("auc", "logloss") or not candidate.rows or candidate.rows != champion.rows:
        return None
    mine, theirs, labels = candidate.scores, champion.scores, candidate.labels
    if mine is None or theirs is None or labels is None or mine.shape != theirs.shape or mine.shape != labels.shape:
        return None
    from scipy.stats import norm

    difference, error = (_auc_difference if name == "auc" else _loss_difference)(labels, mine, theirs)
    reach = float(norm.ppf(0.5 + confidence / 2)) * error
    return difference - reach, difference + reach, "same rows"


def _loss_difference(labels: Array, mine: Array, theirs: Array) -> tuple[float, float]:
    def losses(scores: Array) -> Array:
        clipped = np.clip(scores.astype("float64"), _SMALLEST, 1 - _SMALLEST)
        return np.where(labels > 0, -np.log(clipped), -np.log1p(-clipped))

    found = losses(mine) - losses(theirs)
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found)))


def _auc_difference(labels: Array, mine: Array, theirs: Array) -> tuple[float, float]:
    """DeLong's variance of the difference of two AUCs on the same rows, from ranks (Sun and Xu, 2014)."""
    from scipy.stats import rankdata

    positive = labels > 0
    clicks, others = int(positive.sum()), int((~positive).sum())
    of_clicks, of_others = np.empty((2, clicks)), np.empty((2, others))
    for row, scores in enumerate((mine, theirs)):
        ranks = rankdata(scores)
        of_clicks[row] = (ranks[positive] - rankdata(scores[positive])) / others
        of_others[row] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / clicks
    difference = of_clicks.mean(1) @ (1, -1)
    variance = sum(np.var(found[0] - found[1], ddof=1) / found.shape[1] for found in (of_clicks, of_others))
    return float(difference), float(np.sqrt(variance))


def _slices(candidate: Judged, champion: Judged, names: list[str], config: RegistryConfig) -> Iterator[Compared]:
    """Yield each metric of the slices that both have: worse by more than the limit, and beyond their intervals."""
    known = dict(slices(champion.metrics))
    for called, mine in slices(candidate.metrics):
        theirs = known.get(called, {})
        if min(_size(mine), _size(theirs)) < config.min_slice_rows:
            continue
        for name in (place.rpartition(".")[2] for place in names):
            now, before = bounds(mine, name), bounds(theirs, name)
            if now is not None and before is not None:
                low, high = _apart(now, before)
                drop = (now[0] - before[0]) * (1 if name in LOWER_IS_BETTER else -1)
                worse = drop > config.max_slice_drop and _worse(name, low, high)
                yield Compared(name, called, "intervals", now[0], before[0], low, high, worse)


def slices(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (name, metrics and size) of every slice in a metrics.json: of rows, and of what else was divided."""
    found = metrics.get("slices") or ()
    for of, listed in found.items() if isinstance(found, Mapping) else (("rows", found),):
        for one in listed if isinstance(listed, list) else ():
            yield f"{one['by']} = {one['value']}" + (f" ({of})" if of != "rows" else ""), one


def _size(found: Mapping[str, Any]) -> int:
    return int(next((found[key] for key in ("rows", "users", "pairs") if key in found), 0))


def _says(one: Compared) -> str:
    return (
        f"{one.metric} {one.candidate:.4f} is worse than the champion's {one.champion:.4f} "
        f"(difference {one.low:+.4f} to {one.high:+.4f}, {one.how})"
    )
