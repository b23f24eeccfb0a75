"""The page: what the template shows, section by section, as plain values and finished figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mews.report import diagram, figures, numbers, verdicts, waterfall
from mews.report.charts import spark
from mews.report.data import ColumnProfile, Json, Measured, ReportData, Serving, first, mapping, records
from mews.report.document import document
from mews.report.figures import FULL, Figure
from mews.report.numbers import number

_METRICS = (("auc", "AUC", 4), ("logloss", "Log loss", 4), ("ece", "Calibration error", 4))
_TOP_VALUES = 4
_FEW_VALUES = 6
_MAX_COLUMNS = 200
_UNSHOWN_FACTS = ("truth", "seed")


@dataclass(frozen=True)
class ColumnRow:
    """A raw column in the profile's table; `top` holds (value, share of the rows, text)."""

    profile: ColumnProfile
    nulls: str
    null_share: float
    distinct: str
    range: str
    histogram: Markup | None
    top: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True)
class MetricRow:
    """One model or baseline: (value, interval) for every metric."""

    name: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CostRow:
    """What a measured target answers and costs: MiB, seconds and MiB as texts; `verdict` is empty if all is well."""

    target: str
    note: str
    difference: str
    verdict: str
    memory: str
    startup: str
    disk: str


def html(data: ReportData) -> str:
    """The whole report as one HTML document that loads nothing."""
    return document(
        "report.html.j2",
        data=data,
        cards=verdicts.cards(data),
        **_data_section(data),
        **_features_section(data),
        **_model_section(data),
        **_serving_section(data),
        **_about_section(data),
    )


def _present(*found: Figure | None) -> list[Figure]:
    return [figure for figure in found if figure is not None]


def _data_section(data: ReportData) -> dict[str, Any]:
    rows = number(first(data.profile, "rows") or data.dataset.get("rows"))
    return {
        "pipeline": _present(figures.timeline(data)),
        "data_figures": _present(figures.label_rate(data)),
        "column_rows": [_column_row(column, rows) for column in data.columns[:_MAX_COLUMNS]],
        "columns_left_out": max(0, len(data.columns) - _MAX_COLUMNS),
        "cold_start": list(_cold_start(data.profile)),
        "reasons": [(str(why), numbers.count(rows)) for why, rows in mapping(data.validation.get("reasons")).items()],
        "splits": list(_splits(data)),
        "facts": [(name.replace("_", " "), numbers.value_text(value)) for name, value in _facts(data).items()],
    }


def _facts(data: ReportData) -> Json:
    shown = mapping(data.dataset.get("facts")).items()
    return {name: found for name, found in shown if name not in _UNSHOWN_FACTS and not isinstance(found, dict | list)}


def _column_row(column: ColumnProfile, rows: float | None) -> ColumnRow:
    few = column.top and (column.distinct or 0) <= _FEW_VALUES
    counts, tips = figures.profile_tips(() if few else column.bins)
    picture = (
        spark(counts, tips, f"Histogram of {column.name}: {column.minimum} to {column.maximum}") if counts else None
    )
    known = sum(count for _, count in column.top)
    top = [
        (name, count / (rows or known or 1), f"{name}: {numbers.count(count)}")
        for name, count in column.top[:_TOP_VALUES]
    ]
    between = _between(column.minimum, column.mean, column.maximum)
    lengths = _between(*(column.lengths.get(key) for key in ("min", "mean", "max")))
    return ColumnRow(
        column,
        numbers.percent(column.null_rate),
        column.null_rate or 0.0,
        numbers.count(column.distinct),
        between or (f"length {lengths}" if lengths else ""),
        picture,
        () if picture else tuple(top),
    )


def _between(low: Any, mean: Any, high: Any) -> str:
    """The ends of a column and its mean; moments lose their seconds."""
    texts = [found[:16] if isinstance(found, str) else numbers.value_text(found) for found in (low, high, mean)]
    if texts[0] == texts[1] == numbers.MISSING:
        return ""
    middle = "" if texts[2] == numbers.MISSING or isinstance(mean, str) else f", mean {texts[2]}"
    return f"{texts[0]} … {texts[1]}{middle}"


