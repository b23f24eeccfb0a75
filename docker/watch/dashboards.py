"""Writes Grafana's dashboards to docker/watch/grafana/dashboards: `python docker/watch/dashboards.py`.

A panel is a row of the tables below. `needs` names what a panel has no data without: gpu, kubernetes or cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "grafana" / "dashboards"
_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_NEEDS = {
    "gpu": "Needs a GPU.",
    "kubernetes": "Needs kube-state-metrics.",
    "cache": "Needs the response cache (serve.cache_bytes).",
}
_COLUMNS = 24

ASKED = 'model=~"$model",model!~".+_[0-9]+"'
"""What clients ask: ensembles, not their steps."""
STEPS = 'model=~"$step",model=~".+_[0-9]+"'


@dataclass(frozen=True)
class Panel:
    """One picture: queries with their legends, a unit of Grafana's, and its kind and width (of 24)."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    about: str = ""
    needs: str = ""
    stacked: bool = False


def _stat(title: str, query: str, unit: str = "short", about: str = "", legend: str = "") -> Panel:
    return Panel(title, ((query, legend),), unit, "stat", 4, about)


def _step_mean(phase: str) -> str:
    """Seconds of one phase for each request, by step."""
    spent = f"sum by (model) (rate(nv_inference_{phase}_duration_us{{{STEPS}}}[5m]))"
    return f"{spent} / 1e6 / sum by (model) (mews:requests:rate5m{{{STEPS}}})"


_PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
_QUANTILES = ((f"max by (quantile) (nv_inference_request_summary_us{{{ASKED}}}) / 1e6", "{{quantile}}"),)
_HITS = f"sum by (model) (rate(nv_cache_num_hits_per_model{{{ASKED}}}[5m]))"

SERVING = (
    _stat("Requests", f"sum(mews:requests:rate5m{{{ASKED}}})", "reqps"),
    _stat("Rows", f"sum(mews:rows:rate5m{{{ASKED}}})", "short", "Per second."),
    _stat(
        "Failed",
        f"sum(mews:failures:rate5m{{{ASKED}}})"
        f" / sum(mews:failures:rate5m{{{ASKED}}} + mews:requests:rate5m{{{ASKED}}})",
        "percentunit",
        "Requests that Triton refuses before a model sees them are not counted; "
        "those that fail in an ensemble count twice in Triton 2.51.",
    ),
    _stat(
        "p99",
        f"max(mews:latency:p99_seconds{{{ASKED}}})",
        "s",
        "Within the server, of the last minute, of the slowest server.",
    ),
    _stat("Waiting", 'sum(mews:queue:pending{model=~"$model.*"})', "short", "Requests in queues now."),
    _stat("Alerts", 'count(ALERTS{alertname=~"Mews.+",alertstate="firing"}) or vector(0)'),
    Panel("Requests per second", ((f"sum by (model) (mews:requests:rate5m{{{ASKED}}})", "{{model}}"),), "reqps"),
    Panel("Latency in the server", _QUANTILES, "s", about="The slowest server's quantiles over the last minute."),
    Panel(
        "Failures by reason",
        ((f"sum by (model, reason) (rate(nv_inference_request_failure{{{ASKED}}}[5m]))", "{{model}} {{reason}}"),),
        "reqps",
    ),
    Panel("Requests that wait", (('sum by (model) (mews:queue:pending{model=~"$model.*"})', "{{model}}"),)),
    Panel(
        "Time in the queue",
        (('sum by (model) (mews:queue:mean_seconds{model=~"$step"})', "{{model}}"),),
        "s",
        about="Mean for a request.",
    ),
    Panel(
        "Requests that run together",
        (('avg by (model) (mews:batch:requests{model=~"$step"})', "{{model}}"),),
        about="Rows of one execution; more than a request holds is Triton's batching.",
    ),
    Panel(
        "Versions that answer",
        (("sum by (model, version) (mews:served:version)", "{{model}} version {{version}}"),),
        kind="bargauge",
        about="Servers by version.",
    ),
    Panel("Servers", (('sum by (job) (up{job=~".*(mews|triton).*"})', "{{job}}"),), kind="timeseries"),
    Panel("CPU", (("nv_cpu_utilization", "{{instance}}"),), "percentunit", about="Of the machine."),
    Panel("Memory", (("nv_cpu_memory_used_bytes", "{{instance}}"),), "bytes", about="Of the machine."),
    Panel("GPU", (("nv_gpu_utilization", "{{instance}} {{gpu_uuid}}"),), "percentunit", needs="gpu"),
    Panel(
        "GPU memory",
        (("nv_gpu_memory_used_bytes / nv_gpu_memory_total_bytes", "{{instance}} {{gpu_uuid}}"),),
        "percentunit",
        needs="gpu",
    ),
    Panel(
        "Kept answers",
        ((f"{_HITS} / ({_HITS} + {_HITS.replace('hits', 'misses')})", "{{model}}"),),
        "percentunit",
        needs="cache",
    ),
    Panel(
        "Pods",
        (
            ('kube_deployment_status_replicas_ready{deployment=~".*mews.*"}', "{{deployment}} ready"),
            ('kube_deployment_spec_replicas{deployment=~".*mews.*"}', "{{deployment}} wanted"),
        ),
        needs="kubernetes",
    ),
)

