"""The soak in small: the same code as `mews bench soak`, on two models, with every answer checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.soak import Sample
from mews.report.soak import draw
from tests.ensemble.conftest import Parts, random_rows


@pytest.mark.parametrize(("shape", "requests"), [("chained", 1000), ("fused", 4000)])
def test_random_requests_are_all_answered_right(graphs: Parts, tmp_path: Path, shape: str, requests: int) -> None:
    done = graphs.export(tmp_path / "models", shape=shape, max_batch_size=64)
    random_rows(200).write_parquet(tmp_path / "rows.parquet")
    report = soak.run(done.folder, tmp_path / "rows.parquet", tmp_path / "soak.json", requests=requests)
    assert (report["requests"], report["failed"], report["wrong"]) == (requests, 0, 0)
    assert report["ok"]
    assert report["rows"] > requests
    assert all(sample["stubs_mb"] > 10 for sample in report["samples"][:-1])
    assert (tmp_path / "soak.json").is_file()
    assert f"{requests:,} requests, 0 failed, 0 wrong" in draw(report)


def test_a_wrong_answer_and_a_refused_request_are_counted(
    graphs: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = graphs.export(tmp_path / "models", max_batch_size=8)
    random_rows(50).write_parquet(tmp_path / "rows.parquet")
    right = soak.prepare(done.folder, tmp_path / "rows.parquet", 0)
    tensors, scores = next(pair for pair in right if len(pair[1]) > 1)
    without_user = {name: array for name, array in tensors.items() if name != "user"}
    pairs = [(tensors, scores), (tensors, scores[::-1] + 1), (without_user, scores)]
    monkeypatch.setattr(soak, "prepare", lambda *_: pairs)
    report = soak.run(done.folder, tmp_path / "rows.parquet", tmp_path / "soak.json", requests=30)
    assert (report["wrong"], report["failed"], report["ok"]) == (10, 10, False)
    assert "user" in report["errors"][0]


def test_memory_that_grows_is_told(tmp_path: Path) -> None:
    steps = np.linspace(0, 1_000_000, 50).astype(int).tolist()
    flat = [Sample(0.0, done, 300.0, 200.0 + (done > 100_000) * 50) for done in steps]
    growing = [Sample(0.0, done, 300.0, 200.0 + done / 10_000) for done in steps]
    assert soak.slope(flat, 1_000_000) == pytest.approx(0, abs=0.01)
    assert soak.slope(growing, 1_000_000) == pytest.approx(10, abs=0.1)
    assert soak.slope(growing[:5], 80_000) is None