def _cold_start(profile: Json) -> Iterable[tuple[str, list[tuple[str, float, str]]]]:
    """Shares of rows whose user or item was never seen in training: (role, [(part, share, text)])."""
    for role, found in mapping(profile.get("cold_start")).items():
        shares = [(str(part), number(share)) for part, share in mapping(found).items()]
        listed = [(part, share, numbers.percent(share)) for part, share in shares if share is not None]
        if listed:
            yield str(role), listed


def _splits(data: ReportData) -> Iterable[tuple[str, str]]:
    splits = mapping(data.profile.get("splits"))
    for part, rows in mapping(first(splits, "rows") or data.features.get("rows")).items():
        yield f"{part} rows", numbers.count(rows)
    if splits.get("by"):
        yield "divided by", str(splits["by"]).replace("-", " ")
    for part, start in mapping(splits.get("boundaries")).items():
        if part in ("valid", "test") and start is not None:
            yield f"{part} from".replace("_", " "), str(start)[:16].replace("T", " ")


def _features_section(data: ReportData) -> dict[str, Any]:
    listed = records(data.features.get("columns"))
    flow = diagram.flow(data.graph, {str(column.get("name")): column for column in listed})
    columns = [{"tags": [], **column, "dtype": diagram.dtype_text(column)} for column in listed]
    operators = first(data.features, "operators")
    counted: dict[str, int] = {}
    for name in (
        operators if isinstance(operators, list) else [node.get("op") for node in records(data.graph.get("nodes"))]
    ):
        counted[str(name)] = counted.get(str(name), 0) + 1
    summary = mapping(data.summary.get("features"))
    taken = {key: first(data.features, key) or summary.get(key) for key in ("fit_seconds", "transform_seconds")}
    total = sum(number(rows) or 0 for rows in mapping(data.features.get("rows")).values()) or number(
        data.features.get("rows")
    )
    return {
        "flow_wide": diagram.draw(flow, FULL) if flow.chains else None,
        "chains": flow.chains,
        "operators": counted,
        "feature_columns": columns[:_MAX_COLUMNS],
        "vocabulary": sum(int(number(column.get("cardinality")) or 0) for column in columns),
        "fit": taken["fit_seconds"],
        "transform": taken["transform_seconds"],
        "feature_rows": total,
        "fingerprint": str(first(data.graph, "fingerprint") or first(data.manifest, "fingerprint") or ""),
    }


def _model_section(data: ReportData) -> dict[str, Any]:
    metrics = data.metrics
    model = mapping(data.summary.get("model"))
    settings = mapping(data.training.get("config"))
    auc = figures.auc_plot(metrics, verdicts.best_auc(data))
    shown = [
        (key, label, decimals)
        for key, label, decimals in _METRICS
        if any(key in found for _, found in figures.judged(metrics))
    ]
    names = [label for _, label, _ in shown]
    rows = [
        MetricRow(name, tuple(_with_interval(found, key, decimals) for key, _, decimals in shown))
        for name, found in figures.judged(metrics)
        if shown
    ]
    if not shown:
        names, rows = _ranked(mapping(metrics.get("ranking")))
    return {
        "model_name": str(first(model, "name") or first(settings, "name") or ""),
        "learning": figures.learning(data),
        "speed": [epoch.samples_per_s for epoch in data.epochs if epoch.samples_per_s],
        "auc_figure": auc,
        "quality": _present(figures.roc(metrics), figures.calibration(metrics), figures.scores(metrics)),
        "metric_names": names,
        "metric_rows": rows,
    }


