"""What the serving benchmark makes of figures: budgets, ratios, verdicts on answers; and features written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import answers, budget, serving, shapes
from benchmarks.ratios import flatness, ratios
from benchmarks.servers import by_hand, kserve
from benchmarks.waterfall import median_phases, read_trace, traced
from etl.errors import ConfigError


def _result(target: str, concurrency: int, batch: int = 1, **figures: float) -> dict[str, object]:
    known = {"p50_us": 400.0, "p90_us": 800.0, "p99_us": 2000.0, "requests_per_s": 5000.0}
    rate = figures.get("requests_per_s", known["requests_per_s"])
    told = {"target": target, "protocol": "http", "concurrency": concurrency, "batch": batch}
    return {**told, "rows_per_s": rate * batch, **known, **figures}


def test_a_budget_says_which_point_is_over() -> None:
    results = [_result("fused", 1), _result("fused", 16, p99_us=7000.0), _result("identity", 1, p99_us=90_000.0)]
    limits = budget.parse("p99=5ms, throughput=6000")
    assert limits == {"p99": 5000.0, "throughput": 6000.0}
    assert budget.broken(limits, results) == [
        "fused, http, 16 clients: p99 7.00 ms, budget 5 ms",
        "fused, http, 16 clients: 5,000 requests/s, budget 6,000",
    ]
    assert not budget.broken(budget.parse("p99=7ms,p50=0.4ms"), results)
    assert budget.broken({"p99": 1.0}, [_result("identity", 1)])


@pytest.mark.parametrize("text", ["p98=5ms", "p99=5", "p99=5m", "throughput=5ms", "p99", "p99=..ms"])
def test_a_budget_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="budget"):
        budget.parse(text)


def test_a_target_that_answers_differently_is_in_no_ratio() -> None:
    results = [
        _result("fused", 64, requests_per_s=9000.0),
        _result("fastapi_onnx", 64, requests_per_s=3000.0),
        _result("litserve", 64, requests_per_s=6000.0),
    ]
    assert ratios(results)["http"]["fused_throughput_over_best_peer"] == 1.5
    assert ratios(results, ["litserve"])["http"]["fused_throughput_over_best_peer"] == 3.0


def test_loads_that_goals_speak_of_are_taken_from_the_nearest_below() -> None:
    results = [_result("fused", 1), _result("identity", 1)]
    results += [_result("fused", 1, 64, requests_per_s=80.0), _result("identity", 1, 64, requests_per_s=100.0)]
    results += [_result("fused", 1, 1024, requests_per_s=1.0), _result("identity", 1, 1024, requests_per_s=9.0)]
    assert ratios(results)["http"]["fused_batch_rows_over_identity"] == 0.8
    assert flatness({"criteo-1k": 400.0, "criteo-100k": 440.0, "criteo-1m": 420.0}) == 1.1
    assert flatness({"criteo-1k": 400.0}) is None


def test_answers_are_compared_with_the_first_and_without_scores_not_at_all() -> None:
    wanted = np.array([0.1, 0.2])
    found = {"fused": wanted, "same": wanted + 1e-7, "other": wanted + 0.01, "floor": np.array([np.nan, np.nan])}
    largest = answers.differences({**found, "short": np.array([0.1])}, "fused")
    assert largest["fused"] == 0
    assert not answers.differs(largest["same"])
    assert answers.differs(largest["other"])
    assert answers.differs(largest["short"])
    assert largest["floor"] is None
    assert not answers.differs(None)


def test_peers_and_shapes_are_named_or_refused() -> None:
    assert serving.peers("none") == ()
    assert serving.peers("litserve,stock") == ("stock", "litserve")
    assert shapes.names("criteo,demo", "1m,1k") == ["demo", "criteo-1k", "criteo-1m"]
    for bad in (("movies", "1k"), ("criteo", "2k"), ("", "1k")):
        with pytest.raises(ConfigError):
            shapes.names(*bad)
    with pytest.raises(ConfigError, match="torchserve"):
        serving.peers("torchserve")


def test_a_trace_is_told_as_phases(tmp_path: Path) -> None:
    def stamps(number: int, **taken: int) -> dict[str, object]:
        return {"id": number, "timestamps": [{"name": name, "ns": ns} for name, ns in taken.items()]}

    whole = [
        {"id": 1, "model_name": "fused", "model_version": 1},
        {"id": 2, "model_name": "fused_1", "model_version": 1, "parent_id": 1},
        stamps(1, HTTP_RECV_START=0, REQUEST_START=10_000, REQUEST_END=200_000, HTTP_SEND_END=215_000),
        stamps(2, QUEUE_START=20_000, COMPUTE_START=30_000, COMPUTE_INPUT_END=40_000),
        stamps(2, COMPUTE_OUTPUT_START=150_000, COMPUTE_END=180_000),
    ]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(whole).removesuffix("]") + ",")  # a server that is stopped leaves it open
    assert read_trace("") == []
    found = median_phases(list(traced(path, "fused")), "http")
    assert [(one["stage"], one["phase"], one["us"]) for one in found] == [
        ("server", "http receive and parse", 10.0),
        ("fused_1", "queue", 10.0),
        ("fused_1", "input", 10.0),
        ("fused_1", "compute", 110.0),
        ("fused_1", "output", 30.0),
        ("ensemble", "scheduling", 30.0),
        ("server", "http send", 15.0),
    ]


def test_requests_of_different_widths_are_put_together_by_row() -> None:
    one = kserve.read({"inputs": [{"name": "tags", "shape": [1, 2], "data": ["a", "b"]}]})
    two = kserve.read({"inputs": [{"name": "tags", "shape": [2, 1], "data": [["c"], ["d"]]}]})
    whole = by_hand.together([one, two])
    assert whole.rows == 3
    assert whole.data["tags"] == ["a", "b", "c", "", "d", ""]
    assert whole.widths["tags"] == 2