STAGES = (
    *(
        Panel(
            f"{phase.replace('_', ' ').capitalize()}, mean",
            ((_step_mean(phase), "{{model}}"),),
            "s",
            stacked=True,
            width=6,
        )
        for phase in _PHASES
    ),
    Panel(
        "Where a request's time goes",
        tuple((f"sum({_step_mean(phase)})", phase.replace("_", " ")) for phase in _PHASES),
        "s",
        width=24,
        stacked=True,
        about="Mean of a request through all steps that are shown.",
    ),
    Panel(
        "Compute p99 by step",
        ((f'max by (model) (nv_inference_compute_infer_summary_us{{{STEPS},quantile="0.99"}}) / 1e6', "{{model}}"),),
        "s",
    ),
    Panel(
        "Queue p99 by step",
        ((f'max by (model) (nv_inference_queue_summary_us{{{STEPS},quantile="0.99"}}) / 1e6', "{{model}}"),),
        "s",
    ),
    Panel(
        "Whole step p99",
        ((f'max by (model) (nv_inference_request_summary_us{{{STEPS},quantile="0.99"}}) / 1e6', "{{model}}"),),
        "s",
    ),
    Panel("Ensemble, mean", ((f"avg by (model) (mews:latency:mean_seconds{{{ASKED}}})", "{{model}}"),), "s"),
)

_OF_VERSION = 'mews_version_metric{model=~"$model",metric=%s}'
_VERSION = "version {{version}} ({{state}}) {{metric}}"
QUALITY = (
    _stat(
        "Stable version",
        'max by (version) (mews_version_info{model=~"$model",state="stable"})',
        "none",
        legend="{{version}}",
    ),
    _stat("Its age", 'max(mews:model:age_seconds{model=~"$model"})', "s"),
    _stat("AUC", 'max(mews_version_metric{model=~"$model",state="stable",metric="auc"})', "none"),
    _stat("Calibration error", 'max(mews_version_metric{model=~"$model",state="stable",metric="ece"})', "none"),
    _stat("Canary's share", 'sum(mews_version_share{model=~"$model"}) or vector(0)', "percentunit"),
    _stat("Parity", "max(mews_parity_difference)", "none", "Largest difference between a served and an offline score."),
    Panel("AUC with its interval", ((_OF_VERSION % '~"auc|auc_low|auc_high"', _VERSION),), "none"),
    Panel("Log loss with its interval", ((_OF_VERSION % '~"logloss|logloss_low|logloss_high"', _VERSION),), "none"),
    Panel("Calibration error", ((_OF_VERSION % '~"ece|ece_low|ece_high"', _VERSION),), "none"),
    Panel(
        "Share of positives",
        ((_OF_VERSION % '"click_rate"', _VERSION),),
        "percentunit",
        about="Of the rows that a version was evaluated on.",
    ),
    Panel(
        "Versions in the repository",
        (('mews_version_info{model=~"$model"}', "version {{version}} {{state}} {{fingerprint}}"),),
        kind="bargauge",
    ),
    Panel("Size of the versions", (('mews_version_bytes{model=~"$model"}', "version {{version}}"),), "bytes"),
)