def _ranked(ranking: Json) -> tuple[list[str], list[MetricRow]]:
    """The metrics of a model that answers with lists, and those of the baselines."""
    names = [name for name in mapping(ranking.get("metrics")) if name.startswith(("hit_rate", "ndcg"))]
    rows = []
    for who, found in figures.judged(ranking):
        values = mapping(found.get("metrics", found))
        cells = [mapping(values.get(name)) for name in names]
        told = [{"": one.get("value"), "_low": one.get("low"), "_high": one.get("high")} for one in cells]
        rows.append(MetricRow(who, tuple(_with_interval(one, "", 4) for one in told)))
    return [name.replace("_", " ") for name in names], rows if names else []


def _with_interval(found: Json, key: str, decimals: int) -> tuple[str, str]:
    low, high = number(found.get(f"{key}_low")), number(found.get(f"{key}_high"))
    between = (
        "" if low is None or high is None else f"{numbers.fixed(low, decimals)} to {numbers.fixed(high, decimals)}"
    )
    return numbers.fixed(found.get(key), decimals), between


def _serving_section(data: ReportData) -> dict[str, Any]:
    parity = [
        (name, number(data.parity.get(f"{key}_max_abs_diff"))) for key, name in (("http", "HTTP"), ("grpc", "gRPC"))
    ]
    serving = data.serving
    return {
        "parity": [
            (name, numbers.significant(found, 2), found <= verdicts.parity_aim())
            for name, found in parity
            if found is not None
        ],
        "parity_aim": numbers.significant(verdicts.parity_aim()),
        "latency_cdf": None if serving is None else figures.latency_cdf(serving),
        "latency_ranges": None if serving is None else figures.latency_ranges(serving),
        "throughput": [] if serving is None else _present(*figures.throughput(serving), figures.batching(serving)),
        "ratios": [] if serving is None else verdicts.ratios(serving),
        "waterfalls": [] if serving is None else _waterfalls(serving),
        "costs": [] if serving is None else [_costs(name, found) for name, found in serving.targets.items()],
        "measured": [] if serving is None else sorted(serving.results, key=_load_order),
    }


def _waterfalls(serving: Serving) -> list[Figure]:
    """Where a request's time goes, of the ensembles of ours that were traced."""
    order = [name for name in figures.TARGETS if name in serving.phases]
    traced = {name: [waterfall.Phase(*phase) for phase in serving.phases[name]] for name in order}
    return _present(*(waterfall.waterfall(name, phases) for name, phases in traced.items()))


def _costs(name: str, found: Json) -> CostRow:
    difference = number(found.get("max_abs_diff"))
    verdict = str(found["failed"]) if "failed" in found else "differs, not compared" if found.get("differs") else ""
    same = numbers.MISSING if difference is None else numbers.significant(difference, 2)
    texts = [
        numbers.MISSING if (value := number(found.get(key))) is None else numbers.significant(value)
        for key in ("memory_mb", "startup_s", "disk_mb")
    ]
    return CostRow(name, str(found.get("note") or ""), same, verdict, *texts)


def _load_order(one: Measured) -> tuple[Any, ...]:
    order = list(figures.TARGETS)
    return (
        one.protocol,
        one.batch,
        one.concurrency,
        order.index(one.target) if one.target in order else len(order),
        one.target,
    )


def _about_section(data: ReportData) -> dict[str, Any]:
    machine = data.serving.machine if data.serving else {}
    sources = (
        machine.get("packages"),
        data.training.get("versions"),
        data.manifest.get("packages"),
        data.summary.get("versions"),
    )
    versions = {name: found for source in sources for name, found in mapping(source).items()}
    return {
        "ensemble": f"{data.manifest.get('name')} version {numbers.count(data.manifest.get('version'))}"
        if data.files
        else "",
        "versions": sorted((str(name), str(found)) for name, found in versions.items()),
        "machine": list(_flat({name: found for name, found in machine.items() if name != "packages"})),
        "created": str(data.manifest.get("created") or (data.serving.created if data.serving else "")),
    }


def _flat(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from ((f"{name} {inner}".replace("_", " "), text) for inner, text in _flat(value))
        elif isinstance(value, list):
            yield name.replace("_", " "), ", ".join(numbers.value_text(one) for one in value)
        else:
            yield name.replace("_", " "), numbers.value_text(value)
