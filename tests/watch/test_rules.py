"""The alert rules, run by Prometheus' own promtool on made-up series: each fires when it should, and not before."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docker" / "watch" / "rules"
STEP = 15  # seconds between samples

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: `apt-get install prometheus`"
)

A, B = 'job="mews",instance="a:8002"', 'job="mews",instance="b:8002"'
SHOP = f'{A},model="shop"'
HOUR = 240  # samples


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, and what fires after so many minutes: alerts with the labels that matter."""

    series: dict[str, str]
    minutes: int
    firing: tuple[tuple[str, dict[str, str]], ...] = ()


def _version(labels: str, *versions: int) -> dict[str, str]:
    return {f'nv_inference_pending_request_count{{{labels},version="{each}"}}': f"0x{HOUR}" for each in versions}


def _failing(share: float) -> dict[str, str]:
    """Ten requests a second, of which a share fails."""
    bad = round(150 * share)
    return {
        f'nv_inference_request_success{{{SHOP},version="1"}}': f"0+{150 - bad}x{HOUR}",
        f'nv_inference_request_failure{{{SHOP},version="1",reason="OTHER"}}': f"0+{bad}x{HOUR}",
        f'nv_inference_request_failure{{{SHOP},version="1",reason="CANCELED"}}': f"0+100x{HOUR}",
    }


def _p99(microseconds: int, model: str = "shop") -> dict[str, str]:
    labels = f'{A},model="{model}",version="1",quantile="0.99"'
    return {f"nv_inference_request_summary_us{{{labels}}}": f"{microseconds}x{HOUR}"}


def _waiting(values: str, gpu: float | None = None) -> dict[str, str]:
    series = {f'nv_inference_pending_request_count{{{A},model="shop_model_1",version="1"}}': values}
    if gpu is not None:
        series[f'nv_gpu_utilization{{{A},gpu_uuid="GPU-1"}}'] = f"{gpu}x{HOUR}"
    return series


def _queue(microseconds: int) -> dict[str, str]:
    labels = f'{A},model="shop_model_1",version="1"'
    return {
        f"nv_inference_request_success{{{labels}}}": f"0+150x{HOUR}",
        f"nv_inference_queue_duration_us{{{labels}}}": f"0+{150 * microseconds}x{HOUR}",
    }


def _stable(version: int, **metrics: float) -> dict[str, str]:
    labels = f'job="pipeline",instance="m:9109",model="shop",version="{version}"'
    series = {f'mews_version_info{{{labels},state="stable",fingerprint="f"}}': f"1x{HOUR * 10}"}
    for name, value in metrics.items():
        series[f'mews_version_metric{{{labels},state="stable",metric="{name}"}}'] = f"{value}x{HOUR}"
    return series


def _pipeline(text: str) -> str:
    return f'{text[:-1]}{"," if not text.endswith("{}") else ""}job="pipeline",instance="m:9109"}}'


def _previous(low: float) -> dict[str, str]:
    labels = 'model="shop",version="1",state="previous",metric="auc_low"'
    return {_pipeline(f"mews_version_metric{{{labels}}}"): f"{low}x{HOUR}"}


def _created(seconds: int) -> dict[str, str]:
    """The stable version was exported so many seconds before the series begin."""
    labels = 'model="shop",version="1",state="stable"'
    return {_pipeline(f"mews_version_created_timestamp_seconds{{{labels}}}"): f"{-seconds}x{HOUR}"}


def _stages(train: int) -> dict[str, str]:
    done = {"data": 1, "train": train, "bench": 0, "query": 0}
    return {_pipeline(f'mews_stage_done{{stage="{stage}"}}'): f"{value}x{HOUR * 8}" for stage, value in done.items()}


