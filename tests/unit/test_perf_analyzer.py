"""What perf_analyzer prints and writes, read; and its input data, written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import goals, machine
from benchmarks.load import points
from benchmarks.perf_analyzer import BenchmarkError, PerfAnalyzer, read_latencies, read_report, write_data
from benchmarks.ratios import ratios

REPORT = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency\n"
    "1,12800.5,5,100,3,19,198,44,0,515,619,700,751\n"
)


def _printed(*throughputs: float) -> str:
    return "".join(
        f"  Pass [{number}] throughput: {value} infer/sec. Avg latency: 700 usec (std 90 usec). \n"
        for number, value in enumerate(throughputs, 1)
    )


def test_a_report_is_read() -> None:
    figures = read_report(REPORT, _printed(1000.0, 1100.0, 1050.0), batch=64)
    assert (figures.p50_us, figures.p90_us, figures.p99_us) == (515, 619, 751)
    assert figures.requests_per_s == pytest.approx(12800.5 / 64)
    assert figures.stable


@pytest.mark.parametrize("throughputs", [(1000.0, 2000.0, 1000.0), (1000.0,), ()])
def test_windows_that_disagree_or_lack_are_not_stable(throughputs: tuple[float, ...]) -> None:
    assert not read_report(REPORT, _printed(*throughputs), batch=1).stable


def test_a_report_without_figures_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="one row"):
        read_report(REPORT.splitlines()[0] + "\n", "", batch=1)


def test_latencies_are_read_from_an_export_with_raw_bytes(tmp_path: Path) -> None:
    export = tmp_path / "profile.json"
    requests = b'{"timestamp":1000000,"request_inputs":{"x":"\xaf>"},"response_timestamps":[1500000]},'
    requests += b'{"timestamp":2000000,"response_timestamps":[2250000]},{"timestamp":3000000,"response_timestamps":[]}'
    export.write_bytes(b'{"experiments":[{"requests":[' + requests + b"]}]}")
    assert read_latencies(export).tolist() == [250.0, 500.0]


def test_data_keeps_types_shapes_and_order(tmp_path: Path) -> None:
    row = {
        "id": np.array([[2**62]]),
        "word": np.array([["grün".encode()]], dtype=object),
        "tags": np.array([[b"a", b""]], dtype=object),
        "x": np.array([[1.5]], dtype=np.float32),
    }
    write_data(tmp_path / "batched.json", [row], batched=True)
    write_data(tmp_path / "plain.json", [row], batched=False)
    step = json.loads((tmp_path / "batched.json").read_text())["data"][0]
    assert step["id"] == {"content": [2**62], "shape": [1]}
    assert step["word"]["content"] == ["grün"]
    assert step["tags"] == {"content": ["a", ""], "shape": [2]}
    assert json.loads((tmp_path / "plain.json").read_text())["data"][0]["tags"]["shape"] == [1, 2]


def test_the_real_program_runs_here_and_says_why_it_cannot_measure(tmp_path: Path) -> None:
    analyzer = PerfAnalyzer.find(tmp_path)
    with pytest.raises(BenchmarkError, match=r"(?i)connect|failed"):
        analyzer._run([str(analyzer.program), "-m", "none", "-u", "127.0.0.1:1"], timeout=30)


def test_points_are_each_concurrency_and_each_batch_once() -> None:
    found = [(point.concurrency, point.batch) for point in points(["http"], [1, 4], [1, 64])]
    assert found == [(1, 1), (4, 1), (1, 64)]


def test_ratios_and_goals() -> None:
    def result(target: str, concurrency: int, p50: float, speed: float) -> dict[str, object]:
        return {
            "target": target,
            "protocol": "http",
            "concurrency": concurrency,
            "batch": 1,
            "p50_us": p50,
            "requests_per_s": speed,
        }

    one = [result("fused", 1, 300, 3000), result("identity", 1, 250, 3500), result("stock", 1, 9000, 100)]
    many = [result("fused", 16, 2000, 9000), result("identity", 16, 1500, 12000), result("stock", 16, 90000, 90)]
    found = ratios([*one, *many])["http"]
    assert found == {"fused_p50_over_identity": 1.2, "stock_p50_over_fused": 30.0, "fused_throughput_over_stock": 100.0}
    assert all(goal["met"] for goal in goals.judge(found).values())
    assert not goals.judge({"fused_p50_over_identity": 1.5})["fused_p50_over_identity"]["met"]


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["memory_mb"] > 0
    assert "onnxruntime" in found["packages"]
