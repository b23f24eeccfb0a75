"""The report's charts: each function takes the data and returns a Figure, or None when there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from markupsafe import Markup

from mews.report import numbers
from mews.report.charts import Interval, Intervals, Lines, Pin, Series, Timeline
from mews.report.data import Bin, Epoch, Json, Measured, ReportData, Serving, mapping, numbered, points, records
from mews.report.numbers import number
from mews.report.svg import Axis

WIDE, FULL, THIRD, NARROW = 548.0, 1144.0, 352.0, 336.0
TARGETS = {
    "fused": ("fused", "c1"),
    "chained": ("chained", "c3"),
    "identity": ("floor (identity)", "c5"),
    "stock": ("stock Merlin", "c2"),
    "stock_preprocessing": ("stock Merlin, preprocessing", "c2"),
    "packed": ("packed", "c4"),
    "fused_json": ("fused, JSON", "c6"),
    "fastapi_nvtabular": ("FastAPI, NVTabular, TensorFlow", "muted"),
    "fastapi_onnx": ("FastAPI by hand", "muted"),
    "litserve": ("LitServe", "muted"),
    "bentoml": ("BentoML", "muted"),
    "tensorflow": ("TensorFlow alone", "muted"),
}
_SPARE = ("c4", "c6", "muted")


class Chart(Protocol):
    """Anything that can be drawn at a width."""

    def draw(self, width: float) -> Markup:
        """The chart as SVG, `width` pixels wide."""
        ...


@dataclass(frozen=True)
class Figure:
    """A chart with its title and one line on how to read it, drawn for a desk and for a phone."""

    title: str
    says: str
    wide: Markup
    narrow: Markup
    full: bool = False


def figure(title: str, chart: Chart, says: str = "", *, wide: float = WIDE) -> Figure:
    """Draw `chart` at `wide` and for a phone; a FULL figure takes the whole row of the page."""
    return Figure(title, says, chart.draw(wide), chart.draw(NARROW), wide == FULL)


def target_name(target: str) -> str:
    """What a benchmark target is called in the report."""
    return TARGETS.get(target, (target, ""))[0]


def _colors(targets: Sequence[str]) -> dict[str, str]:
    spare = iter(_SPARE * len(targets))
    return {target: TARGETS[target][1] if target in TARGETS else next(spare) for target in targets}


def timeline(data: ReportData) -> Figure | None:
    """How long every stage took, in the order they ran."""
    stages = tuple((name.replace("_", " "), taken) for name, taken in data.seconds.items() if name != "total")
    if not stages:
        return None
    longest = max(stages, key=lambda stage: stage[1])
    total = numbers.seconds(sum(taken for _, taken in stages))
    told = "; ".join(f"{name} {numbers.seconds(taken)}" for name, taken in stages)
    chart = Timeline(stages, numbers.seconds, f"Seconds per stage: {told}")
    return figure(
        "Where the time went", chart, f"{total} of work in {len(stages)} stages; {longest[0]} took the most.", wide=FULL
    )


def label_rate(data: ReportData) -> Figure | None:
    """The share of positive labels, day by day."""
    rows = mapping(data.profile.get("label")).get("by_day")
    listed = [(str(row.get("day", "")), number(row.get("rate"))) for row in records(rows)]
    shown = [(when, rate) for when, rate in listed if rate is not None]
    if len(shown) < 2:
        return None
    series = Series("label rate", tuple((float(index), rate) for index, (_, rate) in enumerate(shown)), fill=True)
    ticks = tuple((float(index), when) for index, (when, _) in enumerate(shown))
    x = Axis("", low=0, high=len(shown) - 1, ticks=ticks)
    y = Axis("Share of rows with label 1", low=0, format=numbers.percent)
    rates = [rate for _, rate in shown]
    span = f"from {numbers.percent(min(rates))} to {numbers.percent(max(rates))}"
    chart = Lines(
        (series,), x, y, f"Label rate over time, {span}, {shown[0][0]} to {shown[-1][0]}", key="none", height=210
    )
    return figure("Label rate over time", chart, f"{len(shown)} days, {span}.", wide=FULL)


def learning(data: ReportData) -> list[Figure]:
    """Loss and validation AUC by epoch, the kept epoch marked."""
    epochs = data.epochs
    pins = () if data.best_epoch is None else (Pin(data.best_epoch, "kept"),)
    numbers_seen = [epoch.number for epoch in epochs]
    room = 0.04 * max(1.0, max(numbers_seen, default=1) - min(numbers_seen, default=0))
    x = Axis(
        "Epoch",
        low=min(numbers_seen, default=0) - room,
        high=max(numbers_seen, default=1) + room,
        ticks=tuple((value, f"{value:g}") for value in numbers_seen),
    )
    train = Series("train", _by_epoch(epochs, "loss"), "c5", markers=True)
    valid = Series("valid", _by_epoch(epochs, "val_loss"), "c1", markers=True)
    auc = Series("valid AUC", _by_epoch(epochs, "val_auc"), "c1", markers=True)
    figures = []
    if train.points or valid.points:
        chart = Lines(
            (train, valid), x, Axis("Log loss"), "Training and validation loss by epoch", pins=pins, height=250
        )
        figures.append(figure("Loss by epoch", chart, "The gap between the lines is what the model memorised."))
    if auc.points:
        chart = Lines((auc,), x, Axis("AUC"), "Validation AUC by epoch", key="none", pins=pins, height=250)
        best = max(level for _, level in auc.points)
        figures.append(figure("Validation AUC by epoch", chart, f"Best {numbers.fixed(best)}."))
    return figures


def _by_epoch(epochs: Sequence[Epoch], key: str) -> tuple[tuple[float, float], ...]:
    return tuple((epoch.number, value) for epoch in epochs if (value := getattr(epoch, key)) is not None)


def auc_plot(metrics: Json, best: float | None) -> Figure | None:
    """The model's AUC with its interval beside the baselines' and the best reachable."""
    rows = []
    for index, (name, found) in enumerate(judged(metrics)):
        value = number(found.get("auc"))
        if value is not None:
            low, high = number(found.get("auc_low")) or value, number(found.get("auc_high")) or value
            tip = f"{name}: AUC {numbers.fixed(value)} ({numbers.fixed(low)} to {numbers.fixed(high)})"
            rows.append(Interval(name, value, low, high, numbers.fixed(value), "c5" if index else "c1", tip))
    if not rows:
        return None
    pins = () if best is None else (Pin(best, f"best reachable {numbers.fixed(best)}"),)
    chart = Intervals(tuple(rows), Axis("AUC on the test rows"), "AUC: " + "; ".join(row.tip for row in rows), pins)
    return figure("AUC against the baselines", chart, "Bars are bootstrap intervals.")


def judged(metrics: Json) -> list[tuple[str, Json]]:
    """The model and every baseline with its metrics."""
    return [
        ("model", metrics),
        *((str(name), mapping(found)) for name, found in mapping(metrics.get("baselines")).items()),
    ]


def roc(metrics: Json) -> Figure | None:
    """True against false positives, for the model and every baseline that has a curve."""
    series = [Series("chance", ((0.0, 0.0), (1.0, 1.0)), "muted", dash=True)]
    colors = iter(("c1", "c2", "c3", "c4"))
    for name, found in judged(metrics):
        curve = points(found.get("roc"), "fpr", "tpr")
        if curve and name != "constant":
            auc = number(found.get("auc"))
            label = name if auc is None else f"{name} {numbers.fixed(auc, 3)}"
            series.append(Series(label, _thin(curve, 120), next(colors, "c6")))
    if len(series) < 2:
        return None
    x, y = (Axis(label, low=0, high=1) for label in ("False positive rate", "True positive rate"))
    ordered = (*series[1:], series[0])
    told = "ROC curves with area under them: " + "; ".join(one.name for one in ordered)
    return figure(
        "ROC",
        Lines(ordered, x, y, told, key="lower right", height=300),
        "Area under the curve beside each name.",
        wide=THIRD,
    )


def calibration(metrics: Json) -> Figure | None:
    """Observed rate against mean score by bin; on the diagonal, a score is a probability."""
    curve = points(metrics.get("calibration"), "predicted", "observed")
    if len(curve) < 2:
        return None
    top = max(max(pair) for pair in curve) * 1.06
    series = (
        Series("model", curve, "c1", markers=True),
        Series("perfect", ((0.0, 0.0), (top, top)), "muted", dash=True),
    )
    x, y = (Axis(label, low=0, high=top) for label in ("Mean predicted score", "Share of positives"))
    ece = numbers.significant(metrics.get("ece"))
    told = f"Calibration in {len(curve)} bins of equal count; expected calibration error {ece}"
    chart = Lines(series, x, y, told, key="lower right", height=300)
    return figure("Calibration", chart, f"Expected error {ece}; bins of equal size.", wide=THIRD)


def scores(metrics: Json) -> Figure | None:
    """How scores are spread among positives and among negatives."""
    found = mapping(metrics.get("histogram"))
    curves = []
    for name, key, color in (("label 0", "negatives", "c5"), ("label 1", "positives", "c1")):
        bins = _class_bins(found, key)
        total = sum(one.count for one in bins)
        if total:
            steps = [(x, one.count / total) for one in bins for x in (one.low, one.high)]
            curves.append(Series(name, tuple(steps), color, fill=True))
    if len(curves) < 2:
        return None
    used = [at for one in curves for at, share in one.points if share > 0]
    curves = [_within(one, min(used), max(used)) for one in curves]
    x, y = Axis("Score", low=min(used), high=max(used)), Axis("Share of the class", low=0, format=numbers.percent)
    chart = Lines(tuple(curves), x, y, "Histogram of scores by class", key="above", height=300)
    return figure("Scores by class", chart, "The less overlap, the better.", wide=THIRD)


def _class_bins(found: Json, key: str) -> list[Bin]:
    edges = numbered(found.get("edges"))
    rows = zip(edges, edges[1:], numbered(found.get(key)), strict=False)
    return [Bin(low, high, count) for low, high, count in rows if low is not None and high is not None and count]


def _within(series: Series, low: float, high: float) -> Series:
    return Series(series.name, tuple(p for p in series.points if low <= p[0] <= high), series.color, fill=True)


def _thin(curve: Sequence[tuple[float, float]], wanted: int) -> tuple[tuple[float, float], ...]:
    """At most about `wanted` of the curve's points, the ends among them."""
    step = max(1, len(curve) // wanted)
    return (*curve[:-1:step], curve[-1])


def same_load(serving: Serving, concurrency: int | None = None, batch: int | None = None) -> list[Measured]:
    """Results of the protocol that has most of them (gRPC if equal), filtered."""
    by_protocol: dict[str, list[Measured]] = {}
    for one in serving.results:
        by_protocol.setdefault(one.protocol, []).append(one)
    chosen = max(by_protocol.values(), key=lambda rows: (len(rows), rows[0].protocol == "grpc"))
    return [one for one in chosen if concurrency in (None, one.concurrency) and batch in (None, one.batch)]


def latency_cdf(serving: Serving) -> Figure | None:
    """Share of requests answered within a time, by target."""
    colors = _colors(list(serving.cdf))
    middle = {
        target: next((us for us, share in curve if share >= 0.5), curve[-1][0]) for target, curve in serving.cdf.items()
    }
    ordered = sorted(serving.cdf, key=lambda target: middle[target])
    series = tuple(
        Series(
            f"{target_name(target)} {numbers.microseconds(middle[target])}",
            _thin(serving.cdf[target], 150),
            colors[target],
        )
        for target in ordered
    )
    if not series:
        return None
    x = Axis("Latency (log scale)", log=True, format=numbers.microseconds)
    y = Axis("Share of requests", low=0, high=1, format=numbers.percent)
    told = "Latency distribution; medians: " + "; ".join(one.name for one in series)
    note = "One row per request; medians beside the names."
    return figure("Latency distribution", Lines(series, x, y, told, key="above", height=350), note)


def latency_ranges(serving: Serving) -> Figure | None:
    """p50 to p99 by target, one client and one row per request."""
    found = same_load(
        serving, min(one.concurrency for one in serving.results), min(one.batch for one in serving.results)
    )
    rows = [one for one in found if one.p50_us]
    colors = _colors([one.target for one in rows])
    intervals = []
    for one in sorted(rows, key=lambda one: one.p50_us or 0):
        low, high = one.p50_us or 0.0, one.p99_us or one.p50_us or 0.0
        name = target_name(one.target)
        tip = "\n".join(
            [name, *(f"{p}: {numbers.microseconds(getattr(one, f'{p}_us'))}" for p in ("p50", "p90", "p99"))]
        )
        intervals.append(Interval(name, low, low, high, numbers.microseconds(low), colors[one.target], tip))
    if not intervals:
        return None
    first_row = rows[0]
    told = "Median latency: " + "; ".join(f"{row.label} {row.written}" for row in intervals)
    chart = Intervals(tuple(intervals), Axis("Latency (log scale)", log=True, format=numbers.microseconds), told)
    clients = "one client" if first_row.concurrency == 1 else f"{first_row.concurrency} clients"
    rows_sent = "one row" if first_row.batch == 1 else f"{first_row.batch} rows"
    return figure(
        "Latency, p50 to p99", chart, f"{clients.capitalize()}, {rows_sent} per request, {first_row.protocol}."
    )


def throughput(serving: Serving) -> list[Figure]:
    """Rows per second over the number of clients, a figure for every batch size that has such a curve."""
    figures = []
    for batch in sorted({one.batch for one in serving.results}):
        curves: dict[str, dict[int, float]] = {}
        for one in same_load(serving, batch=batch):
            if one.rows_per_s:
                curves.setdefault(one.target, {})[one.concurrency] = one.rows_per_s
        if curves and max(len(curve) for curve in curves.values()) > 1:
            figures.append(_throughput(curves, batch))
    return figures


def batching(serving: Serving) -> Figure | None:
    """Rows per second over the rows of one request, with the fewest clients."""
    clients = min(one.concurrency for one in serving.results)
    curves: dict[str, dict[int, float]] = {}
    for one in same_load(serving, clients):
        if one.rows_per_s:
            curves.setdefault(one.target, {})[one.batch] = one.rows_per_s
    if not curves or max(len(curve) for curve in curves.values()) < 2:
        return None
    with_clients = "one client" if clients == 1 else f"{clients} clients"
    chart = _rates(curves, "Rows per request (log scale)", f"Rows per second by rows per request, {with_clients}")
    return figure(f"Throughput, {with_clients}", chart, "What sending several rows in one request gains.")


def _throughput(curves: Mapping[str, Mapping[int, float]], batch: int) -> Figure:
    rows = "one row" if batch == 1 else f"{batch} rows"
    chart = _rates(curves, "Clients at the same time (log scale)", f"Rows per second by clients, {rows} per request")
    says = "Higher is better; the floor is an ensemble that computes nothing."
    return figure(f"Throughput, {rows} per request", chart, says)


def _rates(curves: Mapping[str, Mapping[int, float]], across: str, told: str) -> Lines:
    colors = _colors(list(curves))
    series = tuple(
        Series(
            target_name(target),
            tuple((float(c), rows) for c, rows in sorted(curve.items())),
            colors[target],
            markers=True,
        )
        for target, curve in curves.items()
    )
    places = sorted({c for curve in curves.values() for c in curve})
    x = Axis(across, log=True, ticks=tuple((float(c), str(c)) for c in places))
    y = Axis("Rows per second (log scale)", log=True, format=numbers.compact)
    best = max(series, key=lambda one: one.points[-1][1])
    return Lines(series, x, y, f"{told}; most: {best.name}", height=290)


def profile_tips(bins: Sequence[Bin]) -> tuple[list[float], list[str]]:
    """Counts and tooltips of a column's small histogram."""
    write = numbers.value_text
    return [one.count for one in bins], [
        f"{write(one.low)} to {write(one.high)}: {numbers.count(one.count)}" for one in bins
    ]