_SHOP = {"model": "shop"}
_DAY = 86_400
CASES = {
    "all is well": Case(
        {f"up{{{A}}}": "1x99"}
        | (_failing(0) | _p99(9_000) | _queue(100))
        | (_version(SHOP, 1, 3) | _stable(3) | _stages(1)),
        20,
    ),
    "a server is gone": Case({f"up{{{A}}}": "1x8 0x40", f"up{{{B}}}": "1x48"}, 6, (("MewsServerDown", {}),)),
    "a server was away for a minute": Case({f"up{{{A}}}": "1x8 0x40"}, 4),
    "three requests in a hundred fail": Case(_failing(0.03), 15, (("MewsErrorRateHigh", _SHOP),)),
    "callers hang up": Case(_failing(0), 15),
    "it fails for a moment only": Case(_failing(0.03), 3),
    "slow": Case(_p99(80_000), 15, (("MewsLatencyOverBudget", _SHOP),)),
    "slow for five minutes": Case(_p99(80_000), 5),
    "a step alone is over the budget of the whole": Case(_p99(80_000, "shop_model_1"), 15),
    "the queue grows": Case(_waiting("0+1x200"), 30, (("MewsQueueGrowing", {"model": "shop_model_1"}),)),
    "the queue stands": Case(_waiting("40x200"), 30),
    "requests wait": Case(_queue(30_000), 20, (("MewsQueueLong", {"model": "shop_model_1"}),)),
    "the GPU idles": Case(_waiting("40x200", 0.1), 20, (("MewsGpuIdleWhileQueueing", {}),)),
    "the GPU is busy": Case(_waiting("40x200", 0.9), 20),
    "two versions": Case(_version(SHOP, 1, 2) | _version(f'{B},model="shop"', 1, 3), 20, (("MewsVersionSkew", _SHOP),)),
    "version 1 of one server is no other version": Case(_version(SHOP, 1, 3) | _version(f'{B},model="shop"', 1, 3), 20),
    "a server of the first version beside one of the second": Case(
        _version(SHOP, 1) | _version(f'{B},model="shop"', 1, 2), 20, (("MewsVersionSkew", _SHOP),)
    ),
    "a canary is no skew": Case(_version(SHOP, 1, 3) | _version(f'{A},model="shop_v4"', 1, 4) | _stable(3), 20),
    "published and not taken": Case(
        _version(SHOP, 1, 3) | _stable(4), 20, (("MewsStableVersionNotServed", {"model": "shop", "version": "3"}),)
    ),
    "a switch hangs": Case(
        {_pipeline('mews_switch_unfinished{model="shop"}'): "1x99"}, 12, (("MewsSwitchUnfinished", _SHOP),)
    ),
    "a manifest is broken": Case(
        {_pipeline('mews_version_damaged{model="shop",version="2"}'): "1x99"},
        8,
        (("MewsVersionDamaged", {"version": "2"}),),
    ),
    "the repository cannot be read": Case(
        {_pipeline('mews_unreadable{part="versions"}'): "1x99"}, 8, (("MewsVersionDamaged", {}),)
    ),
    "an old model": Case(_created(15 * _DAY), 61, (("MewsModelStale", _SHOP),)),
    "a model of last week": Case(_created(7 * _DAY), 61),
    "worse than before": Case(_previous(0.80) | _stable(2, auc_high=0.79), 5, (("MewsQualityDropped", _SHOP),)),
    "the intervals overlap": Case(_previous(0.80) | _stable(2, auc_high=0.81), 5),
    "retraining failed": Case(
        {'kube_job_status_failed{job_name="shop-retrain-1",reason="BackoffLimitExceeded"}': "1x99"},
        8,
        (("MewsRetrainingFailed", {"job_name": "shop-retrain-1"}),),
    ),
    "retraining failed two days ago": Case(
        {
            'kube_job_status_failed{namespace="shop",job_name="shop-retrain-1",reason="DeadlineExceeded"}': "1x99",
            'kube_job_status_start_time{namespace="shop",job_name="shop-retrain-1"}': f"{-2 * _DAY}x99",
        },
        8,
    ),
    "another job failed": Case({'kube_job_status_failed{job_name="backup-1"}': "1x99"}, 8),
    "training never ended": Case(_stages(0), 400, (("MewsPipelineUnfinished", {"stage": "train"}),)),
    "training is under way": Case(_stages(0), 60),
}


def _test(name: str, case: Case) -> dict[str, Any]:
    return {
        "name": name,
        "interval": f"{STEP}s",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{alertstate="firing",{labels}}})',
                "eval_time": f"{case.minutes}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
            }
            for labels, alerts in _asked(case)
        ],
    }


def _asked(case: Case) -> list[tuple[str, list[str]]]:
    """What fires at all, and for each alert that it fires with its labels."""
    asked = [("", [alert for alert, _ in case.firing])]
    for alert, labels in case.firing:
        text = ",".join(f'{key}="{value}"' for key, value in {"alertname": alert, **labels}.items())
        asked.append((text, [alert]))
    return asked


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@promtool
def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    file = tmp_path / "alerts.test.yml"
    tests = [_test(name, case) for name, case in CASES.items()]
    said = {"rule_files": [str(RULES / "*.yml")], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires() -> None:
    fired = {alert for case in CASES.values() for alert, _ in case.firing}
    assert fired == {rule["alert"] for rule in _alerts()}


def test_every_alert_says_what_to_do_in_the_runbook() -> None:
    sections = set(re.findall(r"^### (Mews\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE))
    for rule in _alerts():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
    assert {rule["alert"] for rule in _alerts()} == sections


@promtool
def test_prometheus_takes_the_configuration() -> None:
    file = ROOT / "docker" / "watch" / "prometheus.yml"
    done = subprocess.run(["promtool", "check", "config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout + done.stderr
