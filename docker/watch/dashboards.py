"""Writes Grafana's dashboards to docker/watch/grafana/dashboards: `python docker/watch/dashboards.py`.

A panel is a row of the tables below; dashboard_json.py makes Grafana's JSON of it. The limits at which a number turns
red are the budgets of rules/recording.yml.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import dashboard_json
from dashboard_json import Panel

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "grafana" / "dashboards"

ASKED = 'model=~"$model",model!~".+_[0-9]+"'
"""What clients ask: ensembles, not their steps."""
STEPS = 'model=~"$step",model=~".+_[0-9]+"'


def budget(name: str) -> float:
    """Return a limit of the alerts, from rules/recording.yml."""
    rules = (HERE / "rules" / "recording.yml").read_text(encoding="utf-8")
    found = re.search(rf"mews:budget:{name}\n +expr: vector\(([\d.* ]+)\)", rules)
    assert found is not None, f"rules/recording.yml has no mews:budget:{name}"
    return math.prod(float(factor) for factor in found[1].split("*"))


def _stat(
    title: str, query: str, unit: str = "short", about: str = "", legend: str = "", red: float | None = None
) -> Panel:
    limits = () if red is None else ((red, "red"),)
    return Panel(title, ((query, legend),), unit, "stat", 4, about, limits=limits)


def _spent(phase: str, by: str = "") -> str:
    """Seconds that steps spend in one phase, for each second."""
    return f"sum{by} (rate(nv_inference_{phase}_duration_us{{{STEPS}}}[5m])) / 1e6"


def _step_mean(phase: str) -> str:
    """Seconds of one phase for each request, by step."""
    return f"{_spent(phase, ' by (model)')} / sum by (model) (mews:requests:rate5m{{{STEPS}}})"


def _p99(metric: str) -> tuple[tuple[str, str], ...]:
    return ((f'max by (model) (nv_inference_{metric}_summary_us{{{STEPS},quantile="0.99"}}) / 1e6', "{{model}}"),)


_PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
_QUANTILES = tuple(
    (f'max(nv_inference_request_summary_us{{{ASKED},quantile="{quantile}"}}) / 1e6', f"p{float(quantile) * 100:g}")
    for quantile in ("0.5", "0.9", "0.95", "0.99", "0.999")
)
_HITS = f"sum by (model) (rate(nv_cache_num_hits_per_model{{{ASKED}}}[5m]))"

SERVING = (
    _stat("Requests", f"sum(mews:requests:rate5m{{{ASKED}}})", "reqps"),
    _stat("Rows", f"sum(mews:rows:rate5m{{{ASKED}}})", "rowsps"),
    _stat(
        "Failed",
        f"sum(mews:failures:rate5m{{{ASKED}}})"
        f" / sum(mews:failures:rate5m{{{ASKED}}} + mews:requests:rate5m{{{ASKED}}})",
        "percentunit",
        "Requests that Triton refuses before a model sees them are not counted; "
        "those that fail in an ensemble count twice in Triton 2.51.",
        red=budget("error_ratio"),
    ),
    _stat(
        "p99",
        f"max(mews:latency:p99_seconds{{{ASKED}}})",
        "s",
        "Within the server, of the last minute, of the slowest server.",
        red=budget("p99_seconds"),
    ),
    _stat("Waiting", 'sum(mews:queue:pending{model=~"$model.*"})', "short", "Requests in queues now."),
    _stat("Alerts", 'count(ALERTS{alertname=~"Mews.+",alertstate="firing"}) or vector(0)', red=1),
    Panel("Requests per second", ((f"sum by (model) (mews:requests:rate5m{{{ASKED}}})", "{{model}}"),), "reqps"),
    Panel(
        "Latency in the server",
        (*_QUANTILES, ("max(mews:budget:p99_seconds)", "budget")),
        "s",
        about="The slowest server's quantiles over the last minute, and the budget of the p99.",
        dashed=(("^budget$", "text"),),
    ),
    Panel(
        "Failures by reason",
        ((f"sum by (reason) (rate(nv_inference_request_failure{{{ASKED}}}[5m]))", "{{reason}}"),),
        "reqps",
        about="CANCELED: the client hung up, which is no failure of ours.",
    ),
    Panel("Requests that wait", (('sum by (model) (mews:queue:pending{model=~"$model.*"})', "{{model}}"),)),
    Panel(
        "Time in the queue",
        ((f"sum by (model) (mews:queue:mean_seconds{{{STEPS}}})", "{{model}}"),),
        "s",
        about="Mean for a request.",
    ),
    Panel(
        "Rows of one execution",
        ((f"avg by (model) (mews:batch:requests{{{STEPS}}})", "{{model}}"),),
        about="More than a request holds is Triton's batching.",
    ),
    Panel(
        "Versions that answer",
        (("sum by (model, version) (mews:served:version)", "{{model}} version {{version}}"),),
        kind="bargauge",
        about="Servers by version; a canary is an ensemble of its own.",
    ),
    Panel("Targets that answer", (('sum by (job) (up{job=~".*(mews|triton).*"})', "{{job}}"),), stacked=True),
    Panel("CPU", (("nv_cpu_utilization", "{{instance}}"),), "percentunit", about="Of the machine."),
    Panel("Memory", (("nv_cpu_memory_used_bytes", "{{instance}}"),), "bytes", about="Of the machine."),
    Panel("GPU", (("nv_gpu_utilization", "{{instance}} {{gpu_uuid}}"),), "percentunit", width=6, needs="gpu"),
    Panel(
        "GPU memory",
        (("nv_gpu_memory_used_bytes / nv_gpu_memory_total_bytes", "{{instance}} {{gpu_uuid}}"),),
        "percentunit",
        width=6,
        needs="gpu",
    ),
    Panel(
        "Kept answers",
        ((f"{_HITS} / ({_HITS} + {_HITS.replace('hits', 'misses')})", "{{model}}"),),
        "percentunit",
        width=6,
        needs="cache",
    ),
    Panel(
        "Pods",
        (
            ('kube_deployment_status_replicas_ready{deployment=~".*mews.*"}', "{{deployment}} ready"),
            ('kube_deployment_spec_replicas{deployment=~".*mews.*"}', "{{deployment}} wanted"),
        ),
        width=6,
        needs="kubernetes",
    ),
)

STAGES = (
    *(
        Panel(f"{phase.replace('_', ' ').capitalize()}, mean", ((_step_mean(phase), "{{model}}"),), "s", width=6)
        for phase in _PHASES
    ),
    Panel(
        "Where a request's time goes",
        tuple(
            (f"{_spent(phase)} / sum(mews:requests:rate5m{{{ASKED}}})", phase.replace("_", " ")) for phase in _PHASES
        ),
        "s",
        width=24,
        stacked=True,
        about="Mean of a client's request, through all steps that are shown.",
    ),
    Panel("Compute p99 by step", _p99("compute_infer"), "s"),
    Panel("Queue p99 by step", _p99("queue"), "s"),
    Panel("Whole step p99", _p99("request"), "s"),
    Panel("Ensemble, mean", ((f"avg by (model) (mews:latency:mean_seconds{{{ASKED}}})", "{{model}}"),), "s"),
)


def _of_versions(title: str, metric: str) -> Panel:
    """A metric of the stable version with its interval, and of those that may follow or come back."""
    named = f'mews_version_metric{{model=~"$model",metric=~"{metric}(_low|_high)?",state="stable"}}'
    others = f'mews_version_metric{{model=~"$model",metric="{metric}",state=~"previous|candidate|canary"}}'
    return Panel(
        title,
        (
            (f"max by (metric) ({named})", "stable, {{metric}}"),
            (f"max by (version, state) ({others})", "version {{version}}, {{state}}"),
        ),
        "none",
        about="Of the stable version, with its interval; of the others without.",
        dashed=(("_(low|high)$", "green"),),
    )


QUALITY = (
    _stat(
        "Stable version",
        'max by (version) (mews_version_info{model=~"$model",state="stable"})',
        "none",
        legend="{{version}}",
    ),
    _stat("Its age", 'max(mews:model:age_seconds{model=~"$model"})', "s", red=budget("model_age_seconds")),
    _stat("AUC", 'max(mews_version_metric{model=~"$model",state="stable",metric="auc"})', "none"),
    _stat("Calibration error", 'max(mews_version_metric{model=~"$model",state="stable",metric="ece"})', "none"),
    _stat("Canary's share", 'sum(mews_version_share{model=~"$model"}) or vector(0)', "percentunit"),
    _stat("Parity", "max(mews_parity_difference)", "sci", "Largest difference between a served and an offline score."),
    _of_versions("AUC", "auc"),
    _of_versions("Log loss", "logloss"),
    _of_versions("Calibration error", "ece"),
    Panel(
        "Share of positives",
        (
            (
                'max by (version) (mews_version_metric{model=~"$model",metric="click_rate"})',
                "version {{version}}",
            ),
        ),
        "percentunit",
        about="Of the rows that a version was evaluated on.",
    ),
    Panel(
        "Versions in the repository",
        (('mews_version_info{model=~"$model"}', ""),),
        kind="table",
        columns=("version", "state", "fingerprint"),
    ),
    Panel(
        "Size of the versions",
        (('max by (version) (mews_version_bytes{model=~"$model"})', "version {{version}}"),),
        "bytes",
        "bargauge",
    ),
)

PIPELINE = (
    _stat("Rows", 'mews_rows{part="raw"}', "short"),
    _stat("In quarantine", 'mews_rows{part="quarantined"}', "short"),
    _stat("Transformed", "mews_transform_rows_per_second", "rowsps"),
    _stat("Trained", "mews_train_samples_per_second", "rowsps"),
    _stat("Last trained", 'time() - max(mews_stage_finished_timestamp_seconds{stage="train"})', "s", "Ago."),
    _stat("Stages not done", "count(mews_stage_done == 0) or vector(0)"),
    Panel(
        "Stages",
        (("mews_stage_done", "{{stage}}"),),
        "none",
        "stat",
        24,
        "Not done: failed, under way, or not asked for.",
        said={0: ("not done", "orange"), 1: ("done", "green")},
    ),
    Panel("Seconds of each stage", (("sort_desc(mews_stage_seconds)", "{{stage}}"),), "s", "bargauge"),
    Panel(
        "Peak memory of each stage", (("sort_desc(mews_stage_peak_memory_bytes)", "{{stage}}"),), "bytes", "bargauge"
    ),
    Panel("Rows by part", (("sort_desc(mews_rows)", "{{part}}"),), "short", "bargauge", 8),
    Panel(
        "Loss by epoch",
        (("mews_train_loss", "epoch {{epoch}} {{part}}"),),
        "none",
        "bargauge",
        8,
        "A bar begins at the smallest loss.",
    ),
    Panel(
        "Last evaluation",
        (('sort_desc(mews_evaluation{metric!~"rows|bootstrap|confidence|.+_(low|high)"})', "{{metric}}"),),
        "none",
        "bargauge",
        8,
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
    return dashboard_json.dashboard(uid, *DASHBOARDS[uid])


def write(folder: Path = FOLDER) -> None:
    """Write every dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    for uid in DASHBOARDS:
        (folder / f"{uid}.json").write_text(json.dumps(dashboard(uid), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
