"""The figures at the top of the report, each with what was aimed at and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.goals import FLOOR, PREPROCESSING_THROUGHPUT, STOCK_LATENCY, STOCK_THROUGHPUT, Goal
from mews.report import numbers
from mews.report.data import Measured, ReportData, Serving, first, mapping
from mews.report.figures import same_load, target_name
from mews.report.numbers import number

AUC_GAP = 0.02
"""How far below the best reachable AUC a model may be."""


@dataclass(frozen=True)
class Card:
    """A figure at the top of the page; `good` is None when there is nothing to judge."""

    label: str
    value: str
    detail: str
    good: bool | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Ratio:
    """Two measured targets compared, with the aim."""

    label: str
    value: str
    aim: str
    good: bool


def cards(data: ReportData) -> list[Card]:
    """All figures that the run has."""
    makers: tuple[Callable[[ReportData], Card | None], ...] = (_rows, _auc, _parity, _latency, _throughput, _seconds)
    return [card for make in makers if (card := make(data)) is not None]


def ratios(serving: Serving) -> list[Ratio]:
    """The served model against the floor and against stock Merlin, from the same run."""
    found = []
    mine = _mine(serving)
    single = {one.target: one.p50_us for one in same_load(serving, 1, 1)}
    many = max(one.concurrency for one in serving.results)
    busy = {one.target: one.requests_per_s for one in same_load(serving, many, 1)}
    p50, rate = single.get(mine), busy.get(mine)
    name = target_name(mine)
    if p50 and (floor := single.get("identity")):
        found.append(_ratio(f"p50 of {name} over the floor", p50 / floor, FLOOR))
    stock = next((one for one in ("stock", "stock_preprocessing") if single.get(one)), "stock")
    if p50 and (theirs := single.get(stock)):
        found.append(_ratio(f"p50 of {target_name(stock)} over {name}", theirs / p50, STOCK_LATENCY))
    if rate and (their_rate := busy.get(stock)):
        label = f"requests/s of {name} over {target_name(stock)}, {many} clients"
        goal = STOCK_THROUGHPUT if stock == "stock" else PREPROCESSING_THROUGHPUT
        found.append(_ratio(label, rate / their_rate, goal))
    return found


def best_auc(data: ReportData) -> float | None:
    """The best reachable AUC, where it is known."""
    return number({**mapping(data.summary.get("model")), **data.metrics}.get("auc_best"))


def parity_aim() -> float:
    """The largest difference between a served and an offline score that the run itself lets pass."""
    from mews.stages.serving import TOLERANCE  # loads Polars, which a report without parity needs not

    return TOLERANCE


def _ratio(label: str, value: float, goal: Goal) -> Ratio:
    aim = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g} ×"
    return Ratio(label, f"{numbers.significant(value)} ×", aim, goal.met(value))


def _mine(serving: Serving) -> str:
    """The target that the cards speak of: the fused ensemble, else the chained one, else the first measured."""
    targets = [one.target for one in serving.results]
    return next((name for name in ("fused", "chained") if name in targets), targets[0])


def _rows(data: ReportData) -> Card | None:
    found = mapping(data.summary.get("data"))
    rows = number(
        first(found, "rows")
        or first(data.validation, "rows")
        or first(data.profile, "rows")
        or data.dataset.get("rows")
    )
    source = str(first(found, "source") or data.dataset.get("name") or "")
    if rows is None:
        return None
    refused = number(data.validation.get("quarantined"))
    failed = [check.name for check in data.checks if check.status == "FAIL"]
    verdict = f"{numbers.count(refused)} in quarantine" if refused else "no row refused" if refused == 0 else ""
    return Card("Rows", numbers.count(rows), source, False if failed else None if refused else True, verdict)


def _auc(data: ReportData) -> Card | None:
    found = {**mapping(data.summary.get("model")), **data.metrics}
    auc, low, high = (number(found.get(key)) for key in ("auc", "auc_low", "auc_high"))
    if auc is None:
        return None
    detail = "" if low is None or high is None else f"{numbers.fixed(low)} to {numbers.fixed(high)}"
    best = best_auc(data)
    if best is None:
        return Card("AUC", numbers.fixed(auc), detail)
    gap = max(0.0, best - auc)
    return Card(
        "AUC",
        numbers.fixed(auc),
        detail,
        gap <= AUC_GAP,
        f"{numbers.fixed(gap)} below the best reachable, {numbers.fixed(best)}",
    )


def _parity(data: ReportData) -> Card | None:
    http, grpc = (number(data.parity.get(f"{protocol}_max_abs_diff")) for protocol in ("http", "grpc"))
    differences = [found for found in (http, grpc) if found is not None]
    if not differences:
        return None
    rows = number(data.parity.get("rows"))
    detail = f"over {numbers.count(rows)} rows" if rows else ""
    worst = max(differences)
    aim = parity_aim()
    return Card(
        "Served against offline",
        numbers.significant(worst, 2),
        f"largest difference {detail}".strip(),
        worst <= aim,
        f"at most {numbers.significant(aim)}",
    )


def _latency(data: ReportData) -> Card | None:
    if data.serving is None:
        return None
    mine = _mine(data.serving)
    p50 = _of(same_load(data.serving, 1, 1), mine)
    if p50 is None or p50.p50_us is None:
        return None
    compared = [ratio for ratio in ratios(data.serving) if ratio.label.startswith("p50 of") and "floor" in ratio.label]
    verdict = f"{compared[0].value} the floor" if compared else ""
    detail = f"{target_name(mine)}, one row; p99 {numbers.microseconds(p50.p99_us)}"
    return Card(
        "Median latency", numbers.microseconds(p50.p50_us), detail, compared[0].good if compared else None, verdict
    )


def _throughput(data: ReportData) -> Card | None:
    if data.serving is None:
        return None
    mine = _mine(data.serving)
    rows = [one for one in same_load(data.serving) if one.target == mine and one.rows_per_s]
    if not rows:
        return None
    crowd = max((one for one in rows if one.batch == 1), key=lambda one: one.concurrency, default=rows[0])
    best = max(rows, key=lambda one: one.rows_per_s or 0.0)
    detail = f"{target_name(mine)}, {crowd.concurrency} clients, rows one by one"
    if best.batch > 1:
        detail += f"; {numbers.compact(best.rows_per_s)} rows/s by {best.batch}"
    compared = [ratio for ratio in ratios(data.serving) if ratio.label.startswith("requests/s")]
    theirs = compared[0].label.partition(" over ")[2].rpartition(", ")[0] if compared else ""
    verdict = f"{compared[0].value} {theirs}" if compared else ""
    value = f"{numbers.compact(crowd.requests_per_s)}/s"
    return Card("Throughput", value, detail, compared[0].good if compared else None, verdict)


def _seconds(data: ReportData) -> Card | None:
    if not data.seconds:
        return None
    reused = data.summary.get("cached")
    total = sum(taken for name, taken in data.seconds.items() if name != "total")
    if not reused:  # a run that skipped finished stages took less than the work that made it
        total = data.seconds.get("total", total)
    memory = number(data.summary.get("peak_rss_mb"))
    detail = f"peak memory {numbers.size(memory * 1024 * 1024)}" if memory else f"{len(data.seconds)} stages"
    return Card("Wall time", numbers.seconds(total), detail)


def _of(rows: list[Measured], target: str) -> Measured | None:
    return next((one for one in rows if one.target == target), None)