PIPELINE = (
    _stat("Rows", 'mews_rows{part="raw"}', "short"),
    _stat("In quarantine", 'mews_rows{part="quarantined"}', "short"),
    _stat("Transformed", "mews_transform_rows_per_second", "short", "Rows per second."),
    _stat("Trained", "mews_train_samples_per_second", "short", "Samples per second."),
    _stat("Last trained", 'time() - max(mews_stage_finished_timestamp_seconds{stage="train"})', "s", "Ago."),
    _stat("Stages not done", "count(mews_stage_done == 0) or vector(0)"),
    Panel("Seconds of each stage", (("mews_stage_seconds", "{{stage}}"),), "s", "bargauge"),
    Panel("Peak memory of each stage", (("mews_stage_peak_memory_bytes", "{{stage}}"),), "bytes", "bargauge"),
    Panel("Rows by part", (("mews_rows", "{{part}}"),), "short", "bargauge"),
    Panel("Stages done", (("mews_stage_done", "{{stage}}"),), "short", "bargauge"),
    Panel("Loss by epoch", (("mews_train_loss", "epoch {{epoch}} {{part}}"),), "none", "bargauge"),
    Panel(
        "Last evaluation", (('mews_evaluation{metric!="rows",metric!="bootstrap"}', "{{metric}}"),), "none", "bargauge"
    ),
    Panel(
        "Failed retraining jobs",
        (('kube_job_status_failed{job_name=~".*(retrain|pipeline).*"}', "{{job_name}}"),),
        needs="kubernetes",
    ),
    Panel(
        "Since the last retraining",
        (('time() - kube_cronjob_status_last_successful_time{cronjob=~".*(retrain|pipeline).*"}', "{{cronjob}}"),),
        "s",
        needs="kubernetes",
    ),
)

_MODEL = ("model", 'label_values(mews:requests:rate5m{model!~".+_[0-9]+"}, model)')
_STEP = ("step", 'label_values(mews:requests:rate5m{model=~".+_[0-9]+"}, model)')
_VERSIONED = ("model", "label_values(mews_version_info, model)")
DASHBOARDS = {
    "serving": ("Mews: serving", SERVING, (_MODEL, _STEP)),
    "stages": ("Mews: latency by stage", STAGES, (_MODEL, _STEP)),
    "quality": ("Mews: model quality", QUALITY, (_VERSIONED,)),
    "pipeline": ("Mews: ETL and training", PIPELINE, ()),
}


def dashboard(uid: str) -> dict[str, Any]:
    """Return one dashboard as Grafana's JSON model."""
    title, panels, variables = DASHBOARDS[uid]
    return {
        "uid": f"mews-{uid}",
        "title": title,
        "tags": ["mews"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_variable(*each) for each in variables]},
        "panels": list(_laid_out(panels)),
    }


def _laid_out(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _COLUMNS:
            x, y = 0, y + height
        height = 4 if panel.kind == "stat" else 8
        yield _panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height})
        x += panel.width


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    targets = [
        {"refId": chr(65 + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend or "__auto"}
        | ({"instant": True, "range": False} if instant else {})
        for index, (query, legend) in enumerate(panel.queries)
    ]
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {"fillOpacity": 5}
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}} if instant else {}
    if panel.kind == "bargauge":
        options |= {"orientation": "horizontal"}
    if panel.title == "Stable version":
        options |= {"textMode": "name"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": " ".join(filter(None, (panel.about, _NEEDS.get(panel.needs, "")))),
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit}
            | ({} if panel.unit == "none" else {"min": 0})
            | ({} if instant else {"custom": custom}),
            "overrides": [],
        },
        "options": options,
        "targets": targets,
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def write(folder: Path = FOLDER) -> None:
    """Write every dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    for uid in DASHBOARDS:
        (folder / f"{uid}.json").write_text(json.dumps(dashboard(uid), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
